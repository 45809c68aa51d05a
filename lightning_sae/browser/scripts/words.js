// What latents and their numbers are called.

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
