// The page: every view is the answer to a query that is shown below it and can be changed.
"use strict";

const byId = (id) => document.getElementById(id);
const literal = (text) => `'${text.replaceAll("'", "''")}'`;
const chart = new Chart(byId("chart"), byId("readout"), byId("legend"));
const SHOWN_CURVES = 50;
let about = null;

async function ask(sql) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch("sql", { method: "POST", headers, body: JSON.stringify({ sql }) });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

class View {
  constructor(id, sql, show) {
    Object.assign(this, { sql, show, asked: 0 });
    byId(id).append(byId("sql").content.cloneNode(true));
    const find = (selector) => byId(id).querySelector(selector);
    [this.details, this.text, this.status, this.place] = ["details", "textarea", ".status", ".scroll"].map(find);
    const title = find("h2").firstChild.textContent.trim();
    this.text.setAttribute("aria-label", `SQL of ${title}`);
    this.place.setAttribute("aria-label", `Table of ${title}`);
    find(".actions button").addEventListener("click", () => this.run());
    this.text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.run();
    });
  }

  refresh() {
    this.text.value = this.sql();
    return this.run();
  }

  async run() {
    const turn = ++this.asked;
    this.say("…");
    try {
      const answer = await ask(this.text.value);
      if (turn !== this.asked) return; // a later query has overtaken this one
      this.show(answer, this.place);
      this.say(answer.cut ? `the first ${about.max_rows} rows` : `${answer.rows.length} rows`);
    } catch (error) {
      if (turn !== this.asked) return;
      this.say(error.message, true);
    }
  }

  say(text, wrong = false) {
    this.status.textContent = text;
    this.status.classList.toggle("wrong", wrong);
    if (wrong) this.details.open = true;
  }
}

function table(answer, place, pick = {}) {
  const made = document.createElement("table");
  const header = made.createTHead().insertRow();
  const body = made.createTBody();
  const numeric = answer.columns.map((name) => answer.rows.some((row) => typeof row[name] === "number"));
  answer.columns.forEach((name, column) => {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.className = numeric[column] ? "" : "text";
    cell.append(button(name, () => sort(header, body, answer.rows, name, cell)));
    header.append(cell);
  });
  answer.rows.forEach((row, i) => {
    const line = body.insertRow();
    line.dataset.row = i;
    answer.columns.forEach((name, column) => {
      const cell = line.insertCell();
      const text = row[name] === null ? "·" : typeof row[name] === "object" ? JSON.stringify(row[name]) : short(row[name]);
      cell.className = numeric[column] ? "" : "text";
      cell.title = cell.className ? text : "";
      cell.append(pick[name] ? button(text, () => pick[name](row[name], line)) : text);
    });
  });
  place.replaceChildren(made);
}

function button(text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}

function sort(header, body, rows, name, cell) {
  const ascending = cell.getAttribute("aria-sort") !== "ascending";
  for (const other of header.cells) other.removeAttribute("aria-sort");
  cell.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null); // what is missing comes last, either way
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return ascending ? order : -order;
  };
  body.append(...[...body.rows].sort((a, b) => compare(rows[a.dataset.row][name], rows[b.dataset.row][name])));
}

function filter(trials = "", configs = "") {
  const conditions = [`${trials}dataset = ${literal(byId("dataset").value)}`];
  if (byId("backbone").value) conditions.push(`${configs}backbone = ${literal(byId("backbone").value)}`);
  return conditions.join(" and ");
}

const ofTrials = (columns) => columns.filter((name) => about.columns.configs.includes(name));

const queries = {
  curves: () => {
    const series = ofTrials(["backbone"]).map((name) => `${name} as series, `).join("");
    return `select trial_id, ${series}epoch, ${byId("column").value} as value
from learning_curves
where trial_id in (
  select trial_id from best_epoch join configs using (config_id)
  where ${filter()}
  order by rank, trial_id limit ${SHOWN_CURVES})
order by trial_id, epoch`;
  },
  trials: () => {
    const config = about.columns.configs.filter((name) => !["config_id", "design"].includes(name)).map((name) => `c."${name}"`);
    return `select trial_id, t.status, b.epoch as best_epoch, b.val as val_${about.metric}, b.test as test_${about.metric},
  t.total_seconds as seconds, t.fold, t.seed, ${config.join(", ")}
from trials t join configs c using (config_id) left join best_epoch b using (trial_id)
where ${filter("t.", "c.")}
order by b.rank nulls last, trial_id
limit 500`;
  },
  datasets: () => `select dataset, title, modality, body_part, n_dims, n_classes, n_samples, family, licence, trials, best_val, its_test
from datasets
left join (select dataset, count(*) as trials from trials group by all) using (dataset)
left join (select dataset, max(val) as best_val, arg_max(test, val) as its_test from best_epoch group by all) using (dataset)
order by dataset`,
  backbones: () => `select backbone, family, n_dims, parameters, pretrained_on, trials, median_val, best_val, licence
from backbones
left join (
  select backbone, count(*) as trials, median(val) as median_val, max(val) as best_val
  from best_epoch join configs using (config_id)
  where dataset = ${literal(byId("dataset").value)} group by all) using (backbone)
order by best_val desc nulls last, backbone`,
  query: () => `select dataset, count(*) as trials, median(val) as median_val_${about.metric}
from best_epoch group by all order by dataset`,
};

function draw(answer, place) {
  const missing = ["trial_id", "epoch", "value"].filter((name) => !answer.columns.includes(name));
  if (missing.length) throw new Error(`the chart needs the columns trial_id, epoch and value: ${missing.join(", ")} missing`);
  chart.show(answer.rows, byId("column").value);
  place.hidden = true; // the chart is the answer
}

function mark(trial, line) {
  for (const other of line.parentNode.rows) other.removeAttribute("aria-selected");
  line.setAttribute("aria-selected", "true");
  if (chart.chooseTrial(trial)) return;
  byId("readout").value = `trial ${trial} is not among the curves shown`;
}

function choose(id, value) {
  byId(id).value = value;
  byId(id).dispatchEvent(new Event("change"));
}

function options(select, values, chosen) {
  select.append(...values.map(([value, text]) => new Option(text, value, false, value === chosen)));
}

function remember() {
  const state = Object.fromEntries(["dataset", "backbone", "column"].map((id) => [id, byId(id).value]));
  history.replaceState(null, "", `#${new URLSearchParams(state)}`);
}

async function start() {
  about = await (await fetch("corpus.json")).json();
  document.title = `${about.name}: metaquery browse`;
  byId("name").textContent = `${about.name} ${about.version}`;
  byId("about").textContent = `${about.datasets.length} datasets, ${about.backbones.length} backbones, ${about.epochs} epochs, ${about.metric}; ${about.hash.slice(0, 12)}`;
  const before = new URLSearchParams(location.hash.slice(1));
  const same = (name) => [name, name];
  const columns = about.columns.curves.filter((name) => !["trial_id", "epoch"].includes(name));
  options(byId("dataset"), about.datasets.map(same), before.get("dataset"));
  options(byId("backbone"), [["", "all"], ...about.backbones.map(same)], before.get("backbone"));
  options(byId("column"), columns.map(same), before.get("column") ?? `val_${about.metric}`);
  options(byId("named"), about.queries.map((query) => [query.sql, query.question]), null);
  for (const [name, of] of Object.entries(about.columns)) {
    const [term, description] = ["dt", "dd"].map((tag) => document.createElement(tag));
    [term.textContent, description.textContent] = [name, of.join(", ")];
    byId("tables").append(term, description);
  }
  const hasBackbones = about.columns.configs.includes("backbone");
  byId("backbone").parentElement.hidden = byId("backbones").hidden = !hasBackbones;
  const pickDataset = { dataset: (name) => choose("dataset", name) };
  const pickBackbone = { backbone: (name) => choose("backbone", name) };
  const views = {
    curves: new View("curves", queries.curves, draw),
    trials: new View("trials", queries.trials, (answer, place) => table(answer, place, { trial_id: mark })),
    datasets: new View("datasets", queries.datasets, (answer, place) => table(answer, place, pickDataset)),
    query: new View("query", queries.query, table),
  };
  if (hasBackbones) views.backbones = new View("backbones", queries.backbones, (answer, place) => table(answer, place, pickBackbone));
  const react = { dataset: ["curves", "trials", "backbones"], backbone: ["curves", "trials"], column: ["curves"] };
  for (const [id, names] of Object.entries(react)) {
    byId(id).addEventListener("change", () => {
      remember();
      for (const name of names) views[name]?.refresh();
    });
  }
  byId("named").addEventListener("change", (event) => {
    if (!event.target.value) return;
    views.query.text.value = event.target.value;
    views.query.run();
  });
  views.query.details.open = true;
  const keys = { d: byId("dataset"), b: byId("backbone"), y: byId("column"), c: byId("chart"), q: views.query.text };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("textarea, select, input") || event.ctrlKey || event.metaKey || event.altKey;
    if (typing || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key].focus();
    keys[event.key].scrollIntoView({ block: "center" });
  });
  for (const view of Object.values(views)) await view.refresh();
  document.body.dataset.ready = "";
}

start().catch((error) => {
  byId("about").textContent = `This page could not be made: ${error.message}`;
});
