// What the reader does: brushes an axis, points at a run.

const status = document.getElementById("parallel-status");
const reset = document.getElementById("parallel-reset");

function update() {
  let left = 0;
  rows.forEach((row, run) => {
    const within = chosen(run);
    left += within;
    row.hidden = !within;
    lines[run].line.classList.toggle("out", !within);
    lines[run].hit.classList.toggle("out", !within);
  });
  for (const axis of axes) {
    axis.brush.setAttribute("y", y(axis.high));
    axis.brush.setAttribute("height", brushed(axis) ? Math.max(y(axis.low) - y(axis.high), 2) : 0);
    ENDS.forEach((end, i) => {
      axis.handles[i].setAttribute("transform", `translate(${x(axis.place)},${y(axis[end])})`);
      axis.handles[i].setAttribute("aria-valuenow", Math.round(100 * axis[end]));
      axis.handles[i].setAttribute("aria-valuetext", axis.said(axis[end]));
      axis.handles[i].classList.toggle("moved", axis[end] !== i);
    });
  }
  const all = !axes.some(brushed);
  status.textContent = all ? `${rows.length} runs` : `${left} of ${rows.length} runs`;
  reset.disabled = all;
}

function set(axis, low, high) {
  [axis.low, axis.high] = low <= high ? [low, high] : [high, low];
  update();
}

const clear = (axis) => set(axis, 0, 1);

// One end is moved, or from the axis itself a new interval is drawn; a click without a move takes it away.
function drag(event, target, axis, end) {
  const start = atOf(event);
  const other = end && axis[end === "low" ? "high" : "low"];
  let moved = false;
  const move = (next) => {
    const at = atOf(next);
    moved ||= Math.abs(at - start) > 0.01;
    if (moved) set(axis, end ? other : start, at);
  };
  target.setPointerCapture(event.pointerId);
  target.addEventListener("pointermove", move);
  const stop = () => {
    target.removeEventListener("pointermove", move);
    if (!moved && !end) clear(axis);
  };
  target.addEventListener("lostpointercapture", stop, { once: true });
}

// An arrow goes to the next value that a run has; Home and End to the ends of the axis, Escape shows all again.
function press(event, axis, end) {
  const [from, edge] = [axis[end], end === "low" ? 0 : 1];
  const stops = [...new Set([0, ...axis.stops, 1])].sort((a, b) => a - b);
  const up = stops.find((at) => at > from + 1e-9) ?? from;
  const down = stops.findLast((at) => at < from - 1e-9) ?? from;
  const to = { ArrowUp: up, ArrowRight: up, ArrowDown: down, ArrowLeft: down, Home: 0, End: 1, Escape: edge }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  if (end === "low") set(axis, Math.min(to, axis.high), axis.high);
  else set(axis, axis.low, Math.max(to, axis.low));
}

function point(run, on) {
  rows[run].classList.toggle("pointed", on);
  lines[run].line.classList.toggle("pointed", on);
}

document.getElementById("parallel-part").hidden = axes.length < 2 || rows.length < 2;
rows.forEach((row, run) => {
  row.addEventListener("pointerenter", () => point(run, true));
  row.addEventListener("pointerleave", () => point(run, false));
});
reset.addEventListener("click", () => axes.forEach(clear));
window.addEventListener("resize", redraw);
window.addEventListener("beforeprint", () => document.querySelectorAll("details:not(.config)").forEach((folded) => { folded.open = true; }));
redraw();
