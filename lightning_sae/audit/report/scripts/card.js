// All that is known of one latent.

function drawCard(row) {
  const title = element("h3", {}, ...calledAs(row));
  const chips = element("div", { class: "chips" }, element("span", { class: "quiet" }, `latent ${data.latent[row]}`));
  if (!data.named[row]) chips.append(element("span", { class: "chip medium" }, "no name to rely on"));
  const found = findingsOf(row);
  for (const number of found.slice(0, 4)) chips.append(element("a", { class: "chip high", href: `#finding-${number}` }, `culprit of finding ${number}`));
  if (found.length > 4) chips.append(element("span", { class: "quiet" }, `and of ${found.length - 4} more`));
  const facts = element("dl");
  for (const [name, word] of Object.entries(FACTS)) {
    const text = said(number(name, row), name);
    if (text) facts.append(element("div", {}, element("dt", {}, word), element("dd", {}, text)));
  }
  document.getElementById("card").replaceChildren(title, chips, shownExamples(row), facts, ...drivenClasses(row), ...secondLabel(row));
}

function shownExamples(row) {
  const places = examplesOf(row);
  if (!places.length) return element("p", { class: "quiet" }, "No examples here: ids in latents.csv.");
  if (data.texts.length) {
    return element("ul", { class: "texts" }, ...places.map((at) => element("li", {}, element("bdi", {}, data.texts[at]))));
  }
  return element("div", { class: "shown" }, ...places.map((at) => picture(at, `example of latent ${data.latent[row]}`)));
}

function drivenClasses(row) {
  const found = drivesOf(row);
  if (!found.length) {
    const name = classOf(data.driven[row]);
    return name ? [element("h4", {}, "Drives most"), element("bdi", { class: isUnexpected(row) ? "bad" : undefined }, name)] : [];
  }
  const unexpected = (place) => (number("unexpected", row) || 0) > 0 && data.misled[row] === place;
  const rows = [...found].sort((a, b) => b[1] - a[1]).slice(0, 6).map(([place, attribution, share]) => element("tr", {},
    element("td", {}, element("bdi", { class: unexpected(place) ? "bad" : undefined }, classOf(place))),
    element("td", { class: "number" }, said(attribution)), element("td", {}, bar(share))));
  return [element("h4", {}, "Drives: attribution, share of the class"), element("table", {}, ...rows)];
}

function secondLabel(row) {
  if (data.second[row] < 0) return [];
  return [element("p", { class: "quiet" }, "second label: ", element("bdi", {}, data.labels[data.second[row]]))];
}
