// The latents as columns, and what can be asked of them.

const rowOf = new Map(data.latent.map((latent, row) => [latent, row]));
const lowerLabels = data.labels.map((label) => label.toLowerCase());
function orderOfLabels() {
  const order = new Int32Array(data.labels.length);
  [...data.labels.keys()]
    .sort((a, b) => (lowerLabels[a] < lowerLabels[b] ? -1 : lowerLabels[a] > lowerLabels[b] ? 1 : 0))
    .forEach((label, place) => { order[label] = place; });
  return order;
}
let labelOrder = orderOfLabels(); // changes where a reader gives names

const number = (name, row) => (data.numbers[name] ? data.numbers[name][row] : null);
const labelOf = (row) => (data.label[row] < 0 ? `latent ${data.latent[row]}` : data.labels[data.label[row]]);
const nameOf = (row) => (data.named[row] ? labelOf(row) : `? (${labelOf(row)})`);
const classOf = (place) => (place < 0 ? "" : data.classes[place]);
const findingsOf = (row) => data.findings[data.latent[row]] || [];
const examplesOf = (row) => data.examples[data.latent[row]] || [];
const drivesOf = (row) => data.drives[data.latent[row]] || [];
const isUnexpected = (row) => (number("unexpected", row) || 0) > 0 && data.misled[row] === data.driven[row];

const filters = {
  all: () => true,
  unexpected: isUnexpected,
  culprits: (row) => findingsOf(row).length > 0,
  named: (row) => data.named[row] === 1,
};

function drives(row, place) {
  return data.driven[row] === place || ((number("unexpected", row) || 0) > 0 && data.misled[row] === place)
    || drivesOf(row).some(([of]) => of === place);
}

// Rows that are asked for, in order. A number finds the latent of that number, any other text what its label holds.
function chosenRows(asked) {
  const query = asked.query.trim().toLowerCase();
  const fits = lowerLabels.map((label) => label.includes(query));
  const only = filters[asked.only];
  const rows = [];
  for (let row = 0; row < data.latent.length; row += 1) {
    const found = !query || (data.label[row] >= 0 && fits[data.label[row]]) || String(data.latent[row]) === query;
    if (found && only(row) && (asked.place < 0 || drives(row, asked.place))) rows.push(row);
  }
  return sorted(rows, asked.sort, asked.descending);
}

const keys = {
  latent: (row) => data.latent[row],
  label: (row) => (data.label[row] < 0 ? null : labelOrder[data.label[row]] + (data.named[row] ? 0 : data.labels.length)), // names, then guesses
  driven: (row) => (data.driven[row] < 0 ? null : data.driven[row]),
};

// Unknown values stand last in either direction; equal ones in the order of the table.
function sorted(rows, name, descending) {
  const key = keys[name] || ((row) => number(name, row));
  const sign = descending ? -1 : 1;
  const value = new Map(rows.map((row) => [row, key(row)]));
  return rows.sort((a, b) => {
    const [x, y] = [value.get(a), value.get(b)];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    return sign * (x - y) || a - b;
  });
}
