// The images that the page has, and the page of one: its latents, the classes, and what removing latents does.

const IMAGES = 60;

// The page and the kind stand in the address, so that Back finds them again.
function imagesView(page, kind) {
  const all = imageIds.map((_, place) => place);
  const wrong = (place) => numberOf("image_targets", place) >= 0 && numberOf("image_predicted", place) !== numberOf("image_targets", place);
  const shown = kind === "wrong" ? all.filter(wrong) : all;
  const pages = Math.max(1, Math.ceil(shown.length / IMAGES));
  const button = (word, to) => {
    const made = element("button", { type: "button" }, word);
    made.disabled = to < 0 || to >= pages;
    made.addEventListener("click", () => { window.location.hash = `#images/${to}/${kind}`; });
    return made;
  };
  const select = element("select", { "aria-label": "which images" }, element("option", { value: "all" }, "all images"), element("option", { value: "wrong" }, "wrong predictions"));
  select.value = kind;
  select.addEventListener("change", () => { window.location.hash = `#images/0/${select.value}`; });
  const pager = element("div", { class: "pager" }, button("‹ Previous", page - 1), element("span", {}, `Page ${page + 1} of ${pages}`), button("Next ›", page + 1));
  const controls = element("div", { class: "controls" }, ...(arrays.image_predicted ? [select] : []), ...(data.served && !data.texts.length ? [anyImage()] : []));
  return [heading([data.texts.length ? "Texts" : "Images"]), element("p", { class: "quiet" }, `${counted(shown.length)} validation examples that the page has: those of the classes, and what activates the latents most.`),
    controls, shots(shown.slice(page * IMAGES, (page + 1) * IMAGES)), pager];
}

function imageView(word) {
  const id = Number(word);
  const place = placeOf.get(id);
  if (data.served && (place === undefined || prompts.length)) return servedImage(word);
  if (place === undefined) {
    return [heading([`${EXAMPLE} ${word}`]), element("p", {}, "This page does not have it: lightning-sae explore RUN shows any image.")];
  }
  const removal = removalOf(place);
  const unit = numberOf("image_activations_unit", place);
  const slots = Array.from(rowsOf("image_latents", place), (row, slot) => ({ row, slot, activation: rowsOf("image_activations", place)[slot] * unit }));
  const latents = slots.filter(({ row }) => row >= 0); // the others are empty, or no latents of the table
  const spread = (shares) => {
    const whole = new Float64Array(slots.length);
    latents.forEach(({ slot }, i) => { whole[slot] = shares[i]; });
    return whole;
  };
  const target = numberOf("image_targets", place) ?? -1;
  const seen = {
    title: target < 0 ? imageTitle(place) : `${EXAMPLE} ${id}: ${imageTitle(place)}`, target, latents, exact: removal ? removal.exact : true,
    picture: data.texts.length ? element("bdi", { class: "told" }, data.texts[place]) : picture(place, imageTitle(place)),
    names: removal ? removal.classes.map(className) : [], own: removal ? removal.classes.indexOf(target) : -1,
    all: removal !== null && removal.classes.length === data.records.length,
    logits: removal ? (shares) => removal.logits(spread(shares)) : null,
  };
  return [...explained(seen), ...(data.served ? [promptForm(String(id))] : [])];
}

// The view of an image: `seen.logits(shares)` gives the logits of `seen.names`, or a promise of them.
function explained(seen) {
  const head = element("div", { class: "image-head" }, element("div", { class: "big" }, seen.picture), element("div", {}, heading([element("bdi", {}, seen.title)])));
  if (!seen.logits) {
    const lines = seen.latents.map(({ row, activation }) => element("tr", {}, element("td", {}, latentLink(row)), element("td", { class: "number" }, said(activation))));
    return [head, titled("Latents that fire", lines.length ? "By activation." : "The run has no activations of it: image_latents.safetensors keeps some thousands of examples.", element("table", { class: "removal" }, ...lines))];
  }
  const shares = new Float64Array(seen.latents.length);
  const ranking = element("div", { class: "ranking", "aria-live": "polite" });
  const table = element("table", { class: "removal" });
  const note = `How the logits change without it: where it falls, in orange, the latent raises the score. ${seen.exact
    ? "Exact for any shares that are removed." : "Exact without one whole latent; for shares and several latents added up."}`;
  head.lastElementChild.append(ranking);
  startRemoval(seen, shares, ranking, table);
  return [head, titled("Latents that fire, and the scores without them", note, table)];
}

const SCORES = 3; // columns

async function startRemoval(seen, shares, ranking, table) {
  const zero = await seen.logits(shares);
  const without = seen.without || await Promise.all(seen.latents.map((_, i) => seen.logits(Float64Array.from(shares, (_share, j) => Number(i === j)))));
  const order = [...zero.keys()].sort((a, b) => zero[b] - zero[a]);
  let target = order[0];
  let turn = 0;
  const update = async () => {
    const mine = turn += 1;
    const now = shares.some((share) => share > 0) ? await seen.logits(shares) : zero;
    if (mine === turn) drawRanking(seen, ranking, zero, now, target);
  };
  const select = element("select", { "aria-label": "score" }, ...order.map((i) => element("option", { value: i, dir: "auto" }, seen.names[i].slice(0, 60))));
  select.addEventListener("change", () => { target = Number(select.value); drawTable(); update(); });
  const reset = element("button", { type: "button" }, "Put all back");
  reset.addEventListener("click", () => { shares.fill(0); drawTable(); update(); });
  const rowsOfTable = element("tbody");
  const heads = element("tr");
  const drawTable = () => {
    const columns = [target, ...[seen.own, ...order].filter((i, at, all) => i >= 0 && i !== target && all.indexOf(i) === at)].slice(0, SCORES);
    heads.replaceChildren(...["", "latent", "activation"].map((word, i) => element("th", { scope: "col", class: i === 2 ? "number" : "" }, word)),
      ...columns.map((c) => element("th", { scope: "col", class: "number score" }, element("bdi", {}, seen.names[c]))), element("th", { scope: "col" }, "remove"));
    const change = (i, c) => without[i][c] - zero[c];
    const sorted = [...seen.latents.keys()].sort((a, b) => Math.abs(change(b, target)) - Math.abs(change(a, target)));
    rowsOfTable.replaceChildren(...sorted.map((i) => removalRow(seen.latents[i], columns.map((c) => change(i, c)), shares, i, update)));
  };
  table.append(element("caption", {}, "by what each does to ", select, " ", reset), element("thead", {}, heads), rowsOfTable);
  drawTable();
  update();
}

function removalRow({ row, activation }, changes, shares, i, update) {
  const slider = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: shares[i], "aria-label": `share of latent ${data.latent[row]} that is removed` });
  slider.addEventListener("input", () => { shares[i] = Number(slider.value); update(); });
  const cells = changes.map((change) => element("td", { class: `number score ${change < 0 ? "raises" : "lowers"}` }, signed(change)));
  const examples = data.texts.length ? [] : examplesOf(row).slice(0, 3).map((place) => picture(place, ""));
  return element("tr", { "data-latent": data.latent[row] }, element("td", { class: "strip" }, ...examples),
    element("td", {}, latentLink(row)), element("td", { class: "number" }, said(activation)), ...cells, element("td", {}, slider));
}

const RANKED = 6;

function drawRanking(seen, ranking, zero, now, target) {
  const order = [...now.keys()].sort((a, b) => now[b] - now[a]);
  const before = [...zero.keys()].sort((a, b) => zero[b] - zero[a]);
  const shown = order.slice(0, RANKED);
  for (const kept of [target, seen.own]) if (kept >= 0 && !shown.includes(kept)) shown.push(kept);
  const [low, high] = [Math.min(...now, ...zero), Math.max(...now, ...zero)];
  const lines = shown.map((i) => {
    const moved = before.indexOf(i) - order.indexOf(i);
    return element("tr", { class: i === target ? "selected" : undefined }, element("td", { class: "number" }, `${order.indexOf(i) + 1}.`),
      element("td", {}, element("bdi", {}, seen.names[i]), ...(i === seen.own ? [" ", element("span", { class: "chip kind" }, "its class")] : [])),
      element("td", { class: "number" }, now[i].toFixed(2).replace("-", "−")), element("td", {}, bar((now[i] - low) / (high - low || 1))),
      element("td", { class: "number quiet" }, now === zero ? "" : signed(+(now[i] - zero[i]).toFixed(2))), element("td", { class: "quiet" }, moved ? `${moved > 0 ? "↑" : "↓"}${Math.abs(moved)}` : ""));
  });
  const note = `By their logit${seen.all ? "" : `, of the likeliest ${seen.names.length}`}: the score that they are compared by; the first ${RANKED}.`;
  ranking.dataset.first = seen.names[order[0]];
  ranking.replaceChildren(element("p", { class: "quiet" }, note), element("table", {}, element("tbody", {}, ...lines)));
}
