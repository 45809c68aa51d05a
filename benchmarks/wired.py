"""A vision transformer whose circuits are known, because its weights were written by hand.

Pictures of 2 x 2 patches show features in patches. The block between the two hook points computes from them
`a and b`, `c or d` and `e but f` (half of which f takes away), carries `g` from patches to the class token by
attention, and copies `dark`, which the earlier autoencoder does not know, and `constant`, which no picture
changes. All features stay in the residual stream as well.
"""

import json
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from lightning_sae.attribution.edges.edges import Edges
from lightning_sae.attribution.edges.layers import Layer
from lightning_sae.attribution.edges.targets import Targets
from lightning_sae.clip import Clip, HookPoint, load_clip
from lightning_sae.sae import JumpReLU

EARLY = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
LATE = (*EARLY, "a and b", "c or d", "e but f", "g seen", "dark copied", "constant")
SOURCES = {
    **{feature: {feature} for feature in EARLY},
    "a and b": {"a", "b"},
    "c or d": {"c", "d"},
    "e but f": {"e", "f"},
    "g seen": {"g"},
    "dark copied": set(),
    "constant": set(),
}
"""The early latents that make each late one; the last two come from the error and from the bias."""

WIDTH, PATCH, SIDE, SHARP = 64, 8, 2, 20.0
DIM = {name: place for place, name in enumerate((*LATE, "dark", "class token", "plus", "minus"))}
LEVEL = 30.0  # of the two dimensions that no picture changes: they alone make the norm's denominator
SEEN = 8.0  # by how much attention prefers a patch with g
FIRST, SECOND = (HookPoint(f"visual.transformer.resblocks.{block}", "all") for block in (0, 1))


class Wired(NamedTuple):
    """The model, its two layers and some pictures.

    Attributes:
        clip: with two blocks: one that does nothing, and the wired one.
        layers: both hook points, with autoencoders whose latents are `EARLY` and `LATE`.
        inputs: `[n, 3, 16, 16]`.
    """

    clip: Clip
    layers: list[Layer]
    inputs: Tensor


def wired(n: int = 64, seed: int = 0) -> Wired:
    """Return the model in float64 with `n` random pictures, in which a third of the features are present."""
    clip = _model()
    return Wired(clip, [Layer(FIRST, _sae(EARLY)), Layer(SECOND, _sae(LATE))], _pictures(n, seed))


def _pictures(n: int, seed: int) -> Tensor:
    """Return pictures with the features at pixels of their own in each patch, `0.8..1.2` where present."""
    random = torch.Generator().manual_seed(seed)
    names = (*EARLY, "dark")
    shape = n, len(names), SIDE, SIDE
    strength = 0.8 + 0.4 * torch.rand(shape, generator=random, dtype=torch.float64)
    features = strength * (torch.rand(shape, generator=random) < 1 / 3)
    pixels = torch.zeros(n, 3, SIDE, PATCH, SIDE, PATCH, dtype=torch.float64)
    for place, _ in enumerate(names):
        pixels[:, 0, :, place // PATCH, :, place % PATCH] = features[:, place]
    return pixels.view(n, 3, SIDE * PATCH, SIDE * PATCH)


@torch.no_grad()
def _model() -> Clip:
    config = {
        "embed_dim": WIDTH,
        "vision_cfg": {
            "layers": 2,
            "width": WIDTH,
            "head_width": WIDTH,
            "patch_size": PATCH,
            "image_size": SIDE * PATCH,
            "no_ln_pre": True,
            "mlp_ratio": 1.0,
        },
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    with TemporaryDirectory() as folder:
        path = Path(folder) / "wired.json"
        path.write_text(json.dumps(config))
        with warnings.catch_warnings(action="ignore"):  # of random weights
            clip = load_clip(path).double()
    visual = clip.visual
    for block in visual.transformer.resblocks:
        for parameter in (*block.attn.parameters(), *block.mlp.parameters()):
            parameter.zero_()
    for parameter in (visual.conv1.weight, visual.class_embedding, visual.positional_embedding):
        parameter.zero_()
    for place, name in enumerate((*EARLY, "dark")):
        visual.conv1.weight[DIM[name], 0, place // PATCH, place % PATCH] = 1
    visual.positional_embedding[:, DIM["plus"]] = LEVEL
    visual.positional_embedding[:, DIM["minus"]] = -LEVEL
    visual.positional_embedding[0, DIM["class token"]] = 1
    _wire(visual.transformer.resblocks[1])
    return clip


def _wire(block: torch.nn.Module) -> None:
    spread = LEVEL * (2 / WIDTH) ** 0.5
    for norm in (block.ln_1, block.ln_2):
        norm.weight.fill_(spread)  # so that what comes out is about what came in
    query, key, value = (block.attn.in_proj_weight[i * WIDTH : (i + 1) * WIDTH] for i in range(3))
    query[0, DIM["class token"]] = SEEN * WIDTH**0.5
    key[0, DIM["g"]] = 1
    value[1, DIM["g"]] = 1
    block.attn.out_proj.weight[DIM["g seen"], 1] = 1
    units = [
        ({"a": 1, "b": 1}, -1.4, {"a and b": 2}),
        ({"c": 1, "d": 1}, -0.2, {"c or d": 1}),
        ({"c": 1, "d": 1}, -1.4, {"c or d": -1}),
        ({"e": 1, "f": -0.5}, 0.0, {"e but f": 1}),
        ({"dark": 1}, -0.2, {"dark copied": 1}),
        ({"plus": 1 / LEVEL}, 0.0, {"constant": 1}),
    ]
    for unit, (reads, bias, writes) in enumerate(units):
        block.mlp.c_fc.bias[unit] = SHARP * bias
        for name, weight in reads.items():
            block.mlp.c_fc.weight[unit, DIM[name]] = SHARP * weight
        for name, weight in writes.items():
            block.mlp.c_proj.weight[DIM[name], unit] = weight / SHARP


@torch.no_grad()
def _sae(names: tuple[str, ...]) -> JumpReLU:
    """Return an autoencoder whose latents are directions of the residual stream."""
    sae = JumpReLU(WIDTH, len(names), l0_weight=1.0, threshold=0.3).double()
    rows = torch.eye(WIDTH, dtype=torch.float64)[[DIM[name] for name in names]]
    sae.W_dec.copy_(rows)
    sae.encoder.copy_(rows)
    sae.b_dec[DIM["plus"]], sae.b_dec[DIM["minus"]] = LEVEL, -LEVEL
    return sae.eval()


def recovered(edges: Edges, targets: Targets) -> pd.DataFrame:
    """Return a row per pair of latents that were active on one picture: how strong its edges are.

    Args:
        edges: from the earlier layer to the later one.
        targets: theirs.

    Returns:
        Columns `source` and `target` (names), `mean` and `strength` (mean edge and mean magnitude over the
        pictures with both), `wired` (whether it is in `SOURCES`).
    """
    rows = {
        "target": [LATE[j] for j in targets.node[edges.pairs.target].tolist()],
        "source": [EARLY[i] for i in edges.pairs.source.tolist()],
        "mean": edges.pairs.value.tolist(),
        "strength": edges.pairs.value.abs().tolist(),
    }
    table = pd.DataFrame(rows).groupby(["target", "source"]).mean().reset_index()
    wired = [
        source in SOURCES[target] for target, source in zip(table["target"], table["source"], strict=True)
    ]
    return table.assign(wired=wired)
