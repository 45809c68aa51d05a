// Parallel coordinates: a line for each run, and on each axis a brush with two ends, for the mouse and for the keyboard.

const frame = document.getElementById("parallel");
const titles = axes.map((axis) => folded(axis.title));
const EDGE = { left: 28, right: 84, top: 26 + 14 * Math.max(0, ...titles.map((lines) => lines.length)), bottom: 18 };
const HEIGHT = 380;
const NARROWEST = 104; // pixels between two axes; with less room the picture scrolls
const ENDS = ["low", "high"];
let x = (place) => place;
const y = (at) => HEIGHT - EDGE.bottom - at * (HEIGHT - EDGE.top - EDGE.bottom);
const atOf = (event) => {
  const box = frame.querySelector("svg").getBoundingClientRect();
  return Math.min(1, Math.max(0, (HEIGHT - EDGE.bottom - (event.clientY - box.top)) / (HEIGHT - EDGE.top - EDGE.bottom)));
};

function draw(name, attributes, ...inside) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

// A long title on up to three lines, broken behind a dot, an underscore or a space.
function folded(title) {
  const lines = [""];
  for (const part of title.split(/(?<=[._ ])/)) {
    if (lines.at(-1) && lines.at(-1).length + part.length > 14) lines.push("");
    lines[lines.length - 1] += part;
  }
  return lines.slice(0, 3);
}

function drawTitle(lines, at) {
  const first = EDGE.top - 18 - 14 * (lines.length - 1);
  return draw("text", { class: "title", y: first }, ...lines.map((line, i) => draw("tspan", { x: at, dy: i && 14 }, line.trim())));
}

function drawTick(at, text, place) {
  const short = text.length > 14 ? `${text.slice(0, 13)}…` : text;
  return draw("text", { class: "tick", x: x(place) + 11, y: y(at) }, short, draw("title", {}, text));
}

function pathOf(run) {
  let [path, pen] = ["", "M"];
  axes.forEach((axis, place) => {
    const at = axis.at[run];
    path += at === null ? "" : `${pen}${x(place).toFixed(1)},${y(at).toFixed(1)}`;
    pen = at === null ? "M" : "L";
  });
  return path;
}

function drawRun(row, run) {
  const line = draw("path", { class: "run", d: pathOf(run) });
  line.style.setProperty("--rank", rows.length > 1 ? 1 - run / (rows.length - 1) : 1);
  const hit = draw("path", { class: "hit", d: pathOf(run) }, draw("title", {}, row.cells[0].textContent.trim()));
  hit.addEventListener("pointerenter", () => point(run, true));
  hit.addEventListener("pointerleave", () => point(run, false));
  return { line, hit };
}

function drawAxis(axis, place) {
  const zone = draw("rect", { class: "zone", x: x(place) - 20, y: EDGE.top - 8, width: 40, height: HEIGHT - EDGE.top - EDGE.bottom + 16 });
  const brush = draw("rect", { class: "brush", x: x(place) - 7, width: 14 });
  const handles = ENDS.map((end) => draw("path", {
    class: `handle ${end}`, role: "slider", tabindex: 0, "aria-orientation": "vertical", "aria-valuemin": 0, "aria-valuemax": 100,
    "aria-label": `${axis.title}, ${end === "low" ? "foot" : "top"} of what is shown`,
    d: end === "low" ? "M-8,0H8L0,10Z" : "M-8,0H8L0,-10Z",
  }));
  zone.addEventListener("pointerdown", (event) => drag(event, zone, axis, null));
  ENDS.forEach((end, i) => {
    handles[i].addEventListener("pointerdown", (event) => drag(event, handles[i], axis, end));
    handles[i].addEventListener("keydown", (event) => press(event, axis, end));
  });
  Object.assign(axis, { brush, handles, place });
  const line = draw("line", { class: "axis", x1: x(place), x2: x(place), y1: y(0), y2: y(1) });
  const ticks = axis.ticks.map(([at, text]) => drawTick(at, text, place));
  return draw("g", {}, line, ...ticks, drawTitle(titles[place], x(place)), zone, brush, ...handles);
}

let lines = [];

function redraw() {
  const width = Math.max(frame.clientWidth, EDGE.left + EDGE.right + NARROWEST * (axes.length - 1));
  x = (place) => EDGE.left + 12 + (axes.length > 1 ? place / (axes.length - 1) : 0.5) * (width - EDGE.left - EDGE.right - 12);
  lines = rows.map(drawRun);
  const best = [...lines].reverse(); // on top of the others
  const parts = [...best.map(({ line }) => line), ...best.map(({ hit }) => hit), ...axes.map(drawAxis)];
  frame.replaceChildren(draw("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "group", "aria-label": "a line for each run through its settings and values" }, ...parts));
  update();
}
