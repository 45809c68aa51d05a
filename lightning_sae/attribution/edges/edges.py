"""Edges: what each active latent of an earlier layer, its error and its bias contribute to targets."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from lightning_sae.attribution.edges.layers import Seen
from lightning_sae.attribution.edges.linearised import Linearised, Rule
from lightning_sae.attribution.edges.nodes import n_nodes, nodes_of
from lightning_sae.attribution.edges.pair_sums import Pairs, PairSums
from lightning_sae.attribution.edges.targets import LatentTargets, ScoreTargets, Targets
from lightning_sae.attribution.gradient import attribute
from lightning_sae.classifiers.scores import ClassScores

Direction = Literal["auto", "forward", "reverse"]
BESIDE = ("error", "bias", "outside")
"""Sources beside latents: the reconstruction error, the decoder bias, and other tokens than the selected."""


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


def onward_map(seen: Seen, scores: ClassScores | None, rule: Rule) -> Linearised:
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
    return Linearised(run, seen.onward.x, seen.onward.context, rule, outside=_has_outside(seen))


def _has_outside(seen: Seen) -> bool:
    return getattr(seen.onward.tail, "needs", "") == "grid"


def edges_to_latents(
    seen: Seen,
    later: Seen,
    rule: Rule = "frozen",
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
    seen: Seen, scores: ClassScores, classes: Tensor, rule: Rule = "frozen", by_token: bool = False
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
    seen: Seen,
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
    sources = _Sources(seen, by_token)
    if direction == "auto":
        direction = "forward" if sources.most + 1 < targets.most else "reverse"
    sums = PairSums(sources.n_nodes)
    beside = targets.value.new_zeros(len(targets), len(BESIDE))
    for pairs, rows, part in (_pushed if direction == "forward" else _pulled)(sources, linearised, targets):
        sums.add(pairs)
        beside[rows] += part
    pairs = sums.pairs()
    pairs = Pairs(*(part.to(targets.image.device) for part in pairs))
    whole = beside.sum(1).double().index_add(0, pairs.target, pairs.value)
    constant = targets.value - whole.to(targets.value)
    if not _has_outside(seen):  # nothing tells the other tokens from the model's constants
        beside[:, BESIDE.index("outside")], constant = constant, torch.zeros_like(constant)
    return Edges(pairs, beside, constant)


class _Sources:
    """The active latents of a layer as nodes, and where they stand among those of their image."""

    def __init__(self, seen: Seen, by_token: bool) -> None:
        explained = seen.onward
        latents, n = explained.latents, len(explained.x)
        self.seen, self.explained = seen, explained
        self.n_nodes = n_nodes(explained, by_token)
        self.token, self.image = latents.rows(), explained.image_rows()
        self.active = latents.values > 0
        self.node = nodes_of(explained, by_token)
        keys, self.row = torch.unique(
            (self.image * self.n_nodes + self.node)[self.active], return_inverse=True
        )
        self.row_image = torch.div(keys, self.n_nodes, rounding_mode="floor")
        self.row_node = keys % self.n_nodes
        counts = torch.bincount(self.row_image, minlength=n)
        places = torch.arange(len(keys), device=keys.device)
        self.place = places - (counts.cumsum(0) - counts)[self.row_image]
        self.most = int(counts.max()) if len(keys) else 0

    def tangents(self, places: range) -> Tensor:
        """Return what the sources at some places of all images contribute to `x`, `[m, n, t, d]`."""
        x, latents = self.explained.x, self.explained.latents
        entry = self.active.nonzero().flatten()
        place = self.place[self.row]
        mine = (place >= places.start) & (place < places.stop)
        part = latents.values[entry[mine], None] * self.explained.W_dec[latents.indices[entry[mine]]]
        at = (place[mine] - places.start) * len(latents) + self.token[entry[mine]]
        return x.new_zeros(len(places) * len(latents), x.shape[2]).index_add_(0, at, part).view(-1, *x.shape)


Parts = Iterator[tuple[Pairs, Tensor, Tensor]]
"""Pairs of target rows and sources; rows of targets; their part of what stands beside, `[b, 3]`."""


def _pulled(sources: _Sources, linearised: Linearised, targets: Targets) -> Parts:
    explained, n = sources.explained, targets.n
    for place in range(targets.most):
        rows = (targets.place == place).nonzero().flatten()
        image = targets.image[rows]
        g, g_context = linearised.pull(targets.cotangent(place))
        values = attribute(explained.latents, explained.W_dec, g.flatten(0, 1))
        row = torch.full((n,), -1, device=image.device).index_put((image,), rows)[sources.image]
        mine = (row >= 0) & sources.active
        outside = torch.zeros_like(g[:, 0, 0])
        if g_context is not None and explained.context is not None:
            outside = (g_context * explained.context).flatten(1).sum(1)
        parts = [(g * sources.seen.error).sum((1, 2)), (g * sources.seen.bias).sum((1, 2)), outside]
        yield Pairs(row[mine], sources.node[mine], values[mine]), rows, torch.stack(parts, 1)[image]


def _pushed(sources: _Sources, linearised: Linearised, targets: Targets, chunk_size: int = 16) -> Parts:
    n = targets.n
    for start in range(0, sources.most, chunk_size):
        places = range(start, min(start + chunk_size, sources.most))
        for place, y in zip(places, linearised.push(sources.tangents(places)), strict=True):
            node = torch.full((n,), -1, device=y.device)
            here = sources.place == place
            node[sources.row_image[here]] = sources.row_node[here]
            of_target = node[targets.image]
            rows = (of_target >= 0).nonzero().flatten()
            nothing = rows[:0], targets.value.new_zeros(0, len(BESIDE))
            yield Pairs(rows, of_target[rows], targets.read(y)[rows]), *nothing
    error, bias = linearised.push(
        torch.stack([sources.seen.error, sources.seen.bias.expand_as(sources.seen.error)])
    )
    parts = [targets.read(y) for y in (error, bias)]
    outside = linearised.push_context()
    parts.append(torch.zeros_like(parts[0]) if outside is None else targets.read(outside))
    no_rows = targets.image[:0]
    yield (
        Pairs(no_rows, no_rows, parts[0][:0]),
        torch.arange(len(targets), device=no_rows.device),
        torch.stack(parts, 1),
    )
