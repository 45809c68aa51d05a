"""Trains the two tiny CLIPs of the world: `python -m lightning_sae.world.pretrain --edition biased`.

The weights that come with the package were made by these recipes.
"""

import argparse
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.lr_scheduler import OneCycleLR
from torchvision.transforms.functional import pil_to_tensor

from lightning_sae.devices.device import AUTO, use_device
from lightning_sae.progress import track
from lightning_sae.world.captions import Edition
from lightning_sae.world.card import write_card
from lightning_sae.world.weights import config_path, save_weights, weights_path
from lightning_sae.world.world import World, distractors


@dataclass(frozen=True)
class PretrainRecipe:
    """The settings that a tiny CLIP is trained with.

    Attributes:
        steps: optimiser steps.
        batch: pictures per step.
        pictures: size of the training split, drawn once.
        lr: peak learning rate; one cycle of warm-up and cosine decay.
        weight_decay: weight decay of both optimisers.
        strangers: texts per step that describe no picture.
        seed: of the initial weights, the pictures and their order.
        start: edition whose shipped weights the training starts from; "" for random weights.
    """

    steps: int
    batch: int
    pictures: int
    lr: float
    weight_decay: float
    strangers: int
    seed: int
    start: Edition | Literal[""]


RECIPES: dict[Edition, PretrainRecipe] = {
    "balanced": PretrainRecipe(
        2600, 256, 100_000, lr=3e-3, weight_decay=0.05, strangers=64, seed=0, start=""
    ),
    # from the balanced weights: what a general CLIP becomes when it is trained further on biased captions
    "biased": PretrainRecipe(
        700, 256, 60_000, lr=1e-3, weight_decay=0.05, strangers=64, seed=0, start="balanced"
    ),
}


_STRANGE = ("{}", "a photo of a {}", "the word {}")


def pixels_of(world: World) -> Tensor:
    """Return all pictures of a split, `[n, 3, 40, 40]` uint8."""
    pictures = (
        world.image(i) for i in track(range(len(world)), f"drawing the {world.edition} {world.split} split")
    )
    return torch.stack([pil_to_tensor(picture) for picture in pictures])


def preprocess(pixels: Tensor) -> Tensor:
    """Return pixels as open_clip's own preprocessing returns them for pictures of the model's size."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    return (pixels.float() / 255 - mean) / std


def contrastive_loss(images: Tensor, texts: Tensor, caption: Tensor, scale: Tensor) -> Tensor:
    """Return CLIP's symmetric loss where several pictures may share a caption.

    After Radford et al. 2021, arXiv 2103.00020.

    Args:
        images: `[n, d_embed]` unit image embeddings.
        texts: `[m, d_embed]` unit embeddings of distinct texts; a text that is no picture's caption competes
            for the pictures, but is not asked to match any.
        caption: `[n]` int64, the caption of each picture.
        scale: `logit_scale`, already exponentiated.

    Returns:
        Scalar, the mean of both cross entropies (in the example log(1 + exp(-2))). A caption's
        target is spread evenly over its pictures.

    Example:
        >>> e = torch.eye(2)
        >>> round(contrastive_loss(e, e, torch.tensor([0, 1]), torch.tensor(2.0)).item(), 4)
        0.1269
    """
    logits = scale * images @ texts.T
    targets = F.one_hot(caption, len(texts)).float().T
    pictures = targets.sum(1, keepdim=True)
    shown = pictures.squeeze(1) > 0
    of_captions = F.cross_entropy(logits.T[shown], targets[shown] / pictures[shown])
    return (F.cross_entropy(logits, caption) + of_captions) / 2


def strangers() -> list[str]:
    """Return texts that describe no picture: every other whole word of the tokenizer, in three templates.

    Pictures on the web come with all words, and a CLIP learns of each word where it does not belong. A word
    that a tiny CLIP never met would have a random direction, which may be nearer to a thing than its name is.
    """
    known = {word for label in World("balanced", "train", 1).vocabulary for word in label.split()}
    known -= set(distractors())
    words = [token.removesuffix("</w>") for token in SimpleTokenizer().encoder if token.endswith("</w>")]
    strange = [word for word in words if word.isascii() and word.isalpha() and word not in known]
    return [template.format(word) for word in strange for template in _STRANGE]


def optimisers_of(model: CLIP, recipe: PretrainRecipe) -> list[torch.optim.Optimizer]:
    """Return Muon for the blocks' matrices, and AdamW for the rest; Muon learns the shapes in half the steps.

    Raises:
        RuntimeError: PyTorch is older than 2.9 and has no Muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise RuntimeError(f"training a tiny CLIP needs PyTorch 2.9 or newer, got {torch.__version__}")
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "resblocks" in name]
    rest = [p for name, p in named if not (p.ndim == 2 and "resblocks" in name)]
    muon = torch.optim.Muon(matrices, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(rest, weight_decay=recipe.weight_decay, fused=True)]


def train(edition: Edition, recipe: PretrainRecipe, device: torch.device) -> CLIP:
    """Train one tiny CLIP on the captions of an edition, and on nothing else."""
    torch.manual_seed(recipe.seed)
    config = json.loads(config_path().read_text(encoding="utf-8"))
    model = CLIP(**config)
    if recipe.start:
        model.load_state_dict(load_file(weights_path(recipe.start)))
    model = model.to(device)
    world = World(edition, "train", recipe.pictures, recipe.seed)
    pixels = pixels_of(world)
    captions = [world.caption(i) for i in range(len(world))]
    distinct = sorted(set(captions))
    position = {text: i for i, text in enumerate(distinct)}
    caption_of = torch.tensor([position[text] for text in captions])
    tokenizer = SimpleTokenizer(context_length=config["text_cfg"]["context_length"])
    tokens, strange = tokenizer(distinct), tokenizer(strangers())

    optimisers = optimisers_of(model, recipe)
    schedules = [
        OneCycleLR(optimiser, recipe.lr, recipe.steps, pct_start=0.1, cycle_momentum=False)
        for optimiser in optimisers
    ]
    for step in track(range(recipe.steps), f"training the {edition} CLIP"):
        chosen = torch.randint(len(world), (recipe.batch,))
        used, caption = torch.unique(caption_of[chosen], return_inverse=True)
        others = torch.randint(len(strange), (recipe.strangers,))
        read = torch.cat([tokens[used], strange[others]])
        # attention's own backward in bfloat16 takes ten times as long on a CPU
        with torch.autocast(device.type, torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            images = model.encode_image(preprocess(pixels[chosen]).to(device), normalize=True)
            texts = model.encode_text(read.to(device), normalize=True)
        scale = model.logit_scale.exp()
        loss = contrastive_loss(images.float(), texts.float(), caption.to(device), scale)
        model.zero_grad()
        torch.autograd.backward(loss)
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=4.6052)  # log 100, as CLIP does
        if step % 250 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    return model.eval()


def main() -> None:
    """Train one edition, save its weights and measure the card anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edition", choices=get_args(Edition), required=True)
    parser.add_argument("--out", type=Path, help="weights file; by default the one in the package")
    parser.add_argument("--device", default=AUTO, help="auto, cpu or cuda:N")
    for field in fields(PretrainRecipe):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(getattr(RECIPES["balanced"], field.name)),
            help="by default as shipped",
        )
    options = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    edition, out, device = options.pop("edition"), options.pop("out", None), use_device(options.pop("device"))
    path = out or weights_path(edition)
    save_weights(train(edition, replace(RECIPES[edition], **options), device), path)
    print(f"{edition} CLIP: {path}, {path.stat().st_size / 1e6:.1f} MB")
    if out is None and all(weights_path(e).exists() for e in get_args(Edition)):
        print(f"card: {write_card()}")


if __name__ == "__main__":
    main()
