"""Reading and replacing activations, in a `with`: nothing is left behind."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

from torch import Tensor, nn

from lightning_sae.clip.clip import Clip
from lightning_sae.clip.hook_point import HookPoint, find_module
from lightning_sae.clip.token_rules import select, token_embedding


@contextmanager
def capture(clip: Clip, hook_points: Sequence[HookPoint]) -> Iterator[dict[HookPoint, Tensor]]:
    """Keep the activations of several hook points, each from the latest forward.

    Yields:
        Filled by every forward inside the `with`: hook point -> selected tokens `[n, t, d_in]`, a copy in
        float32 or better, on the model's device. It carries a gradient where the forward does.

    Raises:
        ValueError: a module that does not exist; in the forward, a token rule that does not fit.
    """
    activations: dict[HookPoint, Tensor] = {}
    with ExitStack() as stack:
        for hook_point in hook_points:
            stack.enter_context(visited(clip, hook_point, partial(activations.__setitem__, hook_point)))
        yield activations


class _EndForward(Exception):  # noqa: N818  # no error: it ends a forward
    """All hook points have been reached."""


def activations_at(clip: Clip, hook_points: Sequence[HookPoint], inputs: Tensor) -> dict[HookPoint, Tensor]:
    """Return the activations that `capture` keeps, by a forward that ends at the last of the hook points.

    Args:
        clip: the model; it encodes images, or texts if it is a `TextClip`.
        hook_points: in the tower that encodes the examples; one that is named twice counts once.
        inputs: preprocessed examples: images `[n, 3, H, W]`, token ids `[n, context]`.

    Returns:
        Hook point -> selected tokens `[n, t, d_in]` in float32 or better, on the model's device, in the
        caller's grad mode.

    Raises:
        ValueError: no hook points, a module that does not exist or that the examples never reach, a token
            rule that does not fit.
    """
    seen: dict[HookPoint, Tensor] = {}
    wanted = list(dict.fromkeys(hook_points))

    def visit(hook_point: HookPoint, x: Tensor) -> None:
        seen[hook_point] = x
        if len(seen) == len(wanted):
            raise _EndForward

    with ExitStack() as stack, suppress(_EndForward):
        for hook_point in wanted:
            stack.enter_context(visited(clip, hook_point, partial(visit, hook_point)))
        clip.encode(inputs)
        missed = ", ".join(str(hook_point) for hook_point in wanted if hook_point not in seen)
        tower = "the text tower" if clip.reads_texts else "`visual`"
        raise ValueError(
            f"{'texts' if clip.reads_texts else 'images'} never reach {missed or 'any hook point'}: "
            f"name modules of {tower}"
        )
    return seen


@contextmanager
def splice(
    clip: Clip,
    hook_point: HookPoint,
    fn: Callable[[Tensor], Tensor],
    error_term: bool = True,
    edited: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[None]:
    """Put a reconstruction in the place of the selected tokens, for every forward inside the `with`.

    With `y = edited(x)`, or `y = fn(x)` where nothing is edited, the model goes on with

        `y + (x - fn(x))`   with the error term, a constant taken from the untouched latents,
        `y`                 without it.

    So an unedited splice with the error term leaves the output as it is to the last bit (computed as `x` plus
    `y - fn(x)`, which is exactly zero then), while gradients flow through `y` alone, and an edit acts beside
    what the SAE does not explain (Marks et al. 2024, arXiv 2403.19647).

    Args:
        clip: the model.
        hook_point: where.
        fn: `x [n, t, d_in]` (float32 or better) -> `x_hat` of the same shape, without an intervention.
        error_term: whether what `fn` does not reconstruct is kept.
        edited: the same with the intervention. It is called after `fn` on the same `x`, so that the two can
            share their latents and encode once.

    Raises:
        ValueError: a module that does not exist; in the forward, a token rule or a result that does not fit.
    """

    def visit(x: Tensor) -> Tensor:
        if not error_term:
            return (edited or fn)(x)
        x_hat = fn(x)
        y = x_hat if edited is None else edited(x)
        return x.detach() + (y - x_hat.detach())

    with visited(clip, hook_point, visit):
        yield


@contextmanager
def visited(clip: Clip, hook_point: HookPoint, visit: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Show the selected tokens `[n, t, d_in]` of each forward to `visit`, and put back what it returns.

    The hooks are gone when the `with` ends, also by an exception.
    """
    module = find_module(clip, hook_point.module)
    token_ids: list[Tensor] = []

    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        whole = output[0] if isinstance(output, tuple) else output  # attention gives (output, weights)
        selection = select(clip, hook_point, whole, token_ids)
        x = visit(selection.take(whole))
        if x is None:
            return None
        new = selection.put(whole, x)
        return (new, *output[1:]) if isinstance(output, tuple) else new

    def remember(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        token_ids[:] = args

    handles = []
    try:
        if hook_point.tokens == "eot":
            handles.append(token_embedding(clip, hook_point).register_forward_pre_hook(remember))
        handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()
