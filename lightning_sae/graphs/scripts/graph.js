// A graph in columns: latents as their images, edges between them, and beside it what the chosen node is.

const [ROW, LEAST_ROW, TALL] = [46, 18, 1300]; // pixels: a row, the lowest one, a column from which rows get lower
const LISTED = 8; // edges of a table
const NODE_KINDS = {
  error: ["error", "What the autoencoder here does not reconstruct: no latent explains it."],
  outside: ["other tokens", "What other tokens than those of this hook point carry past it: no latent explains it."],
  bias: ["bias", "The constant of the autoencoder: the same for every image."],
  score: ["score", "What is explained: the score of the image and the text."],
};
const ofAll = (value) => `${+(100 * value).toPrecision(2)} %`;

function graphView(graph) {
  const parts = { graph, chosen: null, places: placesOf(graph), panel: element("aside", { class: "graph-panel", "aria-live": "polite" }) };
  parts.paths = graph.edges.map((edge) => edgePath(graph, parts.places, edge));
  parts.nodes = graph.nodes.map((node, i) => nodeButton(parts, node, i));
  const stage = element("div", { class: "stage" });
  stage.style.height = `${parts.places.height}px`;
  const frame = { viewBox: `0 0 1000 ${parts.places.height}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  parts.lit = svg("svg", { ...frame, class: "lit-edges" }); // copies of those of the node that is looked at: the others fade as one picture
  stage.append(svg("svg", { ...frame, class: "edges" }, ...parts.paths), parts.lit, ...parts.nodes);
  parts.stage = stage;
  stage.addEventListener("keydown", (event) => { if (event.key === "Escape") chooseNode(parts, null); });
  const heads = element("div", { class: "stage-heads" }, ...graph.columns.map((title) => element("span", {}, element("bdi", {}, title))));
  const least = `${190 * graph.columns.length}px`;
  for (const part of [stage, heads]) part.style.minWidth = least;
  restGraph(parts);
  return element("div", { class: "graph" }, element("div", { class: "wide" }, heads, stage, graphLegend(graph)), parts.panel);
}

// The middle of each node, x in thousandths of the width and y in pixels, and how high it is: in long columns nodes are low.
function placesOf(graph) {
  const counts = graph.columns.map((_, column) => graph.nodes.filter((node) => node.column === column).length);
  const most = Math.max(...counts);
  const height = most * Math.max(LEAST_ROW, Math.min(ROW, TALL / most)) + 12;
  const steps = counts.map((count) => Math.min((height - 12) / count, 2.5 * ROW));
  const seen = counts.map(() => 0);
  const cell = 1000 / counts.length;
  const at = graph.nodes.map(({ column }) => {
    const row = seen[column]++;
    return [cell * (column + 0.5), height / 2 + (row - (counts[column] - 1) / 2) * steps[column]];
  });
  return { at, height, half: 0.31 * cell, heights: steps.map((step) => Math.min(step, ROW) * 0.88) };
}

function edgePath(graph, { at, half }, [source, target, weight, influence]) {
  const [[x1, y1], [x2, y2]] = [at[source], at[target]];
  const [from, to] = [x1 + half, x2 - half];
  const middle = (from + to) / 2;
  const made = svg("path", { d: `M${from.toFixed(1)} ${y1}C${middle.toFixed(1)} ${y1} ${middle.toFixed(1)} ${y2} ${to.toFixed(1)} ${y2}`, class: weight < 0 ? "edge lowers" : "edge raises" });
  made.style.strokeWidth = `${(0.6 + 11 * influence ** 0.75).toFixed(2)}px`;
  made.style.setProperty("--strength", (0.14 + 0.6 * Math.min(1, influence / 0.02) ** 0.5).toFixed(2));
  return made;
}

function nameOfNode(node) {
  if (node.kind !== "latent") return [element("span", {}, NODE_KINDS[node.kind][0])];
  if (node.named) return [element("bdi", {}, node.name)];
  return [element("bdi", {}, "? "), element("bdi", { class: "guess" }, node.name)];
}

const textOfNode = (node) => (node.kind === "latent" ? (node.named ? node.name : `? (${node.name})`) : NODE_KINDS[node.kind][0]);

function nodeButton(parts, node, i) {
  const [x, y] = parts.places.at[i];
  const made = element("button", { type: "button", class: `node ${node.kind}${node.unexpected ? " foreign" : ""}`, "aria-label": `${textOfNode(node)}, ${parts.graph.columns[node.column]}${node.unexpected ? ", unexpected" : ""}` });
  if (node.tops?.length) made.append(picture(node.tops[0], ""));
  made.append(element("span", { class: "node-name" }, ...nameOfNode(node)), element("small", {}, node.kind === "score" ? said(node.value) : ofAll(node.influence)));
  made.style.left = `${(x - parts.places.half) / 10}%`;
  made.style.width = `${parts.places.half / 5}%`;
  const height = parts.places.heights[node.column];
  made.style.height = `${height}px`;
  made.style.top = `${y - height / 2}px`;
  if (height < 28) made.classList.add("low");
  made.addEventListener("mouseenter", () => lookAt(parts, i));
  made.addEventListener("focus", () => lookAt(parts, i));
  made.addEventListener("mouseleave", () => restGraph(parts));
  made.addEventListener("click", () => chooseNode(parts, parts.chosen === i ? null : i));
  return made;
}

function chooseNode(parts, i) {
  parts.chosen = i;
  parts.nodes.forEach((node, place) => node.setAttribute("aria-pressed", place === i));
  restGraph(parts);
}

// What is shown while nothing is pointed at: the node that was chosen, else how to read the graph.
function restGraph(parts) {
  if (parts.chosen !== null) return lookAt(parts, parts.chosen);
  lightUp(parts, null);
  return parts.panel.replaceChildren(element("p", { class: "quiet" }, "Point at a node, or reach it with the Tab key: here stand its images, what it reads and what it writes. Click to keep it; with one kept, pointing at another gives the weight of the paths between the two. Escape lets go."));
}

function lookAt(parts, i) {
  lightUp(parts, i);
  parts.panel.replaceChildren(...pathsBetween(parts, i), ...nodeFacts(parts, i));
}

function lightUp(parts, i) {
  parts.stage.classList.toggle("dim", i !== null);
  const lit = new Set([i]);
  const own = parts.paths.filter((_, place) => parts.graph.edges[place][0] === i || parts.graph.edges[place][1] === i);
  for (const [source, target] of parts.graph.edges) {
    if (source === i) lit.add(target);
    if (target === i) lit.add(source);
  }
  parts.lit.replaceChildren(...own.map((path) => path.cloneNode()));
  parts.nodes.forEach((node, place) => node.classList.toggle("lit", lit.has(place)));
}

function pathsBetween(parts, i) {
  const other = parts.chosen;
  if (other === null || other === i) return [];
  const [start, end] = parts.graph.nodes[other].column < parts.graph.nodes[i].column ? [other, i] : [i, other];
  const { weight, count } = pathWeight(parts.graph, start, end);
  const names = [start, end].map((place) => element("b", {}, ...nameOfNode(parts.graph.nodes[place])));
  return [element("p", { class: "between" }, "From ", names[0], " to ", names[1], count ? `: ${signed(weight)} by ${count} ${count === 1 ? "path" : "paths"}.` : ": no path.")];
}

// The sum over all paths: product of the edges by the product of the values of the nodes between.
function pathWeight(graph, start, end) {
  const found = new Map([[start, { weight: 1, count: 1 }]]);
  for (const column of graph.columns.keys()) {
    for (const [source, target, weight] of graph.edges) {
      if (graph.nodes[source].column !== column || !found.has(source)) continue;
      const before = found.get(source);
      const sum = found.get(target) || { weight: 0, count: 0 };
      const scale = source === start ? 1 : graph.nodes[source].value;
      found.set(target, { weight: sum.weight + (before.weight * weight) / scale, count: sum.count + before.count });
    }
  }
  return found.get(end) || { weight: 0, count: 0 };
}

function nodeFacts(parts, i) {
  const node = parts.graph.nodes[i];
  const where = node.kind === "latent" ? `latent ${node.latent} of ${parts.graph.columns[node.column]}` : parts.graph.columns[node.column];
  const chips = element("p", { class: "quiet" }, element("bdi", {}, node.kind === "score" ? "" : where), " ", ...(node.unexpected ? [element("span", { class: "chip unexpected" }, "unexpected")] : []));
  const known = [["activation", node.kind === "latent" ? said(node.value) : ""], ["attribution to the score", node.kind === "latent" ? signed(node.attribution) : ""], ["score", node.kind === "score" ? said(node.value) : ""], ["share of the influence", node.kind === "score" ? "" : ofAll(node.influence)]];
  const shown = known.filter(([, text]) => text);
  return [element("h3", {}, ...nameOfNode(node)), chips, ...(node.kind === "latent" ? [nodePictures(node)] : [element("p", {}, NODE_KINDS[node.kind][1])]),
    element("dl", { class: "node-facts" }, ...shown.map(([word, text]) => element("div", {}, element("dt", {}, word), element("dd", {}, text)))),
    ...edgeTable(parts, i, "It reads", 1, 0), ...edgeTable(parts, i, "It writes", 0, 1)];
}

function nodePictures(node) {
  const figures = [];
  if (node.map !== undefined) figures.push(element("figure", { class: "node-map" }, picture(node.map, "where in the image it fires"), element("figcaption", {}, "where it fires in this image")));
  if (node.tops.length) figures.push(element("figure", {}, element("div", { class: "node-tops" }, ...node.tops.map((place) => picture(place, "top image"))), element("figcaption", {}, "on which it fires most")));
  return element("div", { class: "node-pictures" }, ...figures);
}

function edgeTable(parts, i, title, own, other) {
  const found = parts.graph.edges.filter((edge) => edge[own] === i).sort((a, b) => Math.abs(b[2]) - Math.abs(a[2]));
  if (!found.length) return [];
  const lines = found.slice(0, LISTED).map((edge) => {
    const node = parts.graph.nodes[edge[other]];
    return element("tr", { class: node.unexpected ? "foreign" : "" }, element("td", {}, ...(node.tops?.length ? [picture(node.tops[0], "")] : [])), element("td", {}, ...nameOfNode(node)),
      element("td", { class: `number ${edge[2] < 0 ? "lowers" : "raises"}` }, signed(edge[2])));
  });
  const more = found.length > LISTED ? [element("p", { class: "quiet" }, `and ${found.length - LISTED} more`)] : [];
  return [element("h4", {}, title), element("table", { class: "edge-table" }, ...lines), ...more];
}

function graphLegend(graph) {
  const line = (kind, text) => element("span", { class: "key" }, svg("svg", { viewBox: "0 0 30 8", class: "key-line", "aria-hidden": "true" }, svg("path", { d: "M0 4H30", class: `edge ${kind}` })), text);
  const box = (kind, text) => element("span", { class: "key" }, element("i", { class: `node ${kind}` }), text);
  return element("p", { class: "graph-legend quiet" }, line("raises", "makes it stronger"), line("lowers", "makes it weaker"), element("span", { class: "key" }, "width: influence on the score"),
    ...(graph.nodes.some((node) => node.unexpected) ? [box("foreign", "unexpected: raises the score, and its images do not show what the text says; those of early layers seldom do")] : []), box("error", "no latent: error, other tokens, bias"));
}

function graphPaths(graph) {
  const lines = graph.paths.map(([walked, weight, influence]) => {
    const names = walked.slice(0, -1).flatMap((place, at) => [...(at ? [" → "] : []), element("span", { class: graph.nodes[place].unexpected ? "step foreign" : "step" }, ...nameOfNode(graph.nodes[place]))]);
    return element("tr", {}, element("td", {}, ...names), element("td", { class: "number" }, signed(weight)), element("td", { class: "number" }, ofAll(influence)));
  });
  if (!lines.length) return element("p", { class: "quiet" }, "No path leads from the earliest layer to the score.");
  const heads = ["strongest paths to the score", "weight", "share of the influence"];
  return element("table", { class: "lines graph-paths" }, element("thead", {}, element("tr", {}, ...heads.map((word, i) => element("th", { scope: "col", class: i ? "number" : "" }, word)))), element("tbody", {}, ...lines));
}
