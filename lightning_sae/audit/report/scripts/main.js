// What is asked for, and what happens then.

const byDefault = { query: "", place: -1, only: "all", sort: data.numbers.attribution ? "attribution" : "latent", descending: Boolean(data.numbers.attribution), page: 0 };
const state = { ...byDefault, selected: null };
let rows = [];
const at = (id) => document.getElementById(id);

function redraw() {
  drawRows(rows, state, select);
  drawScatter(rows, state.selected);
}

function ask(change) {
  Object.assign(state, { page: 0 }, change);
  rows = chosenRows(state);
  redraw();
}

function turn(pages) {
  state.page += pages;
  drawRows(rows, state, select);
}

function select(row) {
  state.selected = row;
  drawCard(row);
  redraw();
}

function sort(name, descendingFirst) {
  ask({ sort: name, descending: state.sort === name ? !state.descending : descendingFirst });
}

function follow() {
  const found = /^#latent-(\d+)$/.exec(window.location.hash);
  const row = found && rowOf.get(Number(found[1]));
  if (row === null || row === undefined) return;
  select(row);
  at("latents").scrollIntoView();
}

function reset() {
  [at("search").value, at("class").value, at("only").value] = ["", "-1", "all"];
  ask({ ...byDefault });
}

at("browser").hidden = false;
const classes = [...data.classes.keys()].sort((a, b) => data.classes[a].localeCompare(data.classes[b]));
at("class").append(...classes.map((place) => element("option", { value: place, dir: "auto" }, `drives ${data.classes[place].slice(0, 60)}`)));
at("search").addEventListener("input", (event) => ask({ query: event.target.value }));
at("class").addEventListener("change", (event) => ask({ place: Number(event.target.value) }));
at("only").addEventListener("change", (event) => ask({ only: event.target.value }));
at("reset").addEventListener("click", reset);
at("previous").addEventListener("click", () => turn(-1));
at("next").addEventListener("click", () => turn(1));
canvas.addEventListener("click", (event) => { const row = nearest(event); if (row !== null) select(row); });
canvas.addEventListener("mousemove", showHint);
canvas.addEventListener("mouseleave", () => { at("hint").hidden = true; });
window.addEventListener("hashchange", follow);
window.addEventListener("resize", () => drawScatter(rows, state.selected));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
window.matchMedia("print").addEventListener("change", redraw);
window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((folded) => { folded.open = true; }));
drawHeads(sort);
reset();
if (rows.length) select(rows.find((row) => findingsOf(row).length) ?? rows[0]);
follow();
