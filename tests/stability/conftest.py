"""Runs of one recipe with several seeds, made by hand."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from lightning_sae.runs.image_latents import save_image_latents
from lightning_sae.sae import TopK, save_sae
from lightning_sae.types import SparseLatents

D_IN = 40
CONFIG = {
    "sae": {"_target_": "TopK", "k": 4},
    "task": "fit",
    "logger": {"csv": {"_target_": "g"}},
    "callbacks": {"latent_table": {"sort_by": "attribution"}, "save_sae": {"every_validation": False}},
}


@pytest.fixture
def write_seed(tmp_path):
    """A finished run: for each of its concepts a latent of one direction that fires on ten images."""

    def write(seed, concepts, config=None, images="A", masses=None):
        folder = tmp_path / "runs" / str(seed)
        (folder / ".hydra").mkdir(parents=True)
        merged = OmegaConf.merge(CONFIG, {"seed": seed, "data": {"seed": "${seed}"}}, config or {})
        OmegaConf.save(merged, folder / ".hydra" / "config.yaml")
        pd.DataFrame([{"step": 9, "val/fvu": 0.1, "val/l0": 4.0}]).to_csv(folder / "metrics.csv", index=False)
        names = pd.DataFrame({"latent": range(len(concepts)), "density": 0.1, "named": True})
        names["label"] = [f"concept {c}" for c in concepts]
        names["attribution_mass"] = masses or [1.0] * len(concepts)
        names.to_csv(folder / "latents.csv", index=False)
        sae = TopK(d_in=D_IN, d_sae=len(concepts), k=1)
        with torch.no_grad():
            sae.W_dec.copy_(torch.eye(D_IN)[concepts])
        save_sae(sae, folder / "sae", {"clip": {"model": "M", "pretrained": "p", "weights": "w"}})
        firing = np.repeat(np.eye(D_IN, dtype=np.float32), 10, axis=0)[:, concepts]
        latents = SparseLatents.from_dense(torch.from_numpy(firing))
        save_image_latents(folder, latents, torch.arange(len(firing)), {"name": images})
        return folder

    return write


@pytest.fixture
def write_findings():
    """An `audit.json` with a finding for each (class, kind, latents)."""

    def write(folder, *findings, **subject):
        about = {
            "run": folder.name,
            "clip": "C",
            "hook_point": "h",
            "tokens": "cls",
            "classifier": "prompts",
            "output": "margin",
            "judge": "J",
            "judge_independent": True,
            "data": "D",
            "images": 400,
            "accuracy": 0.5,
            "fvu": 0.1,
        }
        content = {
            "schema_version": 2,
            "library_version": "0",
            "subject": about | subject,
            "classes": [],
            "findings": [_finding(n, *one) for n, one in enumerate(findings, 1)],
        }
        (folder / "audit.json").write_text(json.dumps(content))

    return write


def _finding(number, class_name, kind, latents):
    estimate = {"value": 0.2, "low": 0.15, "high": 0.25}
    culprit = {
        "label": "cue",
        "named": True,
        "alignment": 0.2,
        "p_value": None,
        "agreement": 0.0,
        "net": None,
        "p_random": None,
        "p_class": None,
        "attribution": 1.0,
        "share": 0.5,
        "score": 0.5,
        "examples": [],
    }
    return {
        "number": number,
        "class_name": class_name,
        "kind": kind,
        "severity": "high",
        "harm": estimate,
        "harm_of": "images",
        "confidence": 1.0,
        "share": 0.5,
        "images": 100,
        "evidence": [],
        "effect": {},
        "summary": "",
        "advice": [],
        "culprits": [culprit | {"latent": latent} for latent in latents],
    }
