for (const svg of document.querySelectorAll("svg[tabindex]")) follow(svg, marks(svg));
