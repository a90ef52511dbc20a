"use strict";

// Tips: what a mark says at the pointer, or where the arrow keys are.
const tip = document.getElementById("tip");
const show = (content, x, y) => {
  tip.replaceChildren(content);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, x + 16 + box.width > innerWidth ? x - 16 - box.width : x + 16)}px`;
  tip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - box.height - 4))}px`;
};
const element = (name, text = "") => Object.assign(document.createElement(name), { textContent: text });

const marks = (svg) => {
  const all = [...svg.querySelectorAll("[data-tip]")];
  let current = 0;
  const leave = () => all.forEach((mark) => mark.classList.remove("chosen"));
  const here = () => {
    leave();
    all[current].classList.add("chosen");
    const box = all[current].getBoundingClientRect();
    show(element("div", all[current].dataset.tip), box.right, box.bottom);
  };
  all.forEach((mark, i) => mark.addEventListener("pointermove", (event) => {
    leave();
    current = i;
    show(element("div", mark.dataset.tip), event.clientX, event.clientY);
  }));
  svg.addEventListener("pointermove", (event) => { if (!event.target.closest("[data-tip]")) tip.hidden = true; });
  return { here, move: (by) => { current = Math.min(Math.max(current + by, 0), all.length - 1); here(); }, row: Number(svg.dataset.columns), leave };
};

// What `chart` shows of `svg` follows the pointer and the keys.
const follow = (svg, chart) => {
  const leave = () => { tip.hidden = true; chart.leave(); };
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("focus", () => { if (svg.matches(":focus-visible")) chart.here(); });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: chart.row, ArrowUp: -chart.row }[event.key];
    if (event.key === "Escape") leave();
    if (step === undefined) return;
    event.preventDefault();
    chart.move(step);
  });
};
