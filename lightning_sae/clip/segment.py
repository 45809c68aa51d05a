"""The segment: what CLIP does between two hook points of a tower, differentiable."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from lightning_sae.clip.hook_point import HookPoint
from lightning_sae.clip.hooks import activations_at, splice
from lightning_sae.clip.stages import stages_of
from lightning_sae.clip.tail import GridTail, Tail, forward_mode_attention
from lightning_sae.clip.token_rules import select


@dataclass(frozen=True)
class Segment:
    """A map from the selected tokens of a hook point to those of a later one of the same tower.

    Where both are stages of a known image tower, the stages between run on the image's tokens; else the
    tower runs on the example with `x` spliced in, up to the later hook point. Like a tail, it runs under the
    caller's grad mode and in forward mode.

    Attributes:
        tail: of the earlier hook point.
        stop: the later hook point.
    """

    tail: Tail
    stop: HookPoint

    @cached_property
    def needs(self) -> Literal["grid", "inputs"]:
        """The part of an example that must be kept beside `x`, as of a tail."""
        return "grid" if isinstance(self.tail, GridTail) and self._stage >= 0 else "inputs"

    @cached_property
    def _stage(self) -> int:
        stages = stages_of(self.tail.clip)
        return -1 if stages is None else stages.number(self.stop)

    def __call__(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the activations `[n, t', d']` at the later hook point, in float32 or better.

        Args:
            x: `[n, t, d]`, in the place of the tokens that the earlier hook point selects.
            context: of the same examples, as for a `Tail`.

        Raises:
            ValueError: a context that is missing or of other examples.
        """
        clip, start = self.tail.clip, self.tail.hook_point
        if context is None or len(context) != len(x):
            got = "none" if context is None else f"{len(context)} rows for {len(x)} examples"
            raise ValueError(
                f"from {start} to {self.stop} needs the examples' {self.needs} as context, got {got}"
            )
        with forward_mode_attention(x):
            if isinstance(self.tail, GridTail) and self.needs == "grid":
                whole = self.tail.run_to(self._stage, x.to(clip.device), context)
                return select(clip, self.stop, whole, []).take(whole)
            with splice(clip, start, lambda _: x, error_term=False):
                return activations_at(clip, [self.stop], context)[self.stop]
