"""Edges: what each active latent of an earlier layer, its error and its bias contribute to targets."""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from lightning_sae.attribution.edges.layers import SeenLayer
from lightning_sae.attribution.edges.linearised import Linearised, Rule
from lightning_sae.attribution.edges.pair_sums import Pairs, PairSums
from lightning_sae.attribution.edges.passes import BESIDE, pulled, pushed
from lightning_sae.attribution.edges.sources import Sources
from lightning_sae.attribution.edges.targets import LatentTargets, ScoreTargets, Targets
from lightning_sae.classifiers.scores import ClassScores

Direction = Literal["auto", "forward", "reverse"]


class Edges(NamedTuple):
    """The edges into `r` targets.

    `sum of a target's edges + constant = value`: with the frozen rule the constant is what the map gives
    where all sources are 0.

    Attributes:
        pairs: of a row of the targets and a source: a latent, for `by_token` `token * d_sae + latent`.
        beside: `[r, 3]`, those of `BESIDE`.
        constant: `[r]`, the rest of the value.
    """

    pairs: Pairs
    beside: Tensor
    constant: Tensor


def onward_map(seen: SeenLayer, scores: ClassScores | None, rule: Rule) -> Linearised:
    """Return the linear map from a layer to the next, or from the last one to the scores of the classes.

    Args:
        seen: images at the layer.
        scores: of the classes, for the last layer.
        rule: how it is made linear.

    Raises:
        ValueError: another rule; `frozen` with a part of the model, or a score, that cannot be held.
    """
    tail, run = seen.onward.tail, seen.onward.tail
    if scores is not None:
        if rule == "frozen" and not scores.linear:
            raise ValueError(
                f"output {scores.output.name!r} is no linear function of the logits, which cannot be held: "
                "use rule=gradient, or output cosine or logit"
            )
        run = lambda x, context: scores(tail(x, context).to(scores.weight))  # noqa: E731
    return Linearised(run, seen.onward.x, seen.onward.context, rule, outside=_needs(seen) == "grid")


def _needs(seen: SeenLayer) -> str:
    """Return what the map onward reads beside the selected tokens."""
    return getattr(seen.onward.tail, "needs", "nothing")


def edges_to_latents(
    seen: SeenLayer,
    later: SeenLayer,
    rule: Rule = "gradient",
    chosen: Tensor | None = None,
    by_token: bool = False,
    direction: Direction = "auto",
) -> tuple[Edges, Targets]:
    """Return the edges from a layer to the active latents of the next, on each of some images.

    `edge = a_is <w_i, d target / d x_s>`, target the pre-activation of latent `j` at token `t`.

    Args:
        seen: images at the earlier layer; few, as the result grows with all of them.
        later: the same images at the next layer.
        rule: how the part between is made linear.
        chosen: `[n_nodes]` bool, the nodes that are targets; `None` for all.
        by_token: whether a node is a latent at a token; else it is a latent, summed over the tokens.
        direction: `reverse` pulls each target back, `forward` pushes each source forward: they agree, and
            cost as many passes as an image has targets, or sources. `auto` takes the cheaper one.
    """
    targets = LatentTargets(later, chosen, by_token)
    return edges(seen, onward_map(seen, None, rule), targets, by_token, direction), targets


def edges_to_scores(
    seen: SeenLayer, scores: ClassScores, classes: Tensor, rule: Rule = "gradient", by_token: bool = False
) -> tuple[Edges, Targets]:
    """Return the edges from the last layer to the score of one class an image.

    Args:
        seen: images at the last layer.
        scores: of the classes.
        classes: `[n]` int64.
        rule: how the tail and the score are made linear.
        by_token: see `edges_to_latents`.
    """
    linearised = onward_map(seen, scores, rule)
    targets = ScoreTargets(linearised.y, classes)
    return edges(seen, linearised, targets, by_token), targets


def edges(
    seen: SeenLayer,
    linearised: Linearised,
    targets: Targets,
    by_token: bool = False,
    direction: Direction = "auto",
) -> Edges:
    """Return the edges from a layer to any targets behind a linear map; see `edges_to_latents`.

    Raises:
        ValueError: another direction.
    """
    if direction not in get_args(Direction):
        raise ValueError(f"direction must be auto, forward or reverse, got {direction!r}")
    sources = Sources(seen, by_token)
    if direction == "auto":
        direction = "forward" if sources.most + 1 < targets.most else "reverse"
    sums = PairSums(sources.n_nodes)
    beside = targets.value.new_zeros(len(targets), len(BESIDE))
    for pairs, rows, part in (pushed if direction == "forward" else pulled)(sources, linearised, targets):
        sums.add(pairs)
        beside[rows] += part
    pairs = sums.pairs()
    pairs = Pairs(*(part.to(targets.image.device) for part in pairs))
    whole = beside.sum(1).double().index_add(0, pairs.target, pairs.value)
    constant = targets.value - whole.to(targets.value)
    if _needs(seen) == "inputs":  # nothing tells what passes by from the model's constants
        beside[:, BESIDE.index("outside")], constant = constant, torch.zeros_like(constant)
    return Edges(pairs, beside, constant)
