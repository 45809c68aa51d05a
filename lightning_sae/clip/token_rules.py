"""The tokens that a hook point means, in an output of its module: found, taken out, and put back."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, get_args

import torch
from torch import Tensor, nn

from lightning_sae.clip.clip import Clip
from lightning_sae.clip.hook_point import HookPoint, Tokens
from lightning_sae.clip.stages import is_own_vit


class Selection(NamedTuple):
    """Tokens `start:stop` of an output, or one position per row; where its channels lie if it is a map."""

    start: int
    stop: int
    positions: Tensor | None = None
    channels_last: bool = False

    def take(self, whole: Tensor) -> Tensor:
        """Return a copy `[n, t, d_in]`: later layers may work in place on the output."""
        wide = torch.promote_types(whole.dtype, torch.float32)
        x = _as_tokens(whole, self.channels_last)
        x = x[:, self.start : self.stop] if self.positions is None else x.gather(1, self._index(x.shape[2]))
        return x.to(wide).clone(memory_format=torch.contiguous_format)

    def put(self, whole: Tensor, x: Tensor) -> Tensor:
        """Return the output with `x` in place of the selected tokens; nothing is changed in place."""
        grid, x = _as_tokens(whole, self.channels_last), x.to(whole.dtype)
        expected = (len(whole), 1 if self.positions is not None else self.stop - self.start, grid.shape[2])
        if x.shape != expected:
            raise ValueError(f"spliced activations must have the shape {list(expected)}, got {list(x.shape)}")
        if self.positions is not None:
            return grid.scatter(1, self._index(grid.shape[2]), x)
        new = torch.cat([grid[:, : self.start], x, grid[:, self.stop :]], dim=1)
        if whole.ndim == 4 and not self.channels_last:
            new = new.transpose(1, 2)
        return _laid_out_as(whole, new.reshape(whole.shape))

    def _index(self, width: int) -> Tensor:
        assert self.positions is not None
        return self.positions.view(-1, 1, 1).expand(-1, 1, width)


class TokenRule(ABC):
    """A rule of your own that says which tokens of an output are meant, beside those of `Tokens`.

    Its name stands in hook points, stores and autoencoders, so another rule needs another name. Making an
    instance makes the rule known by its name: `tokens: {_target_: my_rules.FirstPatch}`.

    Attributes:
        name: unlike those of `Tokens`.
        known: rules by their names.

    Raises:
        ValueError: the name is one of `Tokens`.
    """

    name: ClassVar[str]
    known: ClassVar[dict[str, "TokenRule"]] = {}

    def __init__(self) -> None:
        if self.name in get_args(Tokens):
            raise ValueError(f"a token rule of your own needs a name of its own, got {self.name!r}")
        self.known[self.name] = self

    def __str__(self) -> str:
        return self.name

    @abstractmethod
    def select(self, clip: Clip, hook_point: HookPoint, whole: Any) -> Selection | None:
        """Return where the tokens lie in an output of the hook point's module, `None` where it has none."""


def _as_tokens(whole: Tensor, channels_last: bool) -> Tensor:
    """Return the tokens `[n, t, d]` of an output.

    The output is `[n, d]`, `[n, t, d]`, or a feature map `[n, d, h, w]` or `[n, h, w, d]`.
    """
    if whole.ndim == 4:
        return whole.flatten(1, 2) if channels_last else whole.flatten(2).transpose(1, 2)
    return whole.unsqueeze(1) if whole.ndim == 2 else whole


def _laid_out_as(whole: Tensor, new: Tensor) -> Tensor:
    """Return a copy of `new` in the memory layout of `whole`: another one changes the last bits of sums."""
    order = sorted(range(whole.ndim), key=whole.stride, reverse=True)
    inverse = [order.index(dim) for dim in range(whole.ndim)]
    return new.permute(order).clone(memory_format=torch.contiguous_format).permute(inverse)


def select(clip: Clip, hook_point: HookPoint, whole: Any, token_ids: list[Tensor]) -> Selection:
    """Return where the hook point's tokens lie in an output of its module.

    Raises:
        ValueError: the token rule does not fit the output; names those that do.
    """
    tokens = hook_point.tokens
    if (own := TokenRule.known.get(tokens)) and (selection := own.select(clip, hook_point, whole)):
        return selection
    fitting = fitting_tokens(clip, hook_point, whole)
    if tokens not in fitting:
        got = list(whole.shape) if isinstance(whole, Tensor) else type(whole).__name__
        works = f"tokens={' or '.join(fitting)}" if fitting else "another module"
        raise ValueError(
            f"tokens={tokens} does not fit {hook_point.module}, whose output is {got}; use {works}"
        )
    last = _is_map(clip, whole, channels_last=True)
    n_tokens = _as_tokens(whole, last).shape[1]
    if tokens == "eot":
        return Selection(0, 1, pooled_positions(clip, token_ids[0], n_tokens))
    first = n_tokens - _patches(clip) if tokens == "patch" and whole.ndim == 3 else 0
    return Selection(first, 1 if tokens == "cls" else n_tokens, channels_last=last)


def fitting_tokens(clip: Clip, hook_point: HookPoint, whole: Any) -> list[Tokens]:
    """Return the token rules that fit an output of the hook point's module."""
    if not isinstance(whole, Tensor) or not whole.is_floating_point() or whole.ndim not in (2, 3, 4):
        return []
    last = _is_map(clip, whole, channels_last=True)
    n_tokens = _as_tokens(whole, last).shape[1]
    if n_tokens == 1:
        return ["pooled", "patch", "all"] if whole.ndim == 4 else ["pooled"]
    if whole.ndim == 4:
        return ["patch", "all"] if last or _is_map(clip, whole, channels_last=False) else []
    if hook_point.is_text:
        return ["eot", "all"] if hasattr(clip.text, "token_embedding") else ["all"]
    prefix = n_tokens - _patches(clip)
    if prefix not in (0, _prefix_tokens(clip)):  # such as the queries of an attention pool
        return ["all"]
    return ["cls", "patch", "all"] if prefix and _has_class_token(clip) else ["patch", "all"]


def _is_map(clip: Clip, whole: Tensor, channels_last: bool) -> bool:
    """Return whether an output is a feature map of one layout; its sides are in proportion to the image's.

    `[n, d, h, w]` where both fit; Swin has `[n, h, w, d]`, and heads of an attention are no map at all.
    """
    if whole.ndim != 4:
        return False
    height, width = clip.image_size
    first, last = (abs(h * width - w * height) < width for h, w in (whole.shape[2:], whole.shape[1:3]))
    return last and not first if channels_last else first


def _patches(clip: Clip) -> int:
    """Return the number of patches of an image, 0 for a tower that has no such grid."""
    if is_own_vit(clip.visual):
        return len(clip.visual.positional_embedding) - 1
    return int(getattr(getattr(_trunk(clip), "patch_embed", None), "num_patches", 0))


def _prefix_tokens(clip: Clip) -> int:
    """Return the tokens before the patches: the class token, and a timm trunk's registers."""
    if is_own_vit(clip.visual):
        return 1
    return int(getattr(_trunk(clip), "num_prefix_tokens", 0))


def _has_class_token(clip: Clip) -> bool:
    """Return whether the first of the prefix tokens is a class token, and no register."""
    return is_own_vit(clip.visual) or getattr(_trunk(clip), "cls_token", None) is not None


def _trunk(clip: Clip) -> nn.Module | None:
    """Return the part of an image tower that timm makes; `None` for another tower."""
    return getattr(clip.visual, "trunk", None)


def token_embedding(clip: Clip, hook_point: HookPoint) -> nn.Module:
    """Return the module that sees the token ids, by which `eot` is found.

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


def pooled_positions(clip: Clip, token_ids: Tensor, n_tokens: int) -> Tensor:
    """Return the position that the text tower pools by its own rule, `[n]`.

    `n_tokens` counts an appended class token as well.
    """
    text = clip.text
    rule = getattr(text, "text_pool_type", None) or text.pool_type
    if getattr(text, "cls_emb", None) is not None or rule == "last":  # CoCa appends its class token
        return torch.full((len(token_ids),), n_tokens - 1, device=token_ids.device)
    if rule == "argmax":  # the end token has the highest id
        return token_ids.argmax(1)
    if rule == "eos":
        return (token_ids == getattr(text, "text_eos_id", getattr(text, "eos_id", -1))).int().argmax(1)
    return torch.zeros(len(token_ids), dtype=torch.int64, device=token_ids.device)
