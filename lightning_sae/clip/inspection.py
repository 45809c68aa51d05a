"""Checks whether hook points are usable, alone and in a row, and how wide, by a dry forward and gradient."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn

from lightning_sae.clip.clip import Clip
from lightning_sae.clip.hook_point import FINAL_TEXT, HookPoint, Tokens, find_module
from lightning_sae.clip.hooks import visited
from lightning_sae.clip.token_rules import TokenRule, fitting_tokens

_TEXTS = ("a photo of a dog", "red")


class HookShape(NamedTuple):
    """The shape of the activations that a hook point gives per image (or text).

    Attributes:
        tokens: selected tokens.
        d_in: width of one token.
    """

    tokens: int
    d_in: int


def inspect_hook_point(clip: Clip, hook_point: HookPoint) -> HookShape:
    """Find the shape of a hook point and make sure that it can influence the score.

    Two random images (or two texts) run through the model, and the gradient of the embedding to the selected
    tokens is taken; it works under any grad mode.

    Raises:
        ValueError: no such module; a module that the forward never calls, or calls more than once; a token
            rule that does not fit; tokens that the embedding does not depend on. Each says what would work.
    """
    known = (*get_args(Tokens), *TokenRule.known)
    if hook_point.tokens not in known:
        raise ValueError(f"tokens must be one of {', '.join(known)}, got {hook_point.tokens!r}")
    with _outputs(clip, hook_point) as outputs:
        x, gradient = _dry_run(clip, hook_point)
    if x is None:
        raise ValueError(
            f"the forward never calls {hook_point.module}: it is a container, or its parent uses its weights "
            f"directly; use {_called_parent(clip, hook_point)}"
        )
    if len(outputs) > 1:
        raise ValueError(f"one forward calls {hook_point.module} {len(outputs)} times; hook an outer module")
    if len(x) != len(_TEXTS):
        raise ValueError(
            f"the output of {hook_point.module} has no row per example, {len(x)} for {len(_TEXTS)}: it "
            "depends on the weights alone; hook an outer module"
        )
    if not _influences(gradient):
        works = " or ".join(_alternatives(clip, hook_point, outputs[0])) or "an earlier module"
        raise ValueError(f"{hook_point} cannot influence the score, its gradient is zero; use {works}")
    return HookShape(x.shape[1], x.shape[2])


def check_path(clip: Clip, hook_points: Sequence[HookPoint]) -> None:
    """Refuse hook points that do not lie one behind the other.

    One dry forward says in which order they are reached, and a gradient whether each acts on the next.

    Args:
        clip: the model.
        hook_points: from the first to the last.

    Raises:
        ValueError: hook points of different towers, of one module, never reached or out of order, or one that
            does not act on the next; says which, and what would work.
    """
    named = ", ".join(map(str, hook_points))
    if len({hook_point.is_text for hook_point in hook_points}) > 1:
        raise ValueError(
            f"hook points must be of one tower, got {named}: nothing leads from `visual` to the text tower, "
            f"whose final embedding is `{FINAL_TEXT}`"
        )
    if len({hook_point.module for hook_point in hook_points}) < len(hook_points):
        raise ValueError(
            f"hook points must be of different modules, got {named}: nothing lies between two token rules of "
            "one output"
        )
    visits: dict[HookPoint, _Visit] = {}
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        for hook_point in hook_points:
            visit = partial(_cut, visits, hook_point)
            stack.enter_context(visited(clip, hook_point, visit))
        _dry_forward(clip, hook_points[0].is_text)
        _check_visits(hook_points, visits, "text" if hook_points[0].is_text else "image")


class _Visit(NamedTuple):
    """The tokens that arrive at a hook point, and the copy that goes on from there as a new leaf."""

    arrived: Tensor
    left: Tensor


def _cut(visits: dict[HookPoint, _Visit], hook_point: HookPoint, x: Tensor) -> Tensor:
    visits[hook_point] = _Visit(x, x.detach().requires_grad_())
    return visits[hook_point].left


def _check_visits(hook_points: Sequence[HookPoint], visits: dict[HookPoint, _Visit], tower: str) -> None:
    if missed := [str(hook_point) for hook_point in hook_points if hook_point not in visits]:
        raise ValueError(f"the {tower} tower never reaches {', '.join(missed)}: name other modules")
    if [*visits] != [*hook_points]:
        raise ValueError(
            "hook points must be in the order in which the tower reaches them, from the first to the last: "
            f"got {', '.join(map(str, hook_points))}; use {', '.join(map(str, visits))}"
        )
    for first, second in pairwise(hook_points):
        if not _acts_on(visits[first].left, visits[second].arrived):
            raise ValueError(
                f"{first} does not act on {second}, which is named after it: choose modules that lie one "
                "behind the other"
            )


def _acts_on(x: Tensor, y: Tensor) -> bool:
    """Return whether the gradient of `y` with respect to the leaf `x` is not zero."""
    if not y.requires_grad:
        return False
    return _influences(torch.autograd.grad((y * _noise(y)).sum(), x, retain_graph=True, allow_unused=True)[0])


def check_same_tokens(clip: Clip, hook_points: Sequence[HookPoint]) -> None:
    """Refuse hook points that differ in their number of tokens, as they cannot be trained on together.

    Args:
        clip: the model.
        hook_points: each usable by itself (`inspect_hook_point`).

    Raises:
        ValueError: says how many each has.
    """
    tokens = {hook_point: inspect_hook_point(clip, hook_point).tokens for hook_point in hook_points}
    if len({*tokens.values()}) > 1:
        said = ", ".join(f"{hook_point} has {n}" for hook_point, n in tokens.items())
        raise ValueError(
            f"hook points of one run need the same number of tokens per image: {said}; train them in runs of "
            "their own"
        )


def _dry_run(clip: Clip, hook_point: HookPoint) -> tuple[Tensor | None, Tensor | None]:
    """Return the selected tokens of a dry forward, and a gradient with respect to these tokens.

    The gradient is that of the embedding's component in a random direction.
    """
    found: list[Tensor] = []

    def visit(x: Tensor) -> Tensor:
        found.append(x.detach().requires_grad_())
        return found[-1]

    with torch.inference_mode(False), torch.enable_grad(), visited(clip, hook_point, visit):
        embedding = _dry_forward(clip, hook_point.is_text)
        if not found:
            return None, None
        if not embedding.requires_grad:
            return found[-1], None
        score = (embedding * _noise(embedding)).sum()
        return found[-1], torch.autograd.grad(score, found[-1], allow_unused=True)[0]


def dry_inputs(clip: Clip, is_text: bool) -> Tensor:
    """Return two examples that mean nothing: token ids of texts, or pictures of noise `[2, 3, H, W]`."""
    if is_text:
        return clip.tokenizer(list(_TEXTS))
    return _noise(torch.empty(len(_TEXTS), 3, *clip.image_size))


def _dry_forward(clip: Clip, is_text: bool) -> Tensor:
    inputs = dry_inputs(clip, is_text)
    return clip.encode_ids(inputs) if is_text else clip.encode_image(inputs)


def _noise(like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like)


def _influences(gradient: Tensor | None) -> bool:
    return gradient is not None and bool(gradient.count_nonzero())


@contextmanager
def _outputs(clip: Clip, hook_point: HookPoint) -> Iterator[list[Any]]:
    """Collect the raw outputs of the module during the block, one per call."""
    outputs: list[Any] = []

    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)

    handle = find_module(clip, hook_point.module).register_forward_hook(hook)
    try:
        yield outputs
    finally:
        handle.remove()


def _called_parent(clip: Clip, hook_point: HookPoint) -> str:
    parent = hook_point.module.rpartition(".")[0]
    while parent:
        with _outputs(clip, hook_point._replace(module=parent)) as outputs, torch.no_grad():
            _dry_forward(clip, hook_point.is_text)
        if outputs:
            return parent
        parent = parent.rpartition(".")[0]
    return "a module of another part of the model"


def _alternatives(clip: Clip, hook_point: HookPoint, output: Tensor) -> list[str]:
    """Return what does reach the score: another token rule here, or the block before with the same rule."""
    others = set(fitting_tokens(clip, hook_point, output)) - {"all", hook_point.tokens}
    candidates = [hook_point._replace(tokens=rule) for rule in sorted(others)]
    block = re.fullmatch(r"(.*\.)(\d+)(\..*)?", hook_point.module)
    if block and int(block[2]) > 0:
        candidates.append(hook_point._replace(module=f"{block[1]}{int(block[2]) - 1}{block[3] or ''}"))
    return [str(candidate) for candidate in candidates if _influences(_dry_run(clip, candidate)[1])]
