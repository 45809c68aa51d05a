// Names that a reader gives, and the latents that have none yet. What is typed lives in the page until it is saved.

const GROUPS = 20; // of a page
const judged = { label: [...data.label], named: [...data.named], novel: [...data.novel] };
const own = new Map(Object.entries(data.own).map(([latent, name]) => [Number(latent), name]));
let unsaved = false;

// The label that the judge found, whatever people call the latent.
function judgedLabel(row) {
  const latent = data.latent[row];
  if (data.judged[latent] !== undefined) return data.judged[latent];
  return judged.label[row] < 0 ? "" : data.labels[judged.label[row]];
}

function placeOfLabel(name) {
  const known = data.labels.indexOf(name);
  if (known >= 0) return known;
  data.labels.push(name);
  lowerLabels.push(name.toLowerCase());
  labelOrder = orderOfLabels();
  return data.labels.length - 1;
}

// Give a latent a name; "" takes it away again.
function giveName(row, text) {
  const name = text.replace(/\s+/g, " ").trim().slice(0, 200);
  const latent = data.latent[row];
  if (name === (own.get(latent) || "")) return;
  unsaved = true;
  if (name) {
    own.set(latent, name);
    [data.label[row], data.named[row], data.novel[row]] = [placeOfLabel(name), 1, 0];
  } else {
    own.delete(latent);
    const before = data.judged[latent];
    data.label[row] = before === undefined ? judged.label[row] : placeOfLabel(before);
    data.named[row] = before === undefined ? judged.named[row] : 0;
    data.novel[row] = judged.novel[row];
  }
}

// A field for the name of some latents, and what is drawn anew when it changes.
function nameField(ofRows, changed) {
  const field = element("input", { class: "name-field", maxlength: 200, placeholder: "a name of yours", "aria-label": `name of latent ${data.latent[ofRows[0]]}`, autocomplete: "off" });
  field.value = own.get(data.latent[ofRows[0]]) || "";
  field.addEventListener("change", () => { for (const row of ofRows) giveName(row, field.value); changed(); });
  return field;
}

// A cell of a CSV file: one that a spreadsheet would run gets a quote before it; see trust/tables.py.
function cell(text) {
  const safe = /^'*\s*[=+\-@＝＋－＠]/.test(text) ? `'${text}` : text;
  return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
}

const namesFile = () => ["latent,name,sae", ...[...own].sort(([a], [b]) => a - b).map(([latent, name]) => `${latent},${cell(name)},${data.sae}`), ""].join("\n");

function saveNames() {
  const address = URL.createObjectURL(new Blob([namesFile()], { type: "text/csv" }));
  element("a", { href: address, download: "names.csv" }).click();
  URL.revokeObjectURL(address);
  unsaved = false;
}

function saveButton() {
  const button = element("button", { type: "button", class: "save-names" }, "Save names.csv");
  button.addEventListener("click", saveNames);
  return button;
}

// Rows of each group of near copies that has no name yet, the largest group first; one that was named here stays.
function novelGroups() {
  const groups = new Map();
  data.group.forEach((group, row) => { if (group >= 0) groups.set(group, [...(groups.get(group) || []), row]); });
  return [...groups].sort(([a], [b]) => a - b).map(([, members]) => members);
}

function unnamedView(page) {
  const groups = novelGroups();
  const pages = Math.max(1, Math.ceil(groups.length / GROUPS));
  const button = (word, to) => {
    const made = element("button", { type: "button" }, word);
    made.disabled = to < 0 || to >= pages;
    made.addEventListener("click", () => { window.location.hash = `#unnamed/${to}`; });
    return made;
  };
  const pager = element("div", { class: "pager" }, button("‹ Previous", page - 1), element("span", {}, `Page ${page + 1} of ${pages}`), button("Next ›", page + 1));
  const said = `${counted(data.group.filter((group) => group >= 0).length)} latents in ${counted(groups.length)} groups of near copies. Their ${EXAMPLES} are more alike than random ones, and no label fits.`;
  const how = "Type a name or take a proposal: it is that of all latents of the group. Save names.csv into the folder of the run, and reports, explanations, audits and comparisons use it.";
  return [heading(["No name yet"], element("span", { class: "beside" }, saveButton())), element("p", {}, said), element("p", { class: "quiet" }, how),
    ...groups.slice(page * GROUPS, (page + 1) * GROUPS).map(groupPart), ...(pages > 1 ? [pager] : [])];
}

function groupPart(members) {
  const part = element("section", { class: "part novel-group" });
  const draw = () => {
    const [first] = members;
    const more = members.length > 1 ? [element("span", { class: "quiet" }, " · near copies: "), ...members.slice(1, 9).flatMap((row) => [element("a", { href: `#latent/${data.latent[row]}` }, String(data.latent[row])), " "]), ...(members.length > 9 ? [`and ${members.length - 9} more`] : [])] : [];
    const places = examplesOf(first);
    const shown = data.texts.length ? shots(places.slice(0, 3)) : element("div", { class: "strip" }, ...places.map((place) => imageLink(place, imageTitle(place))));
    const field = nameField(members, draw);
    part.replaceChildren(shown, element("p", {}, latentLink(first), element("span", { class: "quiet" }, ` latent ${data.latent[first]} `), ...more),
      ...proposalsPart(first, (name) => { field.value = name; field.dispatchEvent(new Event("change")); }), field);
  };
  draw();
  return part;
}

function proposalsPart(row, take) {
  const found = data.proposals[data.latent[row]] || [];
  if (!found.length) return [];
  const lines = found.map(([name, source, validity, , firing, evidence]) => {
    const button = element("button", { type: "button", title: "use this name" }, element("bdi", {}, name));
    button.addEventListener("click", () => take(name));
    return element("tr", {}, element("td", {}, button), element("td", { class: "quiet" }, source), element("td", { class: "number" }, validity === null ? "" : validity.toFixed(2)),
      element("td", { class: "quiet evidence" }, `${evidence}; held out: ${counted(firing)} that fire`));
  });
  const [, , , label] = found[0];
  if (label !== null) lines.push(element("tr", { class: "quiet" }, element("td", {}, element("bdi", {}, judgedLabel(row))), element("td", {}, "its label"), element("td", { class: "number" }, label.toFixed(2)), element("td", {})));
  return [element("table", { class: "proposals" }, element("thead", {}, element("tr", {}, ...["proposed", "from", "validity", "why"].map((word) => element("th", { scope: "col" }, word)))), element("tbody", {}, ...lines))];
}

// On the page of a latent.
function namingPart(row) {
  const draw = () => route();
  const field = nameField([row], draw);
  return titled("Its name", own.has(data.latent[row]) ? "Given by a person." : "", ...proposalsPart(row, (name) => { giveName(row, name); draw(); }),
    element("div", { class: "naming" }, field, ...(own.size ? [saveButton()] : [])));
}

window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
