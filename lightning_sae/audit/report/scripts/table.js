// The table: 25 rows at a time.

const PAGE = 25;
const COLUMNS = [
  { title: "examples", cell: examplesCell },
  { name: "latent", title: "latent", number: true, cell: (row) => String(data.latent[row]) },
  { name: "label", title: "name", cell: (row) => element("span", { class: "text" }, ...calledAs(row)) },
  numberColumn("alignment", "alignment"),
  numberColumn("attribution", "attribution"),
  { name: "driven", title: "drives", cell: (row) => element("bdi", { class: isUnexpected(row) ? "text bad" : "text" }, classOf(data.driven[row])) },
  numberColumn("unexpected", "unexpected"),
  numberColumn("density", "fires on"),
  { title: "findings", cell: (row) => element("span", {}, ...findingsOf(row).slice(0, 3).flatMap((n) => [findingLink(n), " "])) },
].filter((column) => !column.missing);

function numberColumn(name, title) {
  return { name, title, number: true, missing: !data.numbers[name], cell: (row) => aligned(number(name, row), name) };
}

function examplesCell(row) {
  const places = examplesOf(row);
  if (data.texts.length) return element("bdi", {}, places.length ? data.texts[places[0]] : "");
  return element("span", {}, ...places.slice(0, 4).map((place) => picture(place, `example of latent ${data.latent[row]}`)));
}

function findingLink(number) {
  return element("a", { class: "chip kind", href: `#finding-${number}` }, String(number));
}

function drawHeads(sort) {
  const heads = COLUMNS.map((column) => {
    const head = element("th", { scope: "col", class: `w-${column.name || column.title}${column.number ? " number" : ""}` });
    if (!column.name) return head.append(column.title), head;
    const button = element("button", { type: "button", "data-sort": column.name }, column.title);
    button.addEventListener("click", () => sort(column.name, Boolean(column.number) && column.name !== "latent"));
    return head.append(button), head;
  });
  document.getElementById("heads").replaceChildren(...heads);
}

function drawRows(rows, state, select) {
  for (const button of document.querySelectorAll("#heads button")) {
    const own = button.dataset.sort === state.sort;
    if (own) button.parentElement.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    else button.parentElement.removeAttribute("aria-sort");
  }
  const shown = rows.slice(state.page * PAGE, (state.page + 1) * PAGE);
  document.getElementById("rows").replaceChildren(...shown.map((row) => tableRow(row, state.selected, select)));
  const pages = Math.max(1, Math.ceil(rows.length / PAGE));
  document.getElementById("page").textContent = `Page ${state.page + 1} of ${pages}`;
  document.getElementById("previous").disabled = state.page === 0;
  document.getElementById("next").disabled = state.page + 1 >= pages;
  const all = data.latent.length;
  document.getElementById("status").textContent = rows.length === all ? `${all} latents` : `${rows.length} of ${all} latents`;
}

function tableRow(row, selected, select) {
  const kinds = (column) => [column.number && "number", column.cell === examplesCell && "examples-cell"].filter(Boolean).join(" ");
  const made = element("tr", { "data-latent": data.latent[row], tabindex: 0, class: row === selected ? "selected" : undefined },
    ...COLUMNS.map((column) => element("td", { class: kinds(column) || undefined }, column.cell(row))));
  made.addEventListener("click", (event) => { if (!event.target.closest("a")) select(row); });
  made.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target === made) select(row); });
  return made;
}
