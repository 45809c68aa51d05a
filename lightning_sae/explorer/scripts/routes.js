// What is shown for the part of the address behind #.

const views = {
  latent: (word) => latentView(Number(word)),
  unnamed: (word) => unnamedView(Number(word) || 0),
  classes: () => classesView(),
  class: (word) => classView(Number(word)),
  images: (word, kind) => imagesView(Number(word) || 0, kind === "wrong" ? "wrong" : "all"),
  image: (word) => imageView(word),
  upload: () => (data.served ? uploadView() : []),
};

const run = document.title;

function show(content) {
  at("view").replaceChildren(...content);
  const title = at("view").querySelector("h2");
  document.title = title ? `${title.textContent} · ${run}` : run;
}

function route() {
  const [name, ...words] = window.location.hash.slice(1).split("/");
  const view = Object.hasOwn(views, name) ? views[name] : null;
  const part = name === "latents" ? "latents" : "overview";
  at("view").hidden = !view;
  for (const id of ["overview", "latents"]) at(id).hidden = Boolean(view) || id !== part;
  for (const link of document.querySelectorAll("nav a")) {
    const own = { latent: "#latents", class: "#classes", image: "#images" }[name] || `#${name || "overview"}`;
    if (link.getAttribute("href") === own) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (view) show(view(...words));
  else {
    document.title = run;
    drawScatter(rows, selected);
  }
  window.scrollTo(0, 0);
}

at("app").hidden = false;
startGallery();
window.addEventListener("hashchange", route);
route();
document.body.dataset.ready = "true";
