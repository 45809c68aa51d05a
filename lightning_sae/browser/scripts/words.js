// Elements, numbers as people read them, pictures out of the sheets.

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// What a latent is called: its label where that is to be relied on, else "?" and the label in grey.
function calledAs(row) {
  if (data.named[row]) return [element("bdi", {}, labelOf(row))];
  return [element("bdi", {}, "?"), " ", element("bdi", { class: "guess" }, labelOf(row))];
}

// What the numbers of a latent are called.
const FACTS = {
  alignment: "alignment", margin: "margin", p: "p", validity: "validity", clarity: "clarity", monosemanticity: "monosemantic",
  polysemanticity: "polysemantic", polysemanticity_semantic_lens: "by SemanticLens", redundancy: "redundancy", density: "fires on", attribution: "attribution", unexpected: "unexpected",
};

// Decimals that a column needs, so that its points stand below each other.
const decimals = new Map(Object.entries(data.numbers).map(([name, values]) => {
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value || 0)), 0) || 1;
  return [name, Math.max(0, 3 - Math.max(0, Math.floor(Math.log10(largest)) + 1)) + (largest < 0.1 ? 2 : 0)];
}));

function aligned(value, name) {
  if (value === null) return "";
  const text = name === "density" ? `${(100 * value).toFixed(1)} %` : value.toFixed(decimals.get(name));
  return text.replace("-", "−");
}

function said(value, name) {
  if (value === null || value === undefined) return "";
  const text = name === "density" ? `${+(100 * value).toPrecision(2)} %` : String(+value.toPrecision(3));
  return text.replace("-", "−");
}

function bar(share) {
  const svg = document.getElementById("bar").content.firstElementChild.cloneNode(true);
  svg.lastElementChild.setAttribute("width", 100 * Math.max(0, Math.min(1, share || 0)));
  return svg;
}

const sheets = [...document.querySelectorAll("#sheets img")];
const onSheet = data.row * data.row;

function picture(place, title) {
  const canvas = element("canvas", { width: data.side, height: data.side, role: "img", "aria-label": title });
  const sheet = sheets[Math.floor(place / onSheet)];
  const [x, y] = [place % data.row, Math.floor((place % onSheet) / data.row)];
  const draw = () => canvas.getContext("2d").drawImage(
    sheet, x * data.side, y * data.side, data.side, data.side, 0, 0, data.side, data.side);
  if (sheet.complete) draw();
  else sheet.addEventListener("load", draw, { once: true });
  return canvas;
}
