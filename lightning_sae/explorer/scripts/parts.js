// Pieces that several views are made of.

const EXAMPLE = data.texts.length ? "text" : "image";
const EXAMPLES = `${EXAMPLE}s`;
const counted = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, " ");
const rowOfLatent = (latent) => rowOf.get(latent) ?? null;

function latentLink(row) {
  return element("a", { class: "latent-link", href: `#latent/${data.latent[row]}` }, ...calledAs(row));
}

// A finding of the audit: a link where its page lies beside this one.
function findingChip(number, severity, ...words) {
  const where = data.audit ? { href: `audit.html#finding-${number}` } : {};
  return element(data.audit ? "a" : "span", { class: `chip ${severity}`, ...where }, ...words);
}

function classLink(c) {
  const place = typeof c === "number" ? c : data.records.findIndex((record) => record.name === c);
  return place < 0 ? element("bdi", {}, c) : element("a", { href: `#class/${place}` }, element("bdi", {}, className(place)));
}

// A picture, or a text, that leads to the page of its image.
function imageLink(place, title) {
  if (data.texts.length) return element("a", { class: "told", href: `#image/${imageIds[place]}` }, element("bdi", {}, data.texts[place]));
  return element("a", { class: "shot", href: `#image/${imageIds[place]}`, title }, picture(place, title));
}

function imageTitle(place) {
  const target = numberOf("image_targets", place);
  const called = numberOf("image_predicted", place);
  const own = target === null || target < 0 ? `${EXAMPLE} ${imageIds[place]}` : className(target);
  return called === null || target < 0 || called === target ? own : `${own}, taken for ${className(called)}`;
}

function facts(pairs) {
  const shown = pairs.filter(([, text]) => text !== "" && text !== null);
  return element("dl", { class: "facts" }, ...shown.map(([word, text]) => element("div", {}, element("dt", {}, word), element("dd", {}, text))));
}

function heading(title, ...beside) {
  return element("div", { class: "heading" }, element("h2", {}, ...title), ...beside);
}

function titled(title, note, ...content) {
  return element("section", { class: "part" }, element("h3", {}, title), ...(note ? [element("p", { class: "quiet" }, note)] : []), ...content);
}

function shots(places) {
  return element("div", { class: data.texts.length ? "texts" : "shots" }, ...places.map((place) => imageLink(place, imageTitle(place))));
}

// Bars of heights in 0..255 side by side.
function histogram(heights, left, right, title) {
  const [width, height] = [360, 110];
  const step = width / heights.length;
  const bars = Array.from(heights, (bar, i) => svg("rect", {
    x: (i * step + 0.5).toFixed(1), width: (step - 1).toFixed(1), y: (height * (1 - bar / 255)).toFixed(1), height: ((height * bar) / 255).toFixed(1),
  }));
  const axis = svg("line", { class: "grid", x1: 0, x2: width, y1: height, y2: height });
  const words = [[0, left, "start"], [width, right, "end"]].map(([x, text, anchor]) => svg("text", { class: "tick", x, y: height + 16, "text-anchor": anchor }, text));
  return svg("svg", { class: "histogram", viewBox: `0 0 ${width} ${height + 20}`, role: "img", "aria-label": title }, ...bars, axis, ...words);
}
