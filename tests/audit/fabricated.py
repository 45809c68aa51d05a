"""Audits and run folders that nobody trained, for the page."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from lightning_sae.audit.estimate import Estimate
from lightning_sae.audit.findings import (
    Audit,
    Change,
    ClassResult,
    Culprit,
    Effect,
    EvidenceTest,
    Finding,
    GroupGap,
    Severity,
    Subject,
)
from lightning_sae.audit.origins.origin import CulpritOrigin, CulpritSource, Origin, SharedSources
from lightning_sae.audit.origins.words import summarise_origin
from lightning_sae.concepts.naming import name_columns, names_of
from lightning_sae.runs.folder import RunFolder

HOSTILE = (
    "</script><script>window.ran = 1</script>",
    '<img src=x onerror="window.ran = 2">\'',
    "{{ 7 * 7 }}{% raw %}${window.ran = 3}",
    "\u202e\u05e9\u05dc\u05d5\u05dd right to left \u0645\u0631\u062d\u0628\u0627",
    "long" * 200,
    "\U0001f98a\U0001f3f3\ufe0f\u200d\U0001f308 emoji\x00\x1b[31m",
)


def subject(**changes: Any) -> Subject:
    """Of a run that does not exist."""
    values = {
        "run": "world_biased",
        "clip": "world ViT, weights biased",
        "hook_point": "visual.transformer.resblocks.3",
        "tokens": "cls",
        "classifier": "prompts",
        "output": "margin",
        "judge": "world ViT, weights balanced",
        "judge_independent": True,
        "data": "world",
        "images": 4000,
        "accuracy": 0.6521,
        "fvu": 0.0731,
    }
    return Subject(**{**values, **changes})


def estimate(value: float, low: float, high: float) -> Estimate:
    """A value with its interval."""
    return Estimate(value=value, low=low, high=high)


HARMS: dict[Severity, Estimate] = {
    "high": estimate(0.24, 0.21, 0.27),
    "medium": estimate(0.05, 0.03, 0.07),
    "low": estimate(0.01, 0.002, 0.02),
}


def culprit(latent: int, label: str, examples: tuple[int, ...] = (0, 1, 2), **changes: Any) -> Culprit:
    """One that drives its class and does not mean it."""
    values = {
        "named": label != "",
        "alignment": 0.19,
        "p_value": 0.001,
        "agreement": -0.316,
        "p_random": 0.41,
        "p_class": 0.002,
        "net": estimate(0.051, 0.038, 0.064),
        "attribution": 2.963,
        "share": 0.898,
        "score": 0.898,
    }
    return Culprit(latent=latent, label=label, examples=examples, **{**values, **changes})


def finding(
    number: int,
    class_name: str,
    culprits: tuple[Culprit, ...],
    severity: Severity = "high",
    **changes: Any,
) -> Finding:
    """One with two tests, a full effect and advice; its harm is as severe as it is."""
    values: dict[str, Any] = {
        "kind": "spurious",
        "severity": severity,
        "harm": HARMS[severity],
        "harm_of": "other images with background=brown that are taken for it",
        "confidence": 0.93,
        "share": min(1.0, sum(c.share for c in culprits)),
        "images": 482,
        "evidence": (
            EvidenceTest(
                name="word_auroc",
                value=0.52,
                threshold=0.9,
                passed=False,
                meaning="The latent does not tell pictures of the class's word from neutral ones.",
            ),
            EvidenceTest(
                name="class_auroc",
                value=0.497,
                p_value=0.41,
                meaning="Nor does it tell the class's images from others on the same background.",
            ),
        ),
        "effect": Effect(
            net=estimate(0.047, 0.036, 0.058),
            cue="background=brown",
            balanced=True,
            accuracy=Change(images=169, as_it_is=0.5621, without=0.5621),
            false_positives=Change(images=3831, as_it_is=0.1010, without=0.0055),
            cue_false_positives=Change(images=1290, group="background=brown", as_it_is=0.25, without=0.0101),
            plain_accuracy=Change(images=41, group="not background=brown", as_it_is=0.1, without=0.12),
            worst_group=Change(images=32, group="background=gray", as_it_is=0.0, without=0.0),
        ),
        "summary": f"“{class_name}” is driven by “{culprits[0].label}”, which does not mean it.",
        "advice": ("Collect pictures of the class on other backgrounds.", "Export a correction."),
    }
    return Finding(number=number, class_name=class_name, culprits=culprits, **{**values, **changes})


def origin(culprits: tuple[Culprit, ...], label: str = "edges", **changes: Any) -> Origin:
    """At an earlier block: one source of each culprit, and the same of the class's own latents."""
    traced = tuple(
        CulpritOrigin(
            latent=one.latent,
            images=40,
            sources=(CulpritSource(latent=5, label=label, named=label != "", share=0.41),),
            latents=0.8,
            error=0.07,
            outside=0.05,
            bias=0.08,
        )
        for one in culprits
    )
    shared = SharedSources(own=(11,), overlap=0.12, random=0.2, high=0.31, p_value=0.9)
    values: dict[str, Any] = {
        "layer": "resblocks.2",
        "hook_point": "visual.transformer.resblocks.2",
        "tokens": "all",
        "folder": "layers/resblocks.2",
        "sae_sha256": "0" * 64,
        "culprits": traced,
        "shared": shared,
        "summary": summarise_origin("resblocks.2", "resblocks.3", culprits, traced, shared),
    }
    return Origin(**{**values, **changes})


def result(name: str, findings: tuple[int, ...] = (), **changes: Any) -> ClassResult:
    """Of a class with findings, or without."""
    values = {
        "prompts": (f"a photo of a {name}",),
        "verdict": "findings" if findings else "no findings",
        "images": 120,
        "accuracy": 0.7,
        "told": 0.97,
        "unexpected_share": 0.9 if findings else 0.02,
    }
    return ClassResult(name=name, findings=findings, **{**values, **changes})


def group_gap(group: str, **changes: Any) -> GroupGap:
    """Of a class that is taken for wrongly more often in a group."""
    values: dict[str, Any] = {
        "measure": "false_positives",
        "images": 310,
        "share": 0.25,
        "elsewhere": 0.01,
        "gap": estimate(0.24, 0.19, 0.29),
        "p_value": 1e-9,
    }
    return GroupGap(group=group, **{**values, **changes})


def audit(classes: tuple[ClassResult, ...], findings: tuple[Finding, ...] = (), **changes: Any) -> Audit:
    """Of a subject with changes."""
    return Audit(library_version="0.1.0", subject=subject(**changes), classes=classes, findings=findings)


def latent_table(n: int, labels: tuple[str, ...], classes: tuple[str, ...], images: int) -> pd.DataFrame:
    """`latents.csv` of `n` latents with known columns: attribution falls with the number."""
    generator = np.random.default_rng(0)
    latent = np.arange(n)
    unexpected = np.where(latent % 3 == 0, 1.0 / (1 + latent), 0.0)
    return pd.DataFrame(
        {
            "density": generator.random(n),
            "label": [labels[j % len(labels)] for j in latent],
            "alignment": generator.normal(0.15, 0.05, n),
            "second_label": [labels[(j + 1) % len(labels)] for j in latent],
            "p": generator.random(n),
            "validity": generator.random(n),
            "clarity": generator.random(n),
            "named": latent % 2 == 0,
            "attribution": 1.0 / (1 + latent),
            "attribution_class": [classes[j % len(classes)] for j in latent],
            "unexpected": unexpected,
            "unexpected_class": [classes[j % len(classes)] if u else "" for j, u in enumerate(unexpected)],
            "top_images": [" ".join(map(str, row)) for row in generator.integers(images, size=(n, 8))],
        },
        index=pd.Index(latent, name="latent"),
    )


def noise_images(n: int, side: int = 64) -> list[Image.Image]:
    """Pictures that no codec makes small."""
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(256, size=(side, side, 3), dtype=np.uint8)) for _ in range(n)]


def run_folder(folder: Any, latents: pd.DataFrame, classes: tuple[str, ...], images: Any) -> RunFolder:
    """A run with latents, curves and the rows of `attribution.csv`, and data that only has images."""
    folder.mkdir(exist_ok=True)
    steps = range(0, 2500, 100)
    pd.DataFrame(
        {
            "step": [*steps, 2499],
            "train/loss": [*(math.exp(-step / 500) for step in steps), math.nan],
            "val/fvu": [math.nan, 0.4, *[math.nan] * 10, 0.2, *[math.nan] * 12, 0.1],
        }
    ).to_csv(folder / "metrics.csv", index=False)
    names = name_columns(names_of(latents))
    shares = [0.6, 0.3, 0.1][: len(latents)]
    pd.DataFrame(
        [
            {"class": c, "latent": j, "attribution": 3 * s, "share": s}
            | {key: column[j] for key, column in names.items()}
            for c in classes
            for j, s in enumerate(shares)
        ]
    ).to_csv(folder / "attribution.csv", index=False)
    data = SimpleNamespace(
        images=lambda split: images,
        class_names=list(classes),
        prompts=[[f"a photo of a {c}"] for c in classes],
    )
    run = RunFolder(folder)
    run.data, run.latents = data, latents  # type: ignore[assignment]
    return run
