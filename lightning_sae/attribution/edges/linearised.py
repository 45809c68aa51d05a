"""The derivative of a part of CLIP at some images, pulled back or pushed forward."""

from collections.abc import Callable, Iterable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.func import jvp, vmap

from lightning_sae.attribution.edges.held import HeldMap
from lightning_sae.attribution.edges.layers import CapturedLayer

Rule = Literal["frozen", "gradient"]
"""`frozen`: attention patterns, norms and gates are held; `gradient`: the true gradient."""


class Linearised:
    """A map of images, `(x, context) -> y`, at their activations; each image is mapped on its own.

    Works under `no_grad` and `inference_mode`, whatever of its arguments was made there.

    Args:
        run: a segment, or a tail with a score behind it.
        x: `[n, t, d]`.
        context: of the images.
        rule: how.
        outside: whether there shall be a gradient to the context as well: it holds other activations.

    Attributes:
        y: `[n, ...]`, what it gives.

    Raises:
        ValueError: another rule; `frozen` with a map that cannot be held.
    """

    def __init__(
        self,
        run: Callable[[Tensor, Tensor | None], Tensor],
        x: Tensor,
        context: Tensor | None,
        rule: Rule = "gradient",
        outside: bool = False,
    ) -> None:
        if rule not in get_args(Rule):
            raise ValueError(f"rule must be one of {', '.join(get_args(Rule))}, got {rule!r}")
        # tensors made in inference mode cannot enter a graph; their clones made outside of it can
        with torch.inference_mode(False), torch.enable_grad():
            self._x = x.detach().clone().requires_grad_()
            self._context = None if context is None else context.detach().clone()
            if self._context is not None and outside:
                self._context.requires_grad_()
            self._map: Callable[..., Tensor] = run
            if rule == "frozen":
                self._map = held = HeldMap(run, (self._x, self._context))
                self._y = held.value
            else:
                self._y = run(self._x, self._context)
        self.y = self._y.detach()

    @property
    def _arguments(self) -> list[Tensor]:
        return [z for z in (self._x, self._context) if z is not None and z.requires_grad]

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the map gives for other activations `[n, t, d]` of the same images; all else stays."""
        with torch.no_grad():
            return self._map(x, self._context)

    def pull(self, cotangent: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the gradient of `<cotangent, y>` to `x`, and to the context; `None` without one.

        Args:
            cotangent: `[n, ...]`, as `y`.
        """
        with torch.inference_mode(False):
            found = torch.autograd.grad(
                self._y, self._arguments, cotangent.clone(), retain_graph=True, allow_unused=True
            )
        g = torch.zeros_like(self._x, requires_grad=False) if found[0] is None else found[0]
        return g, found[1] if len(found) > 1 else None

    def push(self, tangents: Tensor, chunk_size: int = 16) -> Tensor:
        """Return how `y` changes along changes of `x`: `[m, n, t, d]` -> `[m, n, ...]`."""

        def along(tangent: Tensor) -> Tensor:
            moved: Tensor = jvp(lambda x: self._map(x, context), (self._x.detach(),), (tangent,))[1]
            return moved

        with torch.inference_mode(False), torch.no_grad():
            context = None if self._context is None else self._context.detach()
            pushed: Tensor = vmap(along, chunk_size=chunk_size)(tangents.clone())
            return pushed

    def push_context(self) -> Tensor | None:
        """Return how `y` changes along the context itself; `None` where that is no argument."""
        if self._context is None or not self._context.requires_grad:
            return None
        with torch.inference_mode(False), torch.no_grad():
            x, context = self._x.detach(), self._context.detach()
            along = torch.zeros_like(x), context.clone()
            pushed: Tensor = jvp(self._map, (x, context), along)[1]
            return pushed


def check_held(captured: Iterable[CapturedLayer]) -> None:
    """Refuse hook points between or behind which the model cannot be held as a linear map.

    Args:
        captured: some examples at the hook points; what they are does not matter.

    Raises:
        ValueError: names the first function without a rule.
    """
    for here in captured:
        Linearised(here.onward, here.x, here.onward_context, "frozen")
