"""The truth that edges approximate: a latent of an earlier layer is removed, and the model run on."""

import pandas as pd
import torch
from torch import Tensor

from lightning_sae.attribution.ablation import ablate
from lightning_sae.attribution.edges.edges import edges_to_latents
from lightning_sae.attribution.edges.layers import SeenLayer
from lightning_sae.attribution.edges.pair_sums import Pairs, PairSums
from lightning_sae.attribution.edges.targets import LatentTargets
from lightning_sae.classifiers.scores import ClassScores


@torch.no_grad()
def ablate_to_latents(
    seen: SeenLayer, targets: LatentTargets, batch_size: int = 256, sources: Tensor | None = None
) -> Pairs:
    """Return what each active latent does to the pre-activation of each target of its image.

    `target(x) - target(x - sum_s a_is w_i)`: the latent is gone from all tokens, error term and bias stay.

    Args:
        seen: images at the earlier layer.
        targets: on the same images.
        batch_size: edited images in one run of the part between.
        sources: `[d_sae]` bool, latents that are removed; `None`: all that are active.

    Returns:
        Rows of the targets and latents, as `edges_to_latents` gives them.
    """
    whole = seen.onward.tail(seen.onward.x, seen.onward.context)
    active = seen.onward.latents.fired()
    removed = (active if sources is None else active & sources.to(active.device)).nonzero().flatten()
    sums = PairSums(seen.onward.latents.d_sae)
    for removal, image, edited in ablate(seen.onward, removed[:, None].tolist(), batch_size):
        row, place, effect = targets.read_images(whole[image] - edited, image)
        sums.add(Pairs(row, removed[removal[place]], effect))
    return sums.pairs()


@torch.no_grad()
def ablate_to_scores(seen: SeenLayer, scores: ClassScores, classes: Tensor, batch_size: int = 256) -> Pairs:
    """Return what each active latent does to the score of its image, all later layers following.

    Args:
        seen: images at a layer.
        scores: of the classes.
        classes: `[n]` int64, whose score it is.
        batch_size: edited images in one run of the tail.

    Returns:
        Images and latents.
    """
    explained, score = seen.explained, scores.of(classes)
    whole = score(explained.tail(explained.x, explained.context).to(scores.weight), slice(0, len(classes)))
    sources = explained.latents.fired().nonzero().flatten()
    sums = PairSums(explained.latents.d_sae)
    for removal, image, edited in ablate(explained, sources[:, None].tolist(), batch_size):
        effect = whole[image] - score(edited.to(scores.weight), image)
        sums.add(Pairs(image, sources[removal], effect))
    return sums.pairs()


def agreement(found: Pairs, truth: Pairs) -> Tensor:
    """Return Spearman's rank correlation of two values of the same pairs, for each target over its sources.

    Args:
        found: edges.
        truth: effects of exact ablation.

    Returns:
        A value per target, in their order, float64 in [-1, 1]; NaN for one with fewer than two sources, or
        all values equal.

    Raises:
        ValueError: other pairs.

    Example:
        >>> pairs = Pairs(torch.tensor([0, 0, 0]), torch.arange(3), torch.tensor([1.0, 2.0, 9.0]))
        >>> agreement(pairs, pairs._replace(value=torch.tensor([3.0, 4.0, 5.0])))
        tensor([1.], dtype=torch.float64)
    """
    found, truth = (Pairs(*(part.cpu() for part in pairs)) for pairs in (found, truth))
    if not (torch.equal(found.target, truth.target) and torch.equal(found.source, truth.source)):
        raise ValueError(
            f"values of the same pairs can agree, got {len(found.value)} and {len(truth.value)} of others"
        )
    values = {"found": found.value.cpu().numpy(), "truth": truth.value.cpu().numpy()}
    target = found.target.cpu().numpy()
    ranks = pd.DataFrame(values).groupby(target).rank()
    centred = ranks - ranks.groupby(target).transform("mean")
    products = (centred["found"] * centred["truth"]).groupby(target).sum()
    squares = centred.pow(2).groupby(target).sum()
    spread = (squares["found"] * squares["truth"]) ** 0.5
    return torch.tensor((products / spread.where(spread > 0)).to_numpy())


def sampled_agreement(
    seen: SeenLayer, later: SeenLayer, n_targets: int, n_sources: int, seed: int = 0, batch_size: int = 256
) -> Tensor:
    """Return how well true edges agree with exact ablation on each image, as the mean over some targets.

    Targets and sources are drawn among the latents that are active on the image: it costs as many runs of the
    part between as there are sources, and no more passes backward than there are targets.

    Args:
        seen: images at the earlier layer.
        later: the same images at the next.
        n_targets: of an image at most.
        n_sources: of an image at most.
        seed: of the draws.
        batch_size: edited images in one run of the part between.

    Returns:
        `[n]` float64 in [-1, 1]; NaN for an image on which no target has two sources.
    """
    random, found = torch.Generator().manual_seed(seed), []
    for i in range(len(seen.explained.x)):
        here, there = seen.images(i, i + 1), later.images(i, i + 1)
        chosen, sources = (_drawn(layer, n, random) for layer, n in ((there, n_targets), (here, n_sources)))
        targets = LatentTargets(there, chosen)
        truth = ablate_to_latents(here, targets, batch_size, sources)
        pairs = edges_to_latents(here, there, "gradient", chosen)[0].pairs
        mine = sources[pairs.source]
        found.append(agreement(Pairs(*(part[mine] for part in pairs)), truth).nanmean())
    return torch.stack(found)


def _drawn(seen: SeenLayer, n: int, random: torch.Generator) -> Tensor:
    """Return `[d_sae]` bool: some of the latents that are active."""
    active = seen.explained.latents.fired().nonzero().flatten().cpu()
    drawn = active[torch.randperm(len(active), generator=random)[:n]]
    found = torch.zeros(seen.explained.latents.d_sae, dtype=torch.bool).index_fill(0, drawn, True)
    return found.to(seen.explained.x.device)
