// An axis of a setting or a value, made of its column in the table: where each run stands, from 0 at the foot to 1 at
// the top, null where it has none. Texts of users are only ever set as textContent.

const MOST_STEPS = 8; // values of a setting that stand at equal distances, each with its name

const table = document.getElementById("runs-table");
const rows = [...table.tBodies[0].rows].filter((row) => !row.classList.contains("unfinished"));
const rounded = (number) => String(Number(number.toPrecision(3)));
const percent = (number) => `${rounded(100 * number)} %`;

function stepped(texts, order) {
  const last = order.length - 1;
  const place = new Map(order.map((text, i) => [text, last ? i / last : 0.5]));
  return {
    at: texts.map((text) => place.get(text) ?? null),
    ticks: order.map((text) => [place.get(text), text]),
    said: (at) => order[Math.round(at * last)],
  };
}

function scaled(numbers, { flipped = false, logarithmic = false, shown = rounded }) {
  const [to, back] = logarithmic ? [Math.log, Math.exp] : [(x) => x, (x) => x];
  const known = numbers.filter((number) => number !== null).map(to);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const turned = (at) => (flipped ? 1 - at : at);
  const place = (number) => (high > low ? turned((to(number) - low) / (high - low)) : 0.5);
  const said = (at) => shown(high > low ? back(low + turned(at) * (high - low)) : back(low));
  return {
    at: numbers.map((number) => (number === null ? null : place(number))),
    ticks: (high > low ? [0, 0.25, 0.5, 0.75, 1] : [0.5]).map((at) => [at, said(at)]),
    said,
  };
}

// A setting of few values has a step for each, numbers by their size; of many numbers, and of values that were
// measured, the better or larger end is up.
function scaleOf(head, cells) {
  if (head.dataset.axis === "value") {
    const numbers = cells.map((cell) => (cell.dataset.value ? Number(cell.dataset.value) : null));
    const shown = cells.some((cell) => cell.textContent.includes("%")) ? percent : rounded;
    return scaled(numbers, { flipped: head.dataset.better === "min", shown });
  }
  const texts = cells.map((cell) => cell.textContent.trim() || null);
  const order = [...new Set(texts.filter((text) => text !== null))];
  if (order.some((text) => !Number.isFinite(Number(text)))) return stepped(texts, order.sort());
  order.sort((a, b) => a - b);
  if (order.length <= MOST_STEPS) return stepped(texts, order);
  const [low, high] = [Number(order[0]), Number(order.at(-1))];
  return scaled(texts.map((text) => (text === null ? null : Number(text))), { logarithmic: low > 0 && high >= 10 * low });
}

const axes = [...table.tHead.rows[0].cells].map((head, column) => {
  if (!head.dataset.axis) return null;
  const scale = scaleOf(head, rows.map((row) => row.cells[column]));
  const stops = [...new Set(scale.at.filter((at) => at !== null))].sort((a, b) => a - b);
  return { title: head.textContent.trim(), stops, low: 0, high: 1, ...scale };
}).filter((axis) => axis && axis.stops.length > 1); // of what is the same in all there is nothing to see

const brushed = (axis) => axis.low > 0 || axis.high < 1;
const fits = (axis, run) => !brushed(axis) || (axis.at[run] !== null && axis.at[run] >= axis.low - 1e-9 && axis.at[run] <= axis.high + 1e-9);
const chosen = (run) => axes.every((axis) => fits(axis, run));
