// The scatter of attribution against alignment, on one canvas.

const canvas = document.getElementById("scatter");
const EDGE = { left: 58, right: 14, top: 12, bottom: 42 };
const root = (y) => Math.sign(y) * Math.sqrt(Math.abs(y));
const points = [...data.latent.keys()].filter((row) => number("alignment", row) !== null && number("attribution", row) !== null);
const xs = Float64Array.from(points, (row) => number("alignment", row));
const ys = Float64Array.from(points, (row) => root(number("attribution", row)));
let place = null; // of points on the canvas

function limits(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  const gap = 0.04 * (high - low) || 1;
  return [low - gap, high + gap];
}

function ticks(low, high, most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high; i += 1) found.push(+(i * step).toPrecision(6));
  return found;
}

// Round attributions that stand apart on the root's scale.
function rootTicks(low, high) {
  const top = Math.max(Math.abs(low), Math.abs(high)) ** 2;
  const unit = 10 ** Math.floor(Math.log10(top));
  const sizes = [0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 4, 6, 8].map((factor) => +(factor * unit).toPrecision(3));
  const found = [0];
  for (const size of sizes) {
    if (size <= top && root(size) - root(found.at(-1)) > 0.08 * (high - low)) found.push(size);
  }
  const both = [...found.slice(1).reverse().map((size) => -size), ...found];
  return both.filter((y) => root(y) >= low && root(y) <= high);
}

function drawScatter(rows, selected) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width || !points.length) return;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const [left, right] = limits(xs);
  const [low, high] = limits(ys);
  place = {
    x: (value) => EDGE.left + ((value - left) / (right - left)) * (width - EDGE.left - EDGE.right),
    y: (value) => height - EDGE.bottom - ((value - low) / (high - low)) * (height - EDGE.top - EDGE.bottom),
    chosen: new Set(rows),
  };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  drawAxes(pen, colour, { left, right, low, high, width, height });
  const order = [[false, colour("--line"), 1.6], [true, colour("--blue"), 2.6]];
  const red = colour("--red");
  for (const [chosen, fill, size] of order) {
    for (let i = 0; i < points.length; i += 1) {
      if (place.chosen.has(points[i]) !== chosen) continue;
      pen.fillStyle = chosen && isUnexpected(points[i]) ? red : fill;
      dot(pen, place.x(xs[i]), place.y(ys[i]), points.length > 5000 ? size * 0.7 : size);
    }
  }
  pen.strokeStyle = colour("--ink");
  delete canvas.dataset.x;
  for (let i = 0; i < points.length; i += 1) {
    const [x, y, row] = [place.x(xs[i]), place.y(ys[i]), points[i]];
    if (place.chosen.has(row) && findingsOf(row).length) ring(pen, x, y, 5.5, 1);
    if (row === selected) {
      ring(pen, x, y, 8, 2.5);
      canvas.dataset.x = x;
      canvas.dataset.y = y;
    }
  }
}

function dot(pen, x, y, size) {
  pen.beginPath();
  pen.arc(x, y, size, 0, 2 * Math.PI);
  pen.fill();
}

function ring(pen, x, y, size, width) {
  pen.lineWidth = width;
  pen.beginPath();
  pen.arc(x, y, size, 0, 2 * Math.PI);
  pen.stroke();
}

function drawAxes(pen, colour, at) {
  pen.clearRect(0, 0, at.width, at.height);
  pen.font = "12px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif";
  pen.fillStyle = colour("--grey");
  pen.strokeStyle = colour("--line");
  pen.lineWidth = 1;
  const line = (x1, y1, x2, y2) => { pen.beginPath(); pen.moveTo(x1, y1); pen.lineTo(x2, y2); pen.stroke(); };
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const value of rootTicks(at.low, at.high)) {
    const y = place.y(root(value));
    line(EDGE.left, y, at.width - EDGE.right, y);
    pen.fillText(said(value), EDGE.left - 8, y);
  }
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (const value of ticks(at.left, at.right, 6)) {
    line(place.x(value), at.height - EDGE.bottom, place.x(value), at.height - EDGE.bottom + 4);
    pen.fillText(said(value), place.x(value), at.height - EDGE.bottom + 7);
  }
  pen.fillText("alignment of the latent with its label", (EDGE.left + at.width - EDGE.right) / 2, at.height - 17);
  pen.save();
  pen.translate(12, (EDGE.top + at.height - EDGE.bottom) / 2);
  pen.rotate(-Math.PI / 2);
  pen.textBaseline = "middle";
  pen.fillText("attribution to the class it drives most", 0, 0);
  pen.restore();
}

// The nearest of the chosen points within 14 pixels; null for none.
function nearest(event) {
  if (!place) return null;
  const box = canvas.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  let [best, found] = [14 ** 2, null];
  for (let i = 0; i < points.length; i += 1) {
    const distance = (place.x(xs[i]) - x) ** 2 + (place.y(ys[i]) - y) ** 2;
    if (distance < best && place.chosen.has(points[i])) [best, found] = [distance, points[i]];
  }
  return found;
}

function showHint(event) {
  const hint = document.getElementById("hint");
  const row = nearest(event);
  hint.hidden = row === null;
  if (row === null) return;
  const box = canvas.getBoundingClientRect();
  hint.textContent = `${nameOf(row)} → ${classOf(data.driven[row])}`;
  const x = Math.min(event.clientX - box.left + 14, Math.max(0, box.width - hint.offsetWidth));
  hint.style.transform = `translate(${x}px, ${event.clientY - box.top - 34}px)`;
}
