// All latents as cards: searched, sorted, filtered, and a page of them at a time.

const CARDS = 24;
const SORTS = { latent: "number", label: "name", ...Object.fromEntries(Object.keys(data.numbers).map((name) => [name, FACTS[name] || name])) };
filters.novel = (row) => data.novel[row] === 1;
const byDefault = { query: "", place: -1, only: "all", sort: data.numbers.attribution ? "attribution" : "latent", descending: Boolean(data.numbers.attribution), page: 0 };
const state = { ...byDefault };
let rows = [];
let selected = null;
const at = (id) => document.getElementById(id);

function ask(change) {
  Object.assign(state, { page: 0 }, change);
  rows = chosenRows(state);
  drawCards();
  drawScatter(rows, selected);
}

function turn(pages) {
  state.page += pages;
  drawCards();
}

function drawCards() {
  const pages = Math.max(1, Math.ceil(rows.length / CARDS));
  at("cards").replaceChildren(...rows.slice(state.page * CARDS, (state.page + 1) * CARDS).map(card));
  at("page").textContent = `Page ${state.page + 1} of ${pages}`;
  at("previous").disabled = state.page === 0;
  at("next").disabled = state.page + 1 >= pages;
  const all = data.latent.length;
  at("status").textContent = rows.length === all ? `${counted(all)} latents` : `${counted(rows.length)} of ${counted(all)} latents`;
  at("order").textContent = state.descending ? "↓ largest first" : "↑ smallest first";
}

function card(row) {
  const places = examplesOf(row);
  const shown = data.texts.length
    ? element("span", { class: "told" }, element("bdi", {}, places.length ? data.texts[places[0]] : "no example here"))
    : element("span", { class: "strip" }, ...places.slice(0, 4).map((place) => picture(place, "")));
  const driven = classOf(data.driven[row]);
  const drives = driven ? ["→ ", element("bdi", { class: isUnexpected(row) ? "bad" : undefined }, driven)] : [];
  const told = (...names) => names.filter((name) => number(name, row) !== null).map((name) => `${FACTS[name]} ${said(number(name, row), name)}`).join(" · ");
  return element("a", { class: "card", href: `#latent/${data.latent[row]}` }, shown,
    element("span", { class: "name" }, ...calledAs(row)), element("span", { class: "quiet" }, `${data.latent[row]} · ${told("density")} `, ...drives),
    element("span", { class: "quiet" }, told("alignment", "attribution")));
}

function startGallery() {
  const classes = [...data.classes.keys()].sort((a, b) => data.classes[a].localeCompare(data.classes[b]));
  at("class").append(...classes.map((place) => element("option", { value: place, dir: "auto" }, `drives ${data.classes[place].slice(0, 60)}`)));
  at("sort").append(...Object.entries(SORTS).map(([name, word]) => element("option", { value: name }, `by ${word}`)));
  at("sort").value = state.sort;
  at("search").addEventListener("input", (event) => ask({ query: event.target.value }));
  at("class").addEventListener("change", (event) => ask({ place: Number(event.target.value) }));
  at("only").addEventListener("change", (event) => ask({ only: event.target.value }));
  at("sort").addEventListener("change", (event) => ask({ sort: event.target.value, descending: !["latent", "label", "p"].includes(event.target.value) }));
  at("order").addEventListener("click", () => ask({ descending: !state.descending }));
  at("reset").addEventListener("click", resetGallery);
  at("previous").addEventListener("click", () => turn(-1));
  at("next").addEventListener("click", () => turn(1));
  canvas.addEventListener("click", (event) => { const row = nearest(event); if (row !== null) window.location.hash = `#latent/${data.latent[row]}`; });
  canvas.addEventListener("mousemove", showHint);
  canvas.addEventListener("mouseleave", () => { at("hint").hidden = true; });
  const redraw = () => drawScatter(rows, selected);
  window.addEventListener("resize", redraw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  window.matchMedia("print").addEventListener("change", redraw);
  ask({});
}

function resetGallery() {
  [at("search").value, at("class").value, at("only").value, at("sort").value] = ["", "-1", "all", byDefault.sort];
  ask({ ...byDefault });
}
