"""A small open_clip model, trained from scratch on pictures with captions: minutes on two cores."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from pictured import Pictures
from rich.progress import track
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import OneCycleLR

from lightning_sae.world.pretrain import PretrainRecipe, contrastive_loss, optimisers_of, preprocess
from lightning_sae.world.weights import save_weights

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
MAX_SCALE = 4.6052  # log 100, as CLIP has it


def config(image_size: int, patch_size: int) -> dict[str, Any]:
    """Return an open_clip model config: a ViT of four blocks over square pictures."""
    vision = {"image_size": image_size, "layers": 4, "width": 128, "head_width": 32, "patch_size": patch_size}
    return {"embed_dim": 64, "vision_cfg": vision, "text_cfg": TEXT}


def train(taught: Pictures, shape: dict[str, Any], recipe: PretrainRecipe, bfloat16: bool = False) -> CLIP:
    """Train on pictures; of the captions of each, every step draws one."""
    torch.manual_seed(recipe.seed)
    model = CLIP(**shape)
    pixels = torch.from_numpy(taught.pixels).permute(0, 3, 1, 2)
    distinct = sorted({text for texts in taught.captions for text in texts})
    places = {text: i for i, text in enumerate(distinct)}
    sizes = torch.tensor([len(texts) for texts in taught.captions])
    ids = pad_sequence([torch.tensor([places[text] for text in texts]) for texts in taught.captions], True)
    tokens = SimpleTokenizer(context_length=shape["text_cfg"]["context_length"])(distinct)
    optimisers = optimisers_of(model, recipe)
    schedules = [
        OneCycleLR(optimiser, recipe.lr, recipe.steps, pct_start=0.1, cycle_momentum=False)
        for optimiser in optimisers
    ]
    for _ in track(range(recipe.steps), "training a CLIP"):
        chosen = torch.randint(len(pixels), (recipe.batch,))
        caption = ids[chosen, (torch.rand(recipe.batch) * sizes[chosen]).long()]
        model.zero_grad()
        torch.autograd.backward(_loss(model, pixels[chosen], caption, tokens, bfloat16))
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=MAX_SCALE)
    return model.eval()


def _loss(model: CLIP, pixels: Tensor, caption: Tensor, tokens: Tensor, bfloat16: bool) -> Tensor:
    used, caption = torch.unique(caption, return_inverse=True)
    # attention's own backward in bfloat16 takes ten times as long on a CPU
    attention = sdpa_kernel(SDPBackend.MATH) if bfloat16 else nullcontext()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16), attention:
        images = model.encode_image(preprocess(pixels), normalize=True)
        texts = model.encode_text(tokens[used], normalize=True)
    return contrastive_loss(images.float(), texts.float(), caption, model.logit_scale.exp())


def save(model: CLIP, shape: dict[str, Any], path: Path) -> None:
    """Write the weights, and beside them the model config that they fit, `.json` of the same stem."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(shape, indent=2) + "\n")
    save_weights(model, path)
