// The scores of an image without any shares of its latents.

// Inner products from the upper triangle of their matrix, row by row.
function quadratic(triangle, unit, vector) {
  let [sum, at] = [0, 0];
  for (let i = 0; i < vector.length; i += 1) {
    for (let j = i; j < vector.length; j += 1) {
      sum += (i === j ? 1 : 2) * triangle[at] * vector[i] * vector[j];
      at += 1;
    }
  }
  return sum * unit;
}

// Exact behind the last layer: the closed form of explorer/removal.py.
function exactLogits(place, shares) {
  const c = [1, ...Array.from(shares, (share) => -share)];
  const r = Math.sqrt(Math.max(1e-12, quadratic(rowsOf("effect_inputs", place), 1, c)));
  const v = [...c.map((value) => value / r), 1];
  const length = Math.sqrt(quadratic(rowsOf("effect_outputs", place), numberOf("effect_outputs_unit", place), v));
  const [products, unit, bias] = [rowsOf("effect_logits", place), numberOf("effect_logits_unit", place), rowsOf("effect_bias", place)];
  return Array.from(bias, (own, i) => {
    let sum = 0;
    for (let j = 0; j < v.length; j += 1) sum += products[i * v.length + j] * v[j];
    return (sum * unit) / length + own;
  });
}

// Elsewhere: exact without one whole latent, added up and drawn out otherwise.
function addedLogits(row, shares) {
  const logits = Array.from(rowsOf("effect_as_it_is", row));
  const without = rowsOf("effect_without", row);
  const n = logits.length;
  return logits.map((own, i) => own + Array.from(shares).reduce(
    (sum, share, latent) => sum + share * (without[latent * n + i] - own), 0));
}

// What the page can say of an image: its classes, and their logits for shares removed; null for nothing.
function removalOf(place) {
  if (arrays.effect_inputs) {
    return { classes: Array.from(rowsOf("effect_classes", place)), exact: true, logits: (shares) => exactLogits(place, shares) };
  }
  const row = arrays.effect_row ? numberOf("effect_row", place) : -1;
  if (row < 0) return null;
  return { classes: Array.from(rowsOf("effect_classes", row)), exact: false, logits: (shares) => addedLogits(row, shares) };
}
