"""The tail: what CLIP does between a hook point and the final embedding, differentiable."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_sae.clip.clip import Clip, unit
from lightning_sae.clip.hook_point import FINAL_TEXT, HookPoint, find_module
from lightning_sae.clip.hooks import activations_at, splice
from lightning_sae.clip.stages import Stages, is_own_vit, stages_of


class Linear(NamedTuple):
    """The layer norm and linear map before the unit length, where a tail is nothing else.

    Attributes:
        norm: the layer norm, `None` for none.
        weight: `[d_in, d_embed]`, `None` for the identity.
        bias: `[d_embed]`, `None` for none.
    """

    norm: nn.LayerNorm | None
    weight: Tensor | None
    bias: Tensor | None

    @classmethod
    def of(cls, norm: nn.Module | None, projection: Tensor | nn.Linear | None) -> Self | None:
        """Return the map of a layer norm and projection, as open_clip keeps them; `None` for another norm."""
        if not isinstance(norm, nn.LayerNorm):
            return None
        if isinstance(projection, nn.Linear):
            return cls(norm, projection.weight.T, projection.bias)
        return cls(norm, projection, None)


@dataclass(frozen=True)
class Tail(ABC):
    """A map from the selected tokens of a hook point to unit embeddings; made by `make_tail`.

    It runs under the caller's grad mode: for gradients inside a validation loop wrap it in
    `torch.inference_mode(False)` and `torch.enable_grad()`, with `x` a clone that requires a gradient.
    Forward mode (`torch.func.jvp`) works through attention as well.

    Attributes:
        needs: what of an example must be kept beside `x`: `"nothing"` (a closed form), `"grid"` (all tokens
            at the hook point) or `"inputs"` (pixels, or token ids).
    """

    clip: Clip
    hook_point: HookPoint
    needs: ClassVar[Literal["nothing", "grid", "inputs"]]

    def __call__(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the unit embeddings `[n, d_embed]`, differentiable in `x`.

        Args:
            x: `[n, t, d_in]`, in the place of the tokens that the hook point selects.
            context: of the same examples: `[n, T, width]` for `"grid"`; for `"inputs"` images `[n, 3, H, W]`
                or token ids `[n, context]`.

        Raises:
            ValueError: a context that is missing or of other examples.
        """
        if self.needs != "nothing" and (context is None or len(context) != len(x)):
            got = "none" if context is None else f"{len(context)} rows for {len(x)} examples"
            raise ValueError(
                f"the tail of {self.hook_point} needs the examples' {self.needs} as context, got {got}"
            )
        with forward_mode_attention(x):
            return unit(self._features(x.to(self.clip.device), context).flatten(1))

    @property
    def linear(self) -> Linear | None:
        """The layer norm and linear map before the unit length, `None` where the tail is something else."""
        return None

    @abstractmethod
    def _features(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Return the features before they are brought to unit length."""


class _FinalTail(Tail):
    """After the final embedding: nothing but the norm is left."""

    needs = "nothing"

    @property
    def linear(self) -> Linear:
        return Linear(None, None, None)

    def _features(self, x: Tensor, context: Tensor | None) -> Tensor:
        return x[:, 0]


class _ClassTokenTail(Tail):
    """The class token after the last block of a ViT that pools it: layer norm and projection."""

    needs = "nothing"

    @property
    def linear(self) -> Linear | None:
        visual = self.clip.visual
        return Linear.of(getattr(visual, "ln_post", None), getattr(visual, "proj", None))

    def _features(self, x: Tensor, context: Tensor | None) -> Tensor:
        return _known_stages(self.clip).head(x.to(self.clip.dtype))


class _PooledTextTail(Tail):
    """The pooled token after the text tower's last block: layer norm and projection."""

    needs = "nothing"

    @property
    def linear(self) -> Linear | None:
        text = self.clip.text
        return Linear.of(text.ln_final, text.text_projection)

    def _features(self, x: Tensor, context: Tensor | None) -> Tensor:
        text, x = self.clip.text, x[:, 0].to(self.clip.dtype)
        projection = text.text_projection
        x = text.ln_final(x)
        if projection is None:
            return x
        projected: Tensor = projection(x) if isinstance(projection, nn.Linear) else x @ projection
        return projected


class GridTail(Tail):
    """After a stage of the tower: the later stages run on the image's tokens, with `x` among them."""

    needs = "grid"

    def _features(self, x: Tensor, context: Tensor | None) -> Tensor:
        assert context is not None
        stages = _known_stages(self.clip)
        return stages.head(self.run_to(len(stages.modules) - 1, x, context))

    def run_to(self, number: int, x: Tensor, context: Tensor) -> Tensor:
        """Return the output of a later stage, by its number, for the tokens and grid of some images."""
        stages = _known_stages(self.clip)
        grid, x = context.to(self.clip.device, self.clip.dtype), x.to(self.clip.dtype)
        grid = self._whole(x, grid)
        for stage in stages.modules[stages.number(self.hook_point) + 1 : number + 1]:
            grid = stage(grid)
        return grid

    def _whole(self, x: Tensor, grid: Tensor) -> Tensor:
        """Return the stage's output with `x` in place of the selected tokens."""
        if self.hook_point.tokens == "cls":
            return torch.cat([x, grid[:, 1:]], dim=1)
        return torch.cat([grid[:, : grid.shape[1] - x.shape[1]], x], dim=1)


@dataclass(frozen=True)
class _MapTail(GridTail):
    """After a stage that gives feature maps: every position of the map is selected."""

    sides: tuple[int, int]

    def _whole(self, x: Tensor, grid: Tensor) -> Tensor:
        return x.transpose(1, 2).reshape(len(x), x.shape[2], *self.sides)


class _InputTail(Tail):
    """After any other module: the whole tower runs, with `x` spliced in."""

    needs = "inputs"

    def _features(self, x: Tensor, context: Tensor | None) -> Tensor:
        assert context is not None
        encode = self.clip.encode_ids if self.hook_point.is_text else self.clip.encode_image
        with splice(self.clip, self.hook_point, lambda _: x, error_term=False):
            return encode(context)


def make_tail(clip: Clip, hook_point: HookPoint) -> Tail:
    """Return the tail of a hook point: the cheapest that is exact.

    Raises:
        ValueError: a module that does not exist.
    """
    find_module(clip, hook_point.module)
    if hook_point in (("visual", "pooled"), (FINAL_TEXT, "pooled")):
        return _FinalTail(clip, hook_point)
    if hook_point.is_text:
        is_last = hook_point == (_last_of_text(clip), "eot")
        return (_PooledTextTail if is_last else _InputTail)(clip, hook_point)
    stages = stages_of(clip)
    number = -1 if stages is None else stages.number(hook_point)
    if stages is None or number < 0:
        return _InputTail(clip, hook_point)
    if (sides := _map_sides(clip, hook_point)) is not None:
        return _MapTail(clip, hook_point, sides)
    is_last = number == len(stages.modules) - 1
    if is_last and hook_point.tokens == "cls" and _pools_class_token(clip):
        return _ClassTokenTail(clip, hook_point)
    return GridTail(clip, hook_point)


def capture_context(
    clip: Clip, hook_point: HookPoint, tail: Tail, inputs: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return what a tail is called with, for preprocessed examples, in one forward without gradients.

    Args:
        clip: the model; a `TextClip` for a hook point of the text tower.
        hook_point: where.
        tail: of the hook point.
        inputs: images `[n, 3, H, W]`, or token ids `[n, context]`.

    Returns:
        `x [n, t, d_in]` and the context (`None` where the tail needs nothing), plain tensors that may enter
        autograd also when captured inside `torch.inference_mode`.
    """
    grid = HookPoint(hook_point.module, "all")
    wanted = {hook_point, grid} if tail.needs == "grid" else {hook_point}
    with torch.inference_mode(False), torch.no_grad():
        activations = activations_at(clip, list(wanted), inputs)
    context = {"nothing": None, "grid": activations.get(grid), "inputs": inputs}[tail.needs]
    return activations[hook_point], context


class LastBlock(NamedTuple):
    """The last block of a transformer, for the logit lens.

    Attributes:
        tail: from its output to the embedding.
        tokens: how many the tail is given of an example, the fewest that it takes.
        width: of a token.
    """

    tail: Tail
    tokens: int
    width: int


def last_block(clip: Clip, is_text: bool) -> LastBlock | None:
    """Return the last block of the image or the text tower; `None` where it is no known transformer."""
    if is_text:
        path = _last_of_text(clip)
        if path is None:
            return None
        return LastBlock(make_tail(clip, HookPoint(path, "eot")), 1, len(clip.text.ln_final.weight))
    stages = stages_of(clip)
    if stages is None or stages.width is None:
        return None
    return LastBlock(GridTail(clip, HookPoint(stages.paths[-1], "all")), stages.prefix + 1, stages.width)


def _known_stages(clip: Clip) -> Stages:
    stages = stages_of(clip)
    assert stages is not None
    return stages


def _map_sides(clip: Clip, hook_point: HookPoint) -> tuple[int, int] | None:
    """Return the height and width of the feature map that a stage gives; `None` if it gives tokens."""
    shapes: list[torch.Size] = []
    hook = find_module(clip, hook_point.module).register_forward_hook(
        lambda _module, _args, output: shapes.append(output.shape)
    )
    with torch.inference_mode(False), torch.no_grad():
        clip.encode_image(torch.zeros(1, 3, *clip.image_size))
    hook.remove()
    return (shapes[0][2], shapes[0][3]) if len(shapes[0]) == 4 else None


def _pools_class_token(clip: Clip) -> bool:
    """Return whether the image tower's head reads the class token alone."""
    visual = clip.visual
    if is_own_vit(visual):
        return visual.attn_pool is None and visual.pool_type == "tok"
    return getattr(visual.trunk, "global_pool", "") == "token"


def _last_of_text(clip: Clip) -> str | None:
    """Return the path of the text tower's last block; `None` where the tower is not open_clip's own."""
    blocks = getattr(getattr(clip.text, "transformer", None), "resblocks", None)
    prefix = "" if clip.text is clip.model else f"{FINAL_TEXT}."
    return None if blocks is None else f"{prefix}transformer.resblocks.{len(blocks) - 1}"


@contextmanager
def forward_mode_attention(x: Tensor) -> Iterator[None]:
    """Let attention in the `with` compute forward-mode derivatives if `x` has one: fast kernels do not."""
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
