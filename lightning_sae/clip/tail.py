"""The tail: what CLIP does between a hook point and the image embedding, differentiable."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_sae.clip.hooks import activations_at, splice
from lightning_sae.clip.load import Clip, unit
from lightning_sae.clip.tokens import HookPoint, find_module


@dataclass(frozen=True)
class Tail(ABC):
    """From the selected tokens of a hook point to unit image embeddings; made by `make_tail`.

    It runs under the caller's grad mode: for gradients inside a validation loop wrap it in
    `torch.inference_mode(False)` and `torch.enable_grad()`, with `x` a clone that requires a gradient.
    Forward mode (`torch.func.jvp`) works through attention as well.

    Attributes:
        needs: what of an image must be kept beside `x`: `"nothing"` (a closed form), `"grid"` (all tokens at
            the hook point) or `"pixels"`.
    """

    clip: Clip
    hook_point: HookPoint
    needs: ClassVar[Literal["nothing", "grid", "pixels"]]

    def __call__(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Unit embeddings `[n, d_embed]`, differentiable in `x`.

        Args:
            x: `[n, t, d_in]`, in the place of the tokens that the hook point selects.
            context: of the same images: `[n, T, width]` for `"grid"`, `[n, 3, H, W]` for `"pixels"`.

        Raises:
            ValueError: a context that is missing or of other images.
        """
        if self.needs != "nothing" and (context is None or len(context) != len(x)):
            got = "none" if context is None else f"{len(context)} rows for {len(x)} images"
            raise ValueError(
                f"the tail of {self.hook_point} needs the images' {self.needs} as context, got {got}"
            )
        with _forward_mode_attention(x):
            return unit(self._features(x.to(self.clip.device), context))

    @abstractmethod
    def _features(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Image features before they are brought to unit length."""


class _FinalTail(Tail):
    """After the final embedding: nothing but the norm is left."""

    needs = "nothing"

    def _features(self, x: Tensor, context: Tensor | None) -> Tensor:
        return x[:, 0]


class _ClassTokenTail(Tail):
    """The class token after the last block of a ViT that pools it: layer norm and projection."""

    needs = "nothing"

    def _features(self, x: Tensor, context: Tensor | None) -> Tensor:
        return _head(self.clip, x.to(self.clip.dtype))


class _GridTail(Tail):
    """After a residual block of a ViT: the later blocks run on the image's tokens, with `x` among them."""

    needs = "grid"

    def _features(self, x: Tensor, context: Tensor | None) -> Tensor:
        assert context is not None
        grid, x = context.to(self.clip.device, self.clip.dtype), x.to(self.clip.dtype)
        parts = {"cls": [x, grid[:, 1:]], "patch": [grid[:, :1], x], "all": [x]}
        grid = torch.cat(parts[self.hook_point.tokens], dim=1)
        for block in _resblocks(self.clip)[_block(self.hook_point) + 1 :]:
            grid = block(grid)
        return _head(self.clip, grid)


class _PixelTail(Tail):
    """After any other module: the whole model runs, with `x` spliced in."""

    needs = "pixels"

    def _features(self, x: Tensor, context: Tensor | None) -> Tensor:
        assert context is not None
        with splice(self.clip, self.hook_point, lambda _: x, error_term=False):
            return self.clip.encode_image(context)


def make_tail(clip: Clip, hook_point: HookPoint) -> Tail:
    """The tail of a hook point of the image tower: the cheapest that is exact.

    Raises:
        ValueError: a module that does not exist, or of the text tower.
    """
    if hook_point.is_text:
        raise ValueError(f"a tail ends in image embeddings, got {hook_point}; use a module of `visual`")
    find_module(clip, hook_point.module)
    if hook_point == ("visual", "pooled"):
        return _FinalTail(clip, hook_point)
    block = _block(hook_point)
    if block < 0 or not _has_plain_head(clip) or hook_point.tokens not in ("cls", "patch", "all"):
        return _PixelTail(clip, hook_point)
    is_last = block == len(_resblocks(clip)) - 1
    if is_last and hook_point.tokens == "cls" and clip.visual.pool_type == "tok":
        return _ClassTokenTail(clip, hook_point)
    return _GridTail(clip, hook_point)


def capture_context(
    clip: Clip, hook_point: HookPoint, tail: Tail, pixels: Tensor
) -> tuple[Tensor, Tensor | None]:
    """What a tail is called with, for images `[n, 3, H, W]`, in one forward without gradients.

    Returns:
        `x [n, t, d_in]` and the context (`None` where the tail needs nothing), plain tensors that may enter
        autograd also when captured inside `torch.inference_mode`.
    """
    grid = HookPoint(hook_point.module, "all")
    wanted = {hook_point, grid} if tail.needs == "grid" else {hook_point}
    with torch.inference_mode(False), torch.no_grad():
        activations = activations_at(clip, list(wanted), pixels)
    context = {"nothing": None, "grid": activations.get(grid), "pixels": pixels}[tail.needs]
    return activations[hook_point], context


def _block(hook_point: HookPoint) -> int:
    """Index of the ViT's residual block that is hooked, -1 for any other module."""
    found = re.fullmatch(r"visual\.transformer\.resblocks\.(\d+)", hook_point.module)
    return int(found[1]) if found else -1


def _resblocks(clip: Clip) -> torch.nn.ModuleList:
    blocks: torch.nn.ModuleList = clip.visual.transformer.resblocks
    return blocks


def _has_plain_head(clip: Clip) -> bool:
    visual = clip.visual
    return isinstance(visual, VisionTransformer) and visual.attn_pool is None and visual.pool_type != "none"


def _head(clip: Clip, tokens: Tensor) -> Tensor:
    """Pooling, layer norm and projection of an open_clip ViT, `[n, T, width]` -> `[n, d_embed]`."""
    visual = clip.visual
    if not visual.final_ln_after_pool:
        tokens = visual.ln_post(tokens)
    pooled = tokens[:, 0] if visual.pool_type == "tok" else tokens[:, 1:].mean(dim=1)
    if visual.final_ln_after_pool:
        pooled = visual.ln_post(pooled)
    return pooled if visual.proj is None else pooled @ visual.proj


@contextmanager
def _forward_mode_attention(x: Tensor) -> Iterator[None]:
    """Attention that knows forward-mode derivatives, where `x` carries one: the fast kernels do not."""
    if forward_ad.unpack_dual(x).tangent is None:  # type: ignore[no-untyped-call]
        yield
        return
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
