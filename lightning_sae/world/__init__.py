"""The synthetic image world with planted reliance, and its two tiny CLIPs."""

from lightning_sae.world.captions import Edition, caption
from lightning_sae.world.draw import SIZE, draw
from lightning_sae.world.plants import PLANTS, Plant, plants
from lightning_sae.world.scene import BACKGROUNDS, COLOURS, THINGS, WORDS, Scene
from lightning_sae.world.weights import card_path, config_path, weights_path
from lightning_sae.world.world import World, distractors, label_of

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "PLANTS",
    "SIZE",
    "THINGS",
    "WORDS",
    "Edition",
    "Plant",
    "Scene",
    "World",
    "caption",
    "card_path",
    "config_path",
    "distractors",
    "draw",
    "label_of",
    "plants",
    "weights_path",
]
