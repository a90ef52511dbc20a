// Learning curves as SVG. A row has trial_id, epoch, value and, where lines are coloured by something, series.
"use strict";

class Chart {
  constructor(svg, readout, legend) {
    Object.assign(this, { svg, readout, legend, curves: [], label: "", curve: -1, at: 0 });
    svg.addEventListener("pointermove", (event) => this.point(event));
    svg.addEventListener("keydown", (event) => this.step(event));
    new ResizeObserver(() => this.draw()).observe(svg);
  }

  show(rows, label) {
    const curves = new Map();
    for (const row of rows) {
      if (row.value === null) continue;
      if (!curves.has(row.trial_id)) curves.set(row.trial_id, { trial: row.trial_id, series: row.series ?? "", points: [] });
      curves.get(row.trial_id).points.push([row.epoch, row.value]);
    }
    this.curves = [...curves.values()];
    this.label = label;
    this.series = [...new Set(this.curves.map((curve) => curve.series))].sort();
    this.curve = -1;
    this.legend.replaceChildren(...this.series.filter(Boolean).map((name) => this.entry(name)));
    this.draw();
  }

  entry(name) {
    const item = document.createElement("li");
    const key = node("svg", { viewBox: "0 0 18 8", "aria-hidden": "true" });
    key.append(node("line", { x1: 0, x2: 18, y1: 4, y2: 4, "stroke-width": 3, class: this.colour(name) }));
    item.append(key, name);
    return item;
  }

  colour(name) {
    const place = this.series.indexOf(name);
    return `series-${place % 7} dash-${Math.floor(place / 7) % 4}`;
  }

  draw() {
    this.svg.replaceChildren();
    const { width, height } = this.svg.getBoundingClientRect();
    const points = this.curves.flatMap((curve) => curve.points);
    if (!points.length || !width) {
      this.readout.value = this.curves.length || !this.label ? "" : "No curve to show.";
      return;
    }
    const box = { left: 52, right: width - 12, top: 10, bottom: height - 38 };
    const span = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
    const [first, last] = span(points.map((point) => point[0]));
    let [low, high] = span(points.map((point) => point[1]));
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    this.x = (epoch) => box.left + (last === first ? 0.5 : (epoch - first) / (last - first)) * (box.right - box.left);
    this.y = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
    const write = (text, attributes) => {
      const element = node("text", attributes);
      element.textContent = text;
      this.svg.append(element);
    };
    for (const tick of ticks(low, high, 5)) {
      this.svg.append(node("line", { class: "grid", x1: box.left, x2: box.right, y1: this.y(tick), y2: this.y(tick) }));
      write(short(tick), { x: box.left - 8, y: this.y(tick) + 4, "text-anchor": "end" });
    }
    for (const tick of ticks(first, last, 9).filter(Number.isInteger)) {
      write(tick, { x: this.x(tick), y: box.bottom + 17, "text-anchor": "middle" });
    }
    write("epoch", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" });
    this.lines = this.curves.map((curve) => {
      const path = curve.points.map(([epoch, value]) => `${this.x(epoch).toFixed(1)},${this.y(value).toFixed(1)}`);
      const line = node("polyline", { class: `curve ${this.colour(curve.series)}`, points: path.join(" "), "data-trial": curve.trial });
      this.svg.append(line);
      return line;
    });
    this.mark = node("circle", { r: 5, visibility: "hidden" });
    this.svg.append(this.mark);
    this.choose(this.curve, this.at);
  }

  choose(curve, at) {
    this.lines.forEach((line, i) => line.classList.toggle("chosen", i === curve));
    if (curve < 0) {
      this.readout.value = `${this.curves.length} curves`;
      return;
    }
    const { trial, series, points } = this.curves[curve];
    this.curve = curve;
    this.at = Math.max(0, Math.min(at, points.length - 1));
    const [epoch, value] = points[this.at];
    for (const [name, set] of [["cx", this.x(epoch)], ["cy", this.y(value)], ["class", this.colour(series)], ["visibility", "visible"]]) {
      this.mark.setAttribute(name, set);
    }
    this.readout.value = [series, `trial ${trial}`, `epoch ${epoch}`, `${this.label} ${short(value)}`].filter(Boolean).join(" · ");
  }

  chooseTrial(trial) {
    const found = this.curves.findIndex((curve) => curve.trial === trial);
    if (found >= 0) this.choose(found, this.curves[found].points.length - 1);
    return found >= 0;
  }

  point(event) {
    if (!this.curves.length) return;
    const { left, top } = this.svg.getBoundingClientRect();
    let best = [Infinity, -1, 0];
    this.curves.forEach((curve, i) => curve.points.forEach(([epoch, value], at) => {
      const distance = Math.hypot(this.x(epoch) - event.clientX + left, this.y(value) - event.clientY + top);
      if (distance < best[0]) best = [distance, i, at];
    }));
    this.choose(best[1], best[2]);
  }

  step(event) {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!move || !this.curves.length) return;
    event.preventDefault();
    const n = this.curves.length;
    if (this.curve < 0) this.choose(0, 0);
    else this.choose((this.curve + move[0] + n) % n, this.at + move[1]);
  }
}

function node(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function ticks(low, high, n) {
  const rough = (high - low) / n || 1;
  const scale = 10 ** Math.floor(Math.log10(rough));
  const step = scale * ([1, 2, 5].find((m) => m * scale >= rough) ?? 10);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function short(value) {
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4))) : String(value);
}
