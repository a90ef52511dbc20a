const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

// Tables: a click on a header sorts by it, text or number, unknown numbers last.
const stripe = (body) => [...body.rows].filter((row) => !row.hidden).forEach((row, i) => row.classList.toggle("even", i % 2 === 1));
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.querySelectorAll("tr.columns th")];
  const body = table.tBodies[0];
  headers.forEach((header, column) => header.querySelector("button").addEventListener("click", () => {
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    headers.forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const key = (row) => {
      const cell = row.cells[column];
      return "key" in cell.dataset ? Number(cell.dataset.key) : cell.textContent;
    };
    const sign = ascending ? 1 : -1;
    const compare = (a, b) => {
      if (typeof a === "string" || typeof b === "string") return sign * String(a).localeCompare(String(b));
      return Number.isNaN(a) || Number.isNaN(b) ? Number.isNaN(a) - Number.isNaN(b) : sign * (a - b);
    };
    body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
    stripe(body);
  }));
  stripe(body);
}

// The filter: every word must be in the name, family or modality of a dataset.
const input = document.getElementById("filter");
const filter = () => {
  const words = input.value.toLowerCase().split(/\s+/);
  const shown = data.datasets.map((text) => words.every((word) => text.toLowerCase().includes(word)));
  for (const element of document.querySelectorAll("[data-dataset]")) element.hidden = !shown[element.dataset.dataset];
  for (const element of document.querySelectorAll("[data-datasets]")) {
    element.classList.toggle("dim", element.dataset.datasets.split(" ").some((d) => d >= 0 && !shown[d]));
  }
  document.querySelectorAll("table.sortable").forEach((table) => stripe(table.tBodies[0]));
  document.getElementById("shown").textContent = `${shown.filter(Boolean).length} of ${shown.length} datasets`;
};
input.addEventListener("input", filter);
filter();

// Hover: what a chart of lines shows at the pointer, or where the arrow keys are.
const number = (value) => (Math.abs(value) < 5e-7 ? "0" : Math.abs(value) < 0.001 ? value.toExponential(1) : value.toFixed(3));

// Values stand where they change: [position, mean, low, high, position, ...], low and high null where there are none.
const at = (changes, position) => {
  let i = 0;
  while (i + 4 < changes.length && changes[i + 4] <= position) i += 4;
  return changes.slice(i + 1, i + 4);
};
const sample = (series) => document.querySelector(`.legend svg[data-series="${series}"]`).cloneNode(true);
const reading = (chart, position) => {
  const all = document.createElement("div");
  all.append(element("strong", data.labels[chart.labels][position]));
  const table = element("table");
  for (const [label, series, changes] of chart.lines) {
    const [mean, low, high] = at(changes, position);
    const row = table.insertRow();
    const name = row.insertCell();
    name.append(sample(series), label);
    row.insertCell().textContent = number(mean);
    const between = row.insertCell();
    between.className = "between";
    between.textContent = low === null ? "" : `[${number(low)}, ${number(high)}]`;
  }
  all.append(table);
  return all;
};

const lines = (svg, chart) => {
  const positions = data.positions[chart.positions];
  const cursor = document.createElementNS(SVG, "line");
  cursor.setAttribute("class", "cursor");
  let position = positions.length - 1;
  const place = (x, y) => {
    for (const [name, value] of [["x1", positions[position]], ["x2", positions[position]], ["y1", chart.top], ["y2", chart.bottom]]) {
      cursor.setAttribute(name, value);
    }
    svg.append(cursor);
    show(reading(chart, position), x, y);
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const after = positions.findIndex((p) => p > x);  // values hold until the next position
    position = after < 0 ? positions.length - 1 : Math.max(0, after - 1);
    place(event.clientX, event.clientY);
  });
  const here = () => {
    const box = svg.getBoundingClientRect();
    place(box.left + (positions[position] / svg.viewBox.baseVal.width) * box.width, box.top);
  };
  return { here, move: (by) => { position = Math.min(Math.max(position + by, 0), positions.length - 1); here(); }, row: 10, leave: () => cursor.remove() };
};

for (const svg of document.querySelectorAll("svg[tabindex]")) {
  follow(svg, "chart" in svg.dataset ? lines(svg, data.charts[svg.dataset.chart]) : marks(svg));
}
