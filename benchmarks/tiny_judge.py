"""A judge for generated pictures: the balanced tiny CLIP, taught the words of a data set on fair pictures.

The image tower stays as it is, the text tower learns (locked-image tuning, Zhai et al. 2022, arXiv
2111.07991), which takes seconds on one core. It stands for the domain CLIP that a practitioner would take as
the judge: one that knows what "melanoma" looks like, and that a red background is something else.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from safetensors.torch import load_file

from lightning_sae.clip import load_clip
from lightning_sae.world import config_path, weights_path
from lightning_sae.world.pretrain import contrastive_loss
from lightning_sae.world.weights import save_weights

LR, BATCH = 2e-3, 256


def teach(
    pictures: Iterable[tuple[Image.Image, list[str]]], path: Path, steps: int = 400, seed: int = 0
) -> Path:
    """Train the text tower on pictures with the captions of each; the path that the weights are at."""
    clip = load_clip(config_path(), weights_path("balanced"))
    pixels, captions = zip(*((clip.preprocess(image), texts) for image, texts in pictures), strict=True)
    with torch.no_grad():
        images = torch.cat([clip.encode_image(part) for part in torch.stack(pixels).split(BATCH)])
    distinct = sorted({text for texts in captions for text in texts})
    pairs = torch.tensor([(i, distinct.index(text)) for i, texts in enumerate(captions) for text in texts])
    config = json.loads(config_path().read_text(encoding="utf-8"))
    model = CLIP(**config)
    model.load_state_dict(load_file(weights_path("balanced")))
    model.visual.requires_grad_(False)
    tokens = SimpleTokenizer(context_length=config["text_cfg"]["context_length"])(distinct)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], LR, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = pairs[torch.randint(len(pairs), (BATCH,), generator=generator)]
        used, caption = torch.unique(chosen[:, 1], return_inverse=True)
        texts = model.encode_text(tokens[used], normalize=True)
        loss = contrastive_loss(images[chosen[:, 0]], texts, caption, model.logit_scale.exp())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    save_weights(model, path)
    return path
