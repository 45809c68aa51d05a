// The list of classes, and the page of one.

const recall = (record) => (record.own ? record.right / record.own : null);
const share = (value) => (value === null || value === undefined ? "" : `${Math.round(100 * value)} %`);

function classesView() {
  if (!data.records.length) return [heading(["Classes"]), element("p", {}, "The data of this run have no classes.")];
  const lines = data.records.map((record, c) => {
    const foreign = record.shares.reduce((sum, value, i) => sum + (record.unexpected[i] ? value || 0 : 0), 0);
    const top = record.latents.slice(0, 3).map(rowOfLatent).filter((row) => row !== null);
    return element("tr", {}, element("td", {}, classLink(c)), element("td", { class: "number" }, record.own === undefined ? "" : counted(record.own)),
      element("td", { class: "number" }, share(recall(record))), element("td", { class: "number" }, record.latents.length ? share(foreign) : ""),
      element("td", {}, ...top.flatMap((row) => [latentLink(row), " "])),
      element("td", {}, ...record.findings.map((found) => findingChip(found.number, found.severity, String(found.number)))));
  });
  const heads = ["class", "images", "recognised", "driven unexpectedly", "driven most by", data.records.some((record) => record.findings.length) ? "findings" : ""];
  return [heading(["Classes"]), element("div", { class: "wide" }, element("table", { class: "lines class-list" },
    element("thead", {}, element("tr", {}, ...heads.map((word, i) => element("th", { scope: "col", class: i > 0 && i < 4 ? "number" : "" }, word)))),
    element("tbody", {}, ...lines)))];
}

function classView(c) {
  const record = data.records[c];
  if (!record) return [heading(["Classes"]), element("p", {}, "There is no such class.")];
  const known = [["prompts", record.prompts.join(" · ")], ["images", record.own === undefined ? "" : counted(record.own)], ["recognised", share(recall(record))],
    ["taken for it", record.called === undefined ? "" : counted(record.called - record.right)], ["audit", record.verdict]];
  const found = record.findings.map((one) => element("p", { class: "finding-line" },
    findingChip(one.number, one.severity, `finding ${one.number}`), " ", element("bdi", {}, one.summary)));
  return [heading([element("bdi", {}, record.name)]), facts(known), ...found, driversPart(record), ...graphPart(c), ...imageParts(record)];
}

function driversPart(record) {
  const most = Math.max(1e-12, ...record.shares);
  const lines = record.latents.map((latent, i) => [rowOfLatent(latent), i]).filter(([row]) => row !== null).map(([row, i]) => element("tr", { class: record.unexpected[i] ? "foreign" : undefined },
    element("td", { class: "strip" }, ...(data.texts.length ? [] : examplesOf(row).slice(0, 4).map((place) => picture(place, "")))),
    element("td", {}, latentLink(row), ...(record.unexpected[i] ? [" ", element("span", { class: "chip unexpected" }, "unexpected")] : [])),
    element("td", { class: "number" }, said(record.attributions[i])), element("td", {}, bar(record.shares[i] / most)), element("td", { class: "number quiet" }, share(record.shares[i]))));
  if (!lines.length) return element("p", { class: "quiet" }, "The run has no attributions to this class.");
  return titled("What drives it", "Mean attribution over the examples that are predicted as it, and the share of all that raises it. Unexpected: its examples do not mean the class.",
    element("table", { class: "drivers" }, ...lines));
}

// Where its score comes from, in a run with several layers.
function graphPart(c) {
  const graph = data.graphs[c];
  if (!graph) return [];
  const trust = graph.trust.map((sentence, i) => element("p", { class: i ? "quiet" : "trusted" }, sentence));
  const note = `From left to right: latents of an early layer make those of a later one, and these make the logit of the class; means over ${graph.images} of the images that are predicted as it, ${ofAll(graph.share)} of the influence.`;
  return [titled("Where it comes from", note, ...trust, graphView(graph), graphPaths(graph))];
}

function imageParts(record) {
  const kinds = { right: "Recognised", taken: "Others that are taken for it", missed: "Not recognised" };
  return Object.entries(kinds).map(([kind, title]) => {
    const places = (record.images[kind] || []).map((id) => placeOf.get(id)).filter((place) => place !== undefined);
    return places.length ? titled(title, "", shots(places)) : element("span");
  });
}
