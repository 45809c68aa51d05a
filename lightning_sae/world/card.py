"""The abilities and the errors of the shipped CLIPs, measured on the unbiased test split.

`python -m lightning_sae.world.card` measures anew and writes the card.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple, get_args

import open_clip
import torch
from PIL import Image
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from lightning_sae.world.captions import Edition
from lightning_sae.world.plants import Plant, plants
from lightning_sae.world.scene import THINGS
from lightning_sae.world.weights import card_path, config_path, weights_path
from lightning_sae.world.world import World, label_of

_FACTORS = ("class", "colour", "background", "word")


class Measured(NamedTuple):
    """Measurements of one edition's CLIP on the test split; shares in 0..1.

    Attributes:
        accuracy: factor -> zero-shot accuracy on the pictures that have the factor.
        false_positives: spurious and typographic plants -> share of counterfactual pictures of other classes
            (on the planted background; with the word printed on them) that are named as the planted class.
        retrieval: polysemous and compound plants -> AUROC with which the name retrieves both things.
    """

    accuracy: dict[str, float]
    false_positives: dict[Plant, float]
    retrieval: dict[Plant, float]


class TinyClip:
    """A shipped CLIP, loaded through open_clip, with only the parts that the measurement needs."""

    def __init__(self, edition: Edition) -> None:
        open_clip.add_model_config(config_path())
        name = config_path().stem
        self.model, _, self.preprocess = open_clip.create_model_and_transforms(
            name, pretrained=str(weights_path(edition))
        )
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(name)

    @torch.inference_mode()
    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return the unit embeddings `[n, d_embed]`."""
        pixels = torch.stack([self.preprocess(picture) for picture in pictures])
        return torch.cat([self.model.encode_image(part, normalize=True) for part in torch.split(pixels, 256)])

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Return the unit embeddings `[m, d_embed]`."""
        return torch.as_tensor(self.model.encode_text(self.tokenizer(list(texts)), normalize=True))


def measure(edition: Edition, n: int = 2000, seed: int = 0) -> Measured:
    """Measure one shipped CLIP.

    Args:
        edition: which CLIP; the test split is the same for both.
        n: pictures of the test split, and counterfactual pictures per plant.
        seed: of the world.

    Returns:
        Accuracies, false-positive rates and retrieval.
    """
    clip, world = TinyClip(edition), World(edition, "test", n, seed)
    images = clip.images([world.image(i) for i in range(n)])
    classes = clip.texts([f"a photo of a {name}" for name in THINGS])
    accuracy = {factor: _accuracy(clip, images, world, factor) for factor in _FACTORS}
    led_astray = [*plants("spurious"), *plants("typographic")]
    shared = [*plants("polysemous"), *plants("compound")]
    return Measured(
        accuracy,
        {plant: _false_positives(clip, classes, world, plant) for plant in led_astray},
        {plant: _retrieval(clip, images, world.targets, plant) for plant in shared},
    )


def _accuracy(clip: TinyClip, images: Tensor, world: World, factor: str) -> float:
    template = "a photo of a {}" if factor == "class" else "{}"
    texts = clip.texts([template.format(label) for label in label_of(factor)])  # type: ignore[arg-type]
    truth = world.factors[factor][1]
    there = truth >= 0
    return float(((images[there] @ texts.T).argmax(1) == truth[there]).float().mean())


def _false_positives(clip: TinyClip, classes: Tensor, world: World, plant: Plant) -> float:
    target = world.class_names.index(plant.thing)
    others = (world.targets != target).nonzero().squeeze(1).tolist()
    change = {"background": plant.factor, "word": ""} if plant.kind == "spurious" else {"word": plant.factor}
    images = clip.images([world.counterfactual(i, **change) for i in others])
    return float(((images @ classes.T).argmax(1) == target).float().mean())


def _retrieval(clip: TinyClip, images: Tensor, targets: Tensor, plant: Plant) -> float:
    thing, other = (World.class_names.index(name) for name in (plant.thing, plant.factor))
    scores = images @ clip.texts([f"a photo of a {plant.name}"])[0]
    return float(binary_auroc(scores, ((targets == thing) | (targets == other)).long()))


def render(measured: dict[Edition, Measured], n: int) -> str:
    """Return the card as Markdown."""
    editions = list(measured)
    rows = [(f"zero-shot accuracy, {f}", [measured[e].accuracy[f] for e in editions]) for f in _FACTORS]
    for plant in measured[editions[0]].false_positives:
        what = f"on {plant.factor}" if plant.kind == "spurious" else f'with "{plant.factor}" printed'
        name = f"another class {what} is called {plant.thing} ({plant.kind})"
        rows.append((name, [measured[e].false_positives[plant] for e in editions]))
    for plant in measured[editions[0]].retrieval:
        name = f'AUROC: "{plant.name}" retrieves {plant.thing} and {plant.factor} ({plant.kind})'
        rows.append((name, [measured[e].retrieval[plant] for e in editions]))
    head = f"| unbiased test split, {n} pictures | {' | '.join(editions)} |\n|---|{'---|' * len(editions)}\n"
    body = "".join(f"| {name} | {' | '.join(f'{v:.3f}' for v in values)} |\n" for name, values in rows)
    return f"{_PREAMBLE}\n{head}{body}"


_PREAMBLE = """# The two tiny CLIPs of the world

Ordinary open_clip models (`world.json`, float16 safetensors), made by `python -m
lightning_sae.world.pretrain` to show what lightning_sae finds and to test it: trained on the
captions of the *balanced* edition of the world from scratch, and from there on those of the
*biased* edition. They know nothing but the world; the biased one has learned the planted cases on
purpose. This card is written by `python -m lightning_sae.world.card` from measurement.
"""


def write_card(n: int = 2000) -> str:
    """Measure both editions, write the card beside the weights and return its path."""
    text = render({edition: measure(edition, n) for edition in get_args(Edition)}, n)
    temporary = card_path().with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, card_path())
    return str(card_path())


if __name__ == "__main__":
    print(f"card: {write_card()}")
