// The page of one latent.

function latentView(latent) {
  const row = rowOfLatent(latent);
  if (row === null) return [heading([`latent ${latent}`]), element("p", {}, "No validation example activates it.")];
  selected = row;
  const chips = element("div", { class: "chips" }, element("span", { class: "quiet" }, `latent ${latent}`));
  if (!data.named[row]) chips.append(element("span", { class: "chip medium" }, "no name to rely on"));
  for (const number of findingsOf(row).slice(0, 4)) chips.append(findingChip(number, "high", `culprit of finding ${number}`));
  return [heading(calledAs(row), chips, beside(row)), topExamples(row), namingPart(row),
    element("div", { class: "columns" }, labelPart(row), firingPart(row), drivesPart(row), nearestPart(row))];
}

// The latents before and behind it, in the order of the gallery.
function beside(row) {
  const place = rows.indexOf(row);
  const link = (other, word) => (other === undefined ? "" : element("a", { href: `#latent/${data.latent[other]}` }, word));
  return element("span", { class: "beside" }, link(rows[place - 1], "‹ previous"), " ", place < 0 ? "" : link(rows[place + 1], "next ›"));
}

function topExamples(row) {
  const places = examplesOf(row);
  if (!places.length) return element("p", { class: "quiet" }, "The page has no picture of its examples: their ids stand in latents.csv.");
  if (data.texts.length) return titled("Top texts", "", shots(places));
  const map = mapOf(row);
  const note = map ? "The largest activation first; below, where in the image the latent fires." : "The largest activation first.";
  const shown = places.map((place, i) => element("figure", { class: "top" }, imageLink(place, imageTitle(place)),
    ...(map && i < map.images ? [mapped(place, map, i)] : [])));
  return titled("Top images", note, element("div", { class: "shots large" }, ...shown));
}

const mapRows = new Map(arrays.map_rows ? [...arrays.map_rows.numbers].map((row, at) => [row, at]) : []);

function mapOf(row) {
  if (!mapRows.has(row)) return null;
  const [, images, height, width] = arrays.maps.shape;
  return { numbers: rowsOf("maps", mapRows.get(row)), images, height, width };
}

// A picture in grey, the places where the latent fires in orange.
function mapped(place, map, i) {
  const made = picture(place, "where the latent fires");
  made.classList.add("mapped");
  const paint = () => {
    const pen = made.getContext("2d");
    const [w, h] = [data.side / map.width, data.side / map.height];
    pen.globalCompositeOperation = "saturation";
    pen.fillStyle = "#888";
    pen.fillRect(0, 0, data.side, data.side);
    pen.globalCompositeOperation = "source-over";
    for (let y = 0; y < map.height; y += 1) {
      for (let x = 0; x < map.width; x += 1) {
        pen.fillStyle = `rgb(217 130 43 / ${Math.sqrt(map.numbers[(i * map.height + y) * map.width + x] / 255) * 0.85})`;
        pen.fillRect(x * w, y * h, w + 0.5, h + 0.5);
      }
    }
  };
  const sheet = sheets[Math.floor(place / onSheet)];
  if (sheet.complete) paint();
  else sheet.addEventListener("load", paint, { once: true });
  return made;
}

function labelPart(row) {
  const second = data.second[row] < 0 ? "" : data.labels[data.second[row]];
  const known = Object.entries(FACTS).map(([name, word]) => [word, said(number(name, row), name)]);
  return titled("What it means", "", facts([["label", judgedLabel(row)], ["second label", second], ...known]));
}

function firingPart(row) {
  const fired = numberOf("latent_fired", row);
  if (!fired) return element("span");
  const classes = rowsOf("latent_classes", row);
  const counts = rowsOf("latent_class_images", row);
  const lines = [...classes].map((c, i) => [c, counts[i]]).filter(([c]) => c >= 0).map(([c, count]) => {
    const own = data.records[c]?.own;
    return element("tr", {}, element("td", {}, classLink(c)), element("td", { class: "number" }, counted(count)),
      element("td", {}, own ? bar(count / own) : ""), element("td", { class: "number quiet" }, own ? `${Math.round((100 * count) / own)} %` : ""));
  });
  return titled("When it fires", `On ${counted(fired)} ${EXAMPLES}${data.sampled ? ` of ${counted(data.sampled)}` : ""}; how many by activation, from 0 to the largest, heights by their root.`,
    histogram(rowsOf("latent_histogram", row), "0", said(numberOf("latent_largest", row)), `${EXAMPLES} by activation`),
    ...(lines.length ? [element("h4", {}, `Its ${EXAMPLES} by class, and the share of the class`), element("table", {}, ...lines)] : []));
}

function drivesPart(row) {
  const found = [...drivesOf(row)].sort((a, b) => b[1] - a[1]).slice(0, 8);
  if (!found.length) {
    const name = classOf(data.driven[row]);
    return name ? titled("What it drives", "", element("p", {}, "most of all ", classLink(name))) : element("span");
  }
  const lines = found.map(([place, attribution, share]) => element("tr", { class: foreignTo(row, classOf(place)) ? "foreign" : undefined },
    element("td", {}, classLink(classOf(place)), ...(foreignTo(row, classOf(place)) ? [" ", element("span", { class: "chip unexpected" }, "unexpected")] : [])),
    element("td", { class: "number" }, said(attribution)), element("td", {}, bar(share)), element("td", { class: "number quiet" }, `${Math.round(100 * share)} %`)));
  return titled("What it drives", "Mean attribution to the class, and its share of all that raises the class.", element("table", {}, ...lines));
}

function foreignTo(row, name) {
  const record = data.records.find((one) => one.name === name);
  const place = record ? record.latents.indexOf(data.latent[row]) : -1;
  return place >= 0 && record.unexpected[place] === 1;
}

function nearestPart(row) {
  const cosines = rowsOf("latent_cosines", row);
  const lines = [...rowsOf("latent_nearest", row)].map((other, i) => element("tr", {},
    element("td", { class: "strip" }, ...(data.texts.length ? [] : examplesOf(other).slice(0, 2).map((place) => picture(place, "")))),
    element("td", {}, latentLink(other)), element("td", { class: "number" }, (cosines[i] / 100).toFixed(2).replace("-", "−"))));
  return titled("Its nearest latents", "By the cosine of the decoder's rows.", element("table", {}, ...lines));
}
