// What the server answers: any image, prompts of one's own, images of one's own. Nothing leaves the machine.

let prompts = [];

async function asked(path, options) {
  const answer = await fetch(path, { ...options, headers: { "X-Explorer": "1", ...(options?.headers || {}) } });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

const query = (words) => words.map((word) => `prompt=${encodeURIComponent(word)}`).join("&");

// An image as the server sees it: one of the run's by its number, or one that was sent.
function fromServer(image, told) {
  const known = told.latents.map(({ latent, activation }, i) => ({ row: rowOfLatent(latent), activation, without: told.without[i] })).filter(({ row }) => row !== null);
  const body = (shares) => JSON.stringify({ image, prompts, latents: known.map(({ row }) => data.latent[row]), shares: Array.from(shares), classes: told.classes });
  const shown = element("img", { alt: told.title, src: told.picture });
  return explained({
    title: told.target < 0 ? told.title : `${told.title}: ${className(told.target)}`, target: told.target, exact: true, picture: shown, names: told.names, own: told.own, all: told.names.length === (prompts.length || data.records.length),
    latents: known, without: known.map(({ without }) => without),
    logits: async (shares) => (shares.some((share) => share > 0) ? (await asked("remove", { method: "POST", body: body(shares) })).logits : told.logits),
  });
}

async function showImage(image) {
  const here = window.location.hash;
  const showHere = (content) => { if (window.location.hash === here) show(content); }; // else the reader went on
  show([element("p", { class: "quiet" }, "…")]);
  try {
    const told = await asked(`image?image=${encodeURIComponent(image)}&${query(prompts)}`);
    showHere([...fromServer(image, told), promptForm(image)]);
  } catch (error) {
    showHere([heading(["This cannot be shown"]), element("p", { class: "warning" }, error.message), promptForm(image)]);
  }
}

function servedImage(image) {
  showImage(image);
  return [element("p", { class: "quiet" }, "…")];
}

// A box for the number of any image of the run.
function anyImage() {
  const box = element("input", { type: "number", min: 0, placeholder: "number of any image", "aria-label": "number of any image" });
  box.addEventListener("change", () => { if (box.value) window.location.hash = `#image/${box.value}`; });
  return box;
}

function promptForm(image) {
  const box = element("textarea", { rows: 3, "aria-label": "prompts, one a line", placeholder: "a photo of a star\na red background" });
  box.value = prompts.join("\n");
  const button = element("button", { type: "button", class: "ask" }, "Score these prompts");
  button.addEventListener("click", () => {
    prompts = box.value.split("\n").map((line) => line.trim()).filter(Boolean);
    showImage(image);
  });
  return titled("Prompts of your own", "One a line, in place of the classes; none: the classes.", element("div", { class: "prompt-form" }, box, button));
}

function uploadView() {
  const input = element("input", { type: "file", accept: "image/*", "aria-label": "an image" });
  const said = element("p", { class: "quiet" });
  input.addEventListener("change", async () => {
    const [file] = input.files;
    if (!file) return;
    said.textContent = `reading ${file.name} …`;
    try {
      const { image } = await asked("upload", { method: "POST", body: file });
      window.location.hash = `#image/${image}`;
    } catch (error) {
      said.textContent = error.message;
      said.className = "warning";
    }
  });
  return [heading(["An image of your own"]), element("p", {}, "It is read on this machine alone: which latents fire on it, and what each does to the scores."), input, said];
}
