"""Run folders with known numbers."""

import hashlib
import json

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from lightning_sae.runs.image_latents import save_image_latents
from lightning_sae.types import SparseLatents

CONFIG = {
    "clip": {"_target_": "f", "model": "M"},
    "sae": {"_target_": "TopK", "k": 16},
    "task": "fit",
    "run_dir": "${hydra:runtime.output_dir}",
    "trainer": {"max_steps": 100},
    "logger": {"csv": {"_target_": "g"}},
    "callbacks": {
        "latent_table": {"sort_by": "attribution"},
        "save_sae": {"every_validation": False},
        "reliance": {"min_images": 20},
    },
}


def write_run(
    folder, metrics=None, config=None, choices=None, overrides=(), tables=None, latents=None, images=("A", 0)
):
    """A finished run: `metrics` are its last values, `latents` `[n, d_sae]` its image latents."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.merge(CONFIG, config or {}), folder / ".hydra" / "config.yaml")
    hydra = {"hydra": {"runtime": {"choices": {"clip": "a", "hydra/launcher": "basic", **(choices or {})}}}}
    OmegaConf.save(OmegaConf.create(hydra), folder / ".hydra" / "hydra.yaml")
    OmegaConf.save(OmegaConf.create(list(overrides)), folder / ".hydra" / "overrides.yaml")
    last = {"val/fvu": 0.1, "val/l0": 16.0, **(metrics or {})}
    first = dict.fromkeys(last, 9.0)
    pd.DataFrame([{"step": 9, **first}, {"step": 99, **last}, {"step": 99, "train/loss": 0.5}]).to_csv(
        folder / "metrics.csv", index=False
    )
    tables = {"latents": pd.DataFrame({"latent": [0], "density": [0.5]}), **(tables or {})}
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    (folder / "sae").mkdir()
    clip = {"model": "M", "pretrained": "p", "weights": hashlib.sha256(folder.name.encode()).hexdigest()}
    (folder / "sae" / "cfg.json").write_text(json.dumps({"provenance": {"clip": clip}}))
    if latents is not None:
        sparse = SparseLatents.from_dense(torch.as_tensor(latents))
        save_image_latents(folder, sparse, torch.arange(len(latents)), {"name": images})
    return folder


@pytest.fixture
def write_picture():
    def write(folder):
        (folder / "pictures").mkdir()
        Image.new("RGB", (40, 20), "red").save(folder / "pictures" / "gallery.png")

    return write
