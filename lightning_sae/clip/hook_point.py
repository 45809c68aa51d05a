"""Hook points: a module of any open_clip tower, and which tokens of its output are meant."""

import difflib
from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import nn

from lightning_sae.clip.clip import Clip

Tokens = Literal["cls", "patch", "all", "pooled", "eot"]

FINAL_TEXT = "text"
"""Module path of the final embedding of texts."""


class HookPoint(NamedTuple):
    """A module of the open_clip model and which tokens of its output are meant.

    Attributes:
        module: path inside `clip.model`, as in `visual.transformer.resblocks.11`; `visual` is the final
            embedding of images, `text` that of texts.
        tokens: `cls` the class token, `patch` those of the image's patches, or a feature map's positions,
            `all` of them, `pooled` an output `[n, d]`, `eot` the token that the text tower pools; or the name
            of a `TokenRule`.

    Example:
        >>> str(HookPoint("visual.transformer.resblocks.3", "cls"))
        'visual.transformer.resblocks.3:cls'
    """

    module: str
    tokens: str

    def __str__(self) -> str:
        return f"{self.module}:{self.tokens}"

    @property
    def is_text(self) -> bool:
        """True if it stands in the text tower."""
        return self.module.split(".")[0] != "visual"


def short_names(modules: Sequence[str]) -> list[str]:
    """Return the shortest tails of module paths that tell them apart.

    Each begins with a name, not a number, and holds the last number of its path.

    Args:
        modules: different paths.

    Example:
        >>> short_names(["visual.transformer.resblocks.1", "visual.transformer.resblocks.3.mlp"])
        ['resblocks.1', 'resblocks.3.mlp']
        >>> short_names(["visual.trunk.stages.0.blocks.1", "visual.trunk.stages.1.blocks.1", "visual"])
        ['stages.0.blocks.1', 'stages.1.blocks.1', 'visual']
    """
    tails = [_tails(module) for module in modules]
    return [
        next(tail for tail in own if sum(tail in others for others in tails) == 1 or tail == module)
        for module, own in zip(modules, tails, strict=True)
    ]


def _tails(module: str) -> list[str]:
    """Return the tails of a path that a name may be, the shortest first and the path itself last."""
    parts = module.split(".")
    numbers = [place for place, part in enumerate(parts) if part.isdigit()]
    last = numbers[-1] if numbers else len(parts) - 1
    starts = [place for place in range(last, -1, -1) if not parts[place].isdigit()]
    return [".".join(parts[start:]) for start in starts]


def find_module(clip: Clip, path: str) -> nn.Module:
    """Return the module at a path inside the open_clip model.

    Raises:
        ValueError: there is none; names close ones.
    """
    modules: dict[str, nn.Module] = dict(clip.model.named_modules())
    del modules[""]
    modules.setdefault(FINAL_TEXT, clip.text_features)  # a plain CLIP has no module that gives them
    if path not in modules:
        endings = [name for name in modules if name.endswith(f".{path}")]
        close = endings[:3] or difflib.get_close_matches(path, modules, n=3)
        raise ValueError(
            f"{clip.name} has no module {path!r}; close ones: {', '.join(close) or 'none'}. "
            "List all with clip.model.named_modules()"
        )
    return modules[path]
