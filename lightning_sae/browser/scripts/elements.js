// Elements, numbers as people read them, pictures out of the sheets.

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function said(value, name) {
  if (value === null || value === undefined) return "";
  const text = name === "density" ? `${+(100 * value).toPrecision(2)} %` : String(+value.toPrecision(3));
  return text.replace("-", "−");
}

const signed = (value) => (value > 0 ? `+${said(value)}` : said(value));

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
