"""ViSAEBench's scores of a run beside ours: `python benchmarks/visaebench_scores.py RUN`.

RUN is a run on patch tokens, as `python train.py hook_point=visual.transformer.resblocks.1 tokens=patch`
makes it. In an environment of its own, as its dependencies are many:

    python -m venv peers && peers/bin/pip install -e . visaebench==0.1.0
    peers/bin/python benchmarks/visaebench_scores.py RUN

ViSAEBench (https://github.com/vraj130/visaebench, Apache-2.0) is imported as it is published; its scores get
the exported autoencoder in its own class, and the activations of the run's validation images.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from exported import Exported, Line, compare_with, saelens_parts
from torch import Tensor

from lightning_sae.clip.sight import token_grid
from lightning_sae.metrics import fvu, l0, max_over_tokens, monosemanticity, morans_i
from lightning_sae.metrics.token_maps import TokenMaps

CANNOT = {
    "M6 cross-domain": "it fetches EuroSAT and DTD, and extracts them with a backbone of its own list",
    "M7 absorption": "its pairs are of ImageNet's 1,000 classes",
}
ACTIVE = (5, 0.9)  # patches of a map, at least, and at most as a share: its own defaults


class Judge:
    """The run's judge as a backbone of ViSAEBench: its images are indices of known embeddings."""

    def __init__(self, embeddings: Tensor) -> None:
        self.embeddings = embeddings

    def extract_activations(self, images: Sequence[int], *, layer: int = -1) -> Tensor:
        """Return `[n, 1, d]`."""
        return self.embeddings[torch.tensor(images)][:, None]


def generic_sae(exported: Exported, mean: Tensor, std: float) -> Any:
    """Return the export as ViSAEBench's own class, on activations less their mean, over their spread."""
    from visaebench import GenericSAE

    config, tensors = saelens_parts(exported)
    kind = {"topk": "topk", "jumprelu": "jumprelu", "standard": "jumprelu"}.get(config["architecture"])
    if kind is None or config["normalize_activations"] != "none":
        raise SystemExit(f"ViSAEBench has no {config['architecture']} autoencoder: take another run")
    rows, shift = tensors["W_enc"].T, mean - tensors["b_dec"]
    state = {
        "encoder.weight": rows * std,
        "encoder.bias": tensors["b_enc"] + rows @ shift,
        "decoder.weight": tensors["W_dec"] / std,
        "decoder.bias": -shift / std,
        "thresholds": tensors.get("threshold", torch.zeros(len(rows))),
    }
    return GenericSAE({"activation": kind, "k": config.get("k")}, state)


def per_latent(maps: TokenMaps, n_patches: int, d_sae: int) -> Tensor:
    """Return the mean of Moran's I of each latent, `[d_sae]`, over the maps that ViSAEBench counts."""
    least, most = ACTIVE
    counted = (maps.n_active >= least) & (maps.n_active <= int(most * n_patches)) & ~maps.morans_i.isnan()
    mine, values = maps.latents[counted], maps.morans_i[counted]
    return torch.zeros(d_sae).double().index_add_(0, mine, values) / mine.bincount(minlength=d_sae)


def localisation(exported: Exported, sae: Any, grid: tuple[int, int], given: dict[str, Any]) -> list[Line]:
    """Return Moran's I as a whole, and the largest difference of any latent's."""
    from visaebench.metrics.spatial_coherence import FeatureLocalization

    n, d_sae = grid[0] * grid[1], exported.latents.d_sae
    unlimited = {"min_images_per_feature": 1, "max_features": d_sae, "max_images_per_feature": 10**9}
    found = FeatureLocalization(grid_size=grid, **unlimited).compute(sae, exported.x, **given)
    theirs = torch.tensor([math.nan if i is None else i for i in found.metadata["per_feature_scores"]])
    ours = per_latent(morans_i(exported.latents, grid), n, d_sae)
    apart, named = (theirs - ours).abs().nan_to_num().max(), exported.run.metrics["spatial/morans_i"]
    return [
        ("M1 Moran's I", theirs.nanmean(), ours.nanmean(), "the same maps: 5 active patches to 90 %"),
        ("   largest difference", apart, 0.0, "of a latent, on the same maps"),
        ("   as it is logged", found.value, named, "`spatial/morans_i`: from 2 active patches on"),
    ]


@torch.no_grad()
def scores(exported: Exported) -> list[Line]:
    """Return all scores that can be computed."""
    from visaebench.metrics.concept_detection import MonosemanticityScore, SparseProbing
    from visaebench.metrics.reconstruction import FVU, DownstreamPreservation

    run, x, latents = exported.run, exported.tokens, exported.latents
    n_images, t, _ = exported.x.shape
    grid = token_grid(run.data.clip, t)
    if grid is None or t > grid[0] * grid[1]:
        raise SystemExit("ViSAEBench looks at patches: take a run with tokens=patch")
    mean, std = x.mean(0), float((x - x.mean(0)).square().mean().sqrt())
    given: dict[str, Any] = {"mean": mean, "std": std, "device": "cpu"}
    sae, judged, logged = generic_sae(exported, mean, std), run.data.judge_embeddings, run.metrics
    whole = FVU().compute(sae, x, dict_size=latents.d_sae, **given)
    pictures = {"images": range(n_images), "evaluator_backbone": Judge(judged)}
    mono = MonosemanticityScore(max_features=latents.d_sae).compute(sae, exported.x, **pictures, **given)
    labels = {"labels": exported.targets.numpy()}
    kept, probing = (
        score.compute(sae, exported.x, **labels, **given)
        for score in (DownstreamPreservation(), SparseProbing())
    )
    silent = 100 * (~latents.fired()).float().mean()
    images, _ = max_over_tokens(latents, torch.arange(n_images).repeat_interleave(t))
    spliced = logged.get("zero_shot/spliced", math.nan) / logged.get("zero_shot/original", math.nan)
    return [
        *localisation(exported, sae, grid, given),
        ("M2 FVU", whole.value, fvu(x, exported.x_hat), "theirs without (sum of the mean residual)²"),
        ("   L0", whole.metadata["l0"], l0(latents), "the same definition"),
        (
            "   silent on val, %",
            whole.metadata["dead_pct"],
            silent,
            "the same definition; `dead` is on train",
        ),
        ("M3 accuracy kept", kept.value, spliced, "zero-shot; theirs of a probe on pooled patches"),
        ("M4 sparse probing", probing.value, math.nan, "none that compares: ours is of one value at a time"),
        (
            "M5 monosemanticity",
            mono.value,
            monosemanticity(images, judged).nanmean(),
            "all images; theirs 16",
        ),
    ]


if __name__ == "__main__":
    compare_with("visaebench", "ViSAEBench", __doc__ or "", scores, CANNOT)
