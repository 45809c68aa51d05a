"""Hook points: a module of any open_clip tower, and which tokens of its output are meant."""

import difflib
from typing import Any, Literal, NamedTuple, get_args

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from lightning_sae.clip.load import Clip

Tokens = Literal["cls", "patch", "all", "pooled", "eot"]


class HookPoint(NamedTuple):
    """A module of the open_clip model and which tokens of its output are meant.

    Attributes:
        module: path inside `clip.model`, as in `visual.transformer.resblocks.11`; `visual` is the final
            embedding.
        tokens: `cls` the class token, `patch` those after it, `all` of them (a feature map's positions too),
            `pooled` an output `[n, d]`, `eot` the token that the text tower pools.

    Example:
        >>> str(HookPoint("visual.transformer.resblocks.3", "cls"))
        'visual.transformer.resblocks.3:cls'
    """

    module: str
    tokens: Tokens

    def __str__(self) -> str:
        return f"{self.module}:{self.tokens}"

    @property
    def is_text(self) -> bool:
        """Whether it stands in the text tower."""
        return self.module.split(".")[0] != "visual"


def find_module(clip: Clip, path: str) -> nn.Module:
    """The module at a path inside the open_clip model.

    Raises:
        ValueError: there is none; names close ones.
    """
    modules: dict[str, nn.Module] = dict(clip.model.named_modules())
    del modules[""]
    if path not in modules:
        endings = [name for name in modules if name.endswith(f".{path}")]
        close = endings[:3] or difflib.get_close_matches(path, modules, n=3)
        raise ValueError(
            f"{clip.name} has no module {path!r}; close ones: {', '.join(close) or 'none'}. "
            "List all with clip.model.named_modules()"
        )
    return modules[path]


class Selection(NamedTuple):
    """Tokens `start:stop` of an output, or one position per row."""

    start: int
    stop: int
    positions: Tensor | None = None

    def take(self, whole: Tensor) -> Tensor:
        """A copy `[n, t, d_in]`: later layers may work in place on the output."""
        wide = torch.promote_types(whole.dtype, torch.float32)
        x = _as_tokens(whole)
        x = x[:, self.start : self.stop] if self.positions is None else x.gather(1, self._index(x.shape[2]))
        return x.to(wide).clone(memory_format=torch.contiguous_format)

    def put(self, whole: Tensor, x: Tensor) -> Tensor:
        """The output with `x` in place of the selected tokens; nothing is changed in place."""
        grid, x = _as_tokens(whole), x.to(whole.dtype)
        expected = (len(whole), 1 if self.positions is not None else self.stop - self.start, grid.shape[2])
        if x.shape != expected:
            raise ValueError(f"spliced activations must have the shape {list(expected)}, got {list(x.shape)}")
        if self.positions is not None:
            return grid.scatter(1, self._index(grid.shape[2]), x)
        new = torch.cat([grid[:, : self.start], x, grid[:, self.stop :]], dim=1)
        return new.transpose(1, 2).reshape(whole.shape) if whole.ndim == 4 else new.view(whole.shape)

    def _index(self, width: int) -> Tensor:
        assert self.positions is not None
        return self.positions.view(-1, 1, 1).expand(-1, 1, width)


def _as_tokens(whole: Tensor) -> Tensor:
    """`[n, t, d]` of an output `[n, d]`, `[n, t, d]` or a feature map `[n, d, h, w]`."""
    if whole.ndim == 4:
        return whole.flatten(2).transpose(1, 2)
    return whole.unsqueeze(1) if whole.ndim == 2 else whole


def select(clip: Clip, hook_point: HookPoint, whole: Any, token_ids: list[Tensor]) -> Selection:
    """Where the hook point's tokens lie in an output of its module.

    Raises:
        ValueError: the token rule does not fit the output; names those that do.
    """
    fitting = fitting_tokens(clip, hook_point, whole)
    tokens = hook_point.tokens
    if tokens not in fitting:
        got = list(whole.shape) if isinstance(whole, Tensor) else type(whole).__name__
        works = f"tokens={' or '.join(fitting)}" if fitting else "another module"
        raise ValueError(
            f"tokens={tokens} does not fit {hook_point.module}, whose output is {got}; use {works}"
        )
    n_tokens = _as_tokens(whole).shape[1]
    if tokens == "eot":
        return Selection(0, 1, _pooled_positions(clip, token_ids[0], n_tokens))
    first = _prefix_tokens(clip) if tokens == "patch" else 0
    return Selection(first, 1 if tokens == "cls" else n_tokens)


def fitting_tokens(clip: Clip, hook_point: HookPoint, whole: Any) -> list[Tokens]:
    """The token rules that fit an output of the hook point's module."""
    if not isinstance(whole, Tensor) or not whole.is_floating_point() or whole.ndim not in (2, 3, 4):
        return []
    if whole.ndim == 2:
        return ["pooled"]
    if whole.ndim == 4:  # maps with the channels last are not told apart from tokens: refused
        return [] if whole.shape[1] == whole.shape[2] != whole.shape[3] else ["all"]
    if hook_point.is_text:
        return ["eot", "all"] if hasattr(clip.text, "token_embedding") else ["all"]
    return ["cls", "patch", "all"] if _has_prefix(clip, whole.shape[1]) else ["all"]


def _prefix_tokens(clip: Clip) -> int:
    """Tokens before the patches: the class token, and a timm trunk's registers."""
    if isinstance(clip.visual, VisionTransformer):
        return 1
    return int(getattr(getattr(clip.visual, "trunk", None), "num_prefix_tokens", 0))


def _has_prefix(clip: Clip, n_tokens: int) -> bool:
    prefix = _prefix_tokens(clip)
    if isinstance(clip.visual, VisionTransformer):  # an attention pool's queries are no grid
        return n_tokens == len(clip.visual.positional_embedding)
    return 0 < prefix < n_tokens


def token_embedding(clip: Clip, hook_point: HookPoint) -> nn.Module:
    """The module that sees the token ids, by which `eot` is found.

    Raises:
        ValueError: a hook point of the image tower, or a text tower that is not open_clip's own.
    """
    if not hook_point.is_text or not hasattr(clip.text, "token_embedding"):
        raise ValueError(
            f"tokens=eot is the token that open_clip's own text tower pools, got {hook_point.module} of "
            f"{clip.name}; use one of {', '.join(t for t in get_args(Tokens) if t != 'eot')}"
        )
    embedding: nn.Module = clip.text.token_embedding
    return embedding


def _pooled_positions(clip: Clip, token_ids: Tensor, n_tokens: int) -> Tensor:
    """The position that the text tower pools, `[n]`, by its own rule."""
    text = clip.text
    rule = getattr(text, "text_pool_type", None) or text.pool_type
    if getattr(text, "cls_emb", None) is not None or rule == "last":  # CoCa appends its class token
        return torch.full((len(token_ids),), n_tokens - 1, device=token_ids.device)
    if rule == "argmax":  # the end token has the highest id
        return token_ids.argmax(1)
    if rule == "eos":
        return (token_ids == getattr(text, "text_eos_id", getattr(text, "eos_id", -1))).int().argmax(1)
    return torch.zeros(len(token_ids), dtype=torch.int64, device=token_ids.device)
