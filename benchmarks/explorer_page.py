"""The page of a large run in a browser: `python benchmarks/explorer_page.py`.

30,000 latents over 50,000 images of 1,000 classes, none of them real: random activations, pictures of smooth
colours under noise. Says how large the page is, when it can be used, and how long a search, a change of the
order and a view take, the median of several, in Debian's headless Chromium.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from lightning_sae.attribution.explained import Explained
from lightning_sae.audit.evidence.evidence_pass import SplitView
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.clip import HookPoint, load_clip, make_tail
from lightning_sae.explorer.page import page
from lightning_sae.explorer.seen import Classified, Seen
from lightning_sae.runs.folder import RunFolder
from lightning_sae.types import SparseLatents
from lightning_sae.world import config_path, weights_path

K, TOP, WIDTH = 32, 20, 128
SEARCHES = ("the word 1", "colour 77", "thing", "12345", "")
TYPED = "box.dispatchEvent(new Event('input'))"
VIEWS = ("latent/17", "class/3", "classes", "images")


class Pictures:
    """Smooth colours under noise, each drawn when it is asked for."""

    def __init__(self, n: int, n_classes: int) -> None:
        self.n, self.targets = n, torch.arange(n) % n_classes

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Image.Image:
        random = np.random.default_rng(i)
        small = Image.fromarray(random.integers(0, 255, (4, 4, 3), np.uint8))
        smooth = np.asarray(small.resize((96, 96), Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + random.integers(-12, 12, smooth.shape)
        return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def latent_table(n: int, n_images: int, classes: list[str]) -> pd.DataFrame:
    random = np.random.default_rng(0)
    latent = np.arange(n)
    words = np.array(["thing", "colour", "the word", "background"])
    labels = [f"{word} {j % 9000}" for word, j in zip(words[latent % 4], latent, strict=True)]
    driven = [classes[j % len(classes)] for j in latent]
    numbers = {
        name: random.random(n) for name in ("alignment", "margin", "p", "validity", "clarity", "density")
    }
    return pd.DataFrame(
        {
            **numbers,
            "label": labels,
            "second_label": labels[::-1],
            "named": latent % 2 == 0,
            "attribution": random.exponential(1, n),
            "attribution_class": driven,
            "unexpected": np.where(latent % 3 == 0, random.random(n), 0),
            "unexpected_class": driven,
            "top_images": [" ".join(map(str, row)) for row in random.integers(n_images, size=(n, TOP))],
        },
        index=pd.Index(latent, name="latent"),
    )


def drivers(classes: list[str], n: int) -> pd.DataFrame:
    random = np.random.default_rng(1)
    rows = [
        {"class": name, "latent": int(j), "attribution": float(random.random()), "share": 0.1}
        for name in classes
        for j in random.choice(n, 10, replace=False)
    ]
    return pd.DataFrame(rows)


def fabricated(d_sae: int, n_images: int, n_classes: int) -> tuple[RunFolder, Seen]:
    """Return a run that nobody trained, and what is known of its images."""
    random = torch.Generator().manual_seed(0)
    clip = load_clip(config_path(), weights_path("biased"))
    tail = make_tail(clip, HookPoint("visual.transformer.resblocks.3", "cls"))
    classes = [f"class {c}" for c in range(n_classes)]
    indices = torch.rand(n_images, 64, generator=random).mul(d_sae).long().sort(1).values
    kept = torch.cat([torch.ones(n_images, 1).bool(), indices.diff(dim=1) > 0], 1)
    counts = kept.sum(1).clamp(max=K)
    place = kept.cumsum(1)
    flat = indices[kept & (place <= K)]
    values = torch.rand(len(flat), generator=random) * 3
    latents = SparseLatents(values, flat, torch.cat([torch.zeros(1).long(), counts.cumsum(0)]), d_sae)
    x = torch.randn(n_images, 1, WIDTH, generator=random)
    W_dec = torch.randn(d_sae, WIDTH, generator=random) / WIDTH**0.5
    embeddings = tail(x, None).detach()
    weight = 100 * torch.nn.functional.normalize(
        torch.randn(n_classes, embeddings.shape[1], generator=random)
    )
    classifier = Classifier(weight, torch.zeros(n_classes), classes, [[name] for name in classes])
    ids = torch.arange(n_images)
    explained = Explained(tail, W_dec, x, x, latents, image_ids=ids)
    attributions = latents.with_values(torch.randn(len(values), generator=random))
    predicted = classifier.predict(embeddings)
    view = SplitView(latents, predicted, embeddings, ids, [explained], attributions, 0.1)
    images = Pictures(n_images, n_classes)
    run: Any = RunFolder(tempfile.mkdtemp())
    shape = SimpleNamespace(tokens=1)
    prompts = [[f"a photo of {name}"] for name in classes]
    run.data = SimpleNamespace(
        images=lambda split: images,
        class_names=classes,
        prompts=prompts,
        clip=clip,
        shape=shape,
        modules=["visual.transformer.resblocks.3"],
    )
    run.sae = SimpleNamespace(W_dec=W_dec, d_sae=d_sae)
    run.latents = latent_table(d_sae, n_images, classes)
    made = {"clip": clip.identity(), "hook_point": "visual.transformer.resblocks.3", "tokens": "cls"}
    run.card = {"provenance": made, "variant": "TopK", "d_sae": d_sae}
    run._tables = {
        "attribution": drivers(classes, d_sae),
        "reliance": pd.DataFrame(),
        "metrics": pd.DataFrame(),
    }
    return run, Seen(latents, ids, images.targets, Classified(classifier, classifier.scores("margin"), view))


def chromium() -> Any:
    """Return Debian's Chromium without a window."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    return webdriver.Chrome(options, Service("/usr/bin/chromedriver"))


def timed(driver: Any, script: str) -> float:
    """Return milliseconds of a script, the layout after it included."""
    before, after = "const start = performance.now()", "document.body.offsetHeight"
    return float(driver.execute_script(f"{before}; {script}; {after}; return performance.now() - start"))


def typed(word: str) -> str:
    """Return the script that types a word into the search box."""
    return f"const box = document.getElementById('search'); box.value = '{word}'; {TYPED}"


def measure(path: Path, opens: int) -> dict[str, float]:
    """Return what a reader waits for, in milliseconds."""
    driver, found = chromium(), {}
    try:
        ready = []
        for _ in range(opens):
            driver.get("about:blank")
            driver.get(path.as_uri())
            while not driver.execute_script("return document.body.dataset.ready"):
                time.sleep(0.01)
            ready.append(float(driver.execute_script("return performance.now()")))
        found["open"] = median(ready)
        driver.execute_script("location.hash = '#latents'")
        found["search"] = max(median(timed(driver, typed(word)) for _ in range(5)) for word in SEARCHES)
        found["order"] = median(timed(driver, "document.getElementById('order').click()") for _ in range(6))
        for view in VIEWS:
            moved = f"location.hash = '#{view}'; window.dispatchEvent(new Event('hashchange'))"
            found[view] = median(timed(driver, moved) for _ in range(5))
    finally:
        driver.quit()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latents", type=int, default=30_000)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--opens", type=int, default=5)
    parser.add_argument("--out", type=Path, help="keep the page there")
    options = parser.parse_args()
    start = time.perf_counter()
    run, seen = fabricated(options.latents, options.images, options.classes)
    text = page(run, seen, run.folder)
    print(f"written in {time.perf_counter() - start:.0f} s: {len(text.encode()) / 1e6:.1f} MB")
    path = options.out or Path(tempfile.mkdtemp()) / "report.html"
    path.write_text(text, encoding="utf-8")
    for name, milliseconds in measure(path.resolve(), options.opens).items():
        print(f"{name:>16}  {milliseconds:7.0f} ms")


if __name__ == "__main__":
    main()
