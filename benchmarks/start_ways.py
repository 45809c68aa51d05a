"""Ways in which the rows of a dictionary can start or be held, and the training that they share.

Each way takes two seeds: one of its start and one of the order of the batches. With one start for all orders
dictionaries agree before they have learned anything; with a start for each, what they agree on is learned.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.optim import Adam

from lightning_sae.sae import TopK
from lightning_sae.sae.initialisation import initialise
from lightning_sae.training.clipping import clip_by_scale
from lightning_sae.training.module import lr_factor

LR, WARMUP, DECAY, CLIP, BETAS = 2e-3, 100, 0.2, 1e-3, (0.9, 0.99)  # of conf/module/default.yaml


class Recipe(NamedTuple):
    """The settings that all trainings share.

    Attributes:
        x: `[n, d_in]`, centred and scaled.
        d_sae: latents.
        k: active latents per token.
        steps: of the optimiser.
        batch: tokens per step.
    """

    x: Tensor
    d_sae: int
    k: int
    steps: int
    batch: int

    def batches(self, seed: int) -> Iterator[Tensor]:
        """Return batches without end, each pass over the activations in another order."""
        random = torch.Generator().manual_seed(seed)
        while True:
            for rows in torch.randperm(len(self.x), generator=random).split(self.batch):
                if len(rows) == min(self.batch, len(self.x)):
                    yield self.x[rows]


class Trained(NamedTuple):
    """A result.

    Attributes:
        sae: the autoencoder.
        start: `[d_sae, d_in]`, its decoder rows before training.
    """

    sae: TopK
    start: Tensor


class Hull(nn.Module):
    """Decoder rows in a relaxed convex hull: `normalise(shares @ points + deviation)` (arXiv 2502.12892).

    The points are made of unit norm, as rows are: a deviation that had to grow with longer points would
    hardly move at a learning rate that suits rows.

    Args:
        points: `[m, d_in]`, not 0.
        first: `[d_sae]` int64, the point that each row starts as.
        radius: largest norm of a row's deviation.
    """

    def __init__(self, points: Tensor, first: Tensor, radius: float) -> None:
        super().__init__()
        self.points, self.radius = normalize(points, dim=1), radius
        self.weights = nn.Parameter(nn.functional.one_hot(first, len(points)).float())
        self.deviation = nn.Parameter(torch.zeros(len(first), points.shape[1]))

    def forward(self) -> Tensor:
        """Return `[d_sae, d_in]` of unit norm."""
        shares = self.weights.relu()
        shares = shares / shares.sum(1, keepdim=True).clamp_min(1e-8)
        length = self.deviation.norm(dim=1, keepdim=True)
        bounded = self.deviation * (self.radius / length.clamp_min(1e-12)).clamp(max=1)
        return normalize(shares @ self.points + bounded, dim=1)


def train(sae: TopK, recipe: Recipe, order: int, hull: Hull | None = None) -> Trained:
    """Train as `SAEModule` does; with a hull, the decoder rows are always what it gives."""
    start = sae.W_dec.detach().clone()
    parameters = [p for p in sae.parameters() if hull is None or p is not sae.W_dec]
    optimiser = Adam([*parameters, *(hull.parameters() if hull else ())], lr=LR, betas=BETAS, fused=True)
    for step, x in zip(range(recipe.steps), recipe.batches(order), strict=False):
        optimiser.param_groups[0]["lr"] = LR * lr_factor(step, recipe.steps, WARMUP, DECAY)
        loss, latents, _ = sae.training_loss(x)
        loss.backward()
        if hull:
            hull().backward(sae.W_dec.grad)
        clip_by_scale(optimiser, CLIP)
        optimiser.step()
        sae.zero_grad()
        optimiser.zero_grad()
        if hull:
            with torch.no_grad():
                sae.W_dec.copy_(hull())
        sae.after_step()
        sae.count_firings(latents.fired(), len(x))
    return Trained(sae, start)


def random_rows(recipe: Recipe, start: int, order: int) -> Trained:
    """Train from random directions, the default."""
    return train(_fresh(recipe, start), recipe, order)


def data_rows(recipe: Recipe, start: int, order: int) -> Trained:
    """Train from the directions of random activations, `module.rows=data`."""
    random = torch.Generator().manual_seed(start)
    return _from_points(recipe, recipe.x[torch.randperm(len(recipe.x), generator=random)], start, order)


def centroids(recipe: Recipe, start: int, order: int) -> Trained:
    """Train from the directions of k-means centroids."""
    return _from_points(recipe, k_means(recipe.x, recipe.d_sae, start), start, order)


def archetypal(recipe: Recipe, start: int, order: int, radius: float, points: int) -> Trained:
    """Train with rows in the relaxed hull of centroids, the same in all trainings; each row starts as one."""
    hull_points = k_means(recipe.x, points, seed=0)
    first = torch.randperm(points, generator=torch.Generator().manual_seed(start))[: recipe.d_sae]
    sae = _fresh(recipe, start)
    hull = Hull(hull_points, first, radius)
    initialise(sae, torch.zeros(recipe.x.shape[1]), hull_points[first], tied=True)
    return train(sae, recipe, order, hull)


def pooled(recipe: Recipe, start: int, order: int, seeds: int, pool_steps: int, steps: int) -> Trained:
    """Train from what recurs among short trainings; each start has short trainings of its own."""
    short, last = recipe._replace(steps=pool_steps), recipe._replace(steps=steps)
    numbers = [1000 * (start + 1) + i for i in range(seeds)]
    members = [random_rows(short, number, number).sae for number in numbers]
    sae = _fresh(recipe, start)
    with torch.no_grad():
        pool(sae, members)
    return train(sae, last, order)


def pool(sae: TopK, members: Sequence[TopK]) -> None:
    """Give an autoencoder the latents of others that recur most, each the mean of its occurrences."""
    groups = recurring([member.W_dec for member in members])
    rows = torch.stack([member.W_dec for member in members])
    encoders = torch.stack([member.encoder for member in members])
    biases = torch.stack([member.b_enc for member in members])
    for i, group in enumerate(groups[: sae.d_sae]):
        who, which = torch.tensor(group).T
        sae.W_dec[i] = normalize(rows[who, which].mean(0), dim=0)
        sae.encoder[i] = encoders[who, which].mean(0)
        sae.b_enc[i] = biases[who, which].mean()
    sae.b_dec.copy_(torch.stack([member.b_dec for member in members]).mean(0))


def recurring(dictionaries: Sequence[Tensor]) -> list[list[tuple[int, int]]]:
    """Return groups of `(dictionary, latent)` that are the same latent, the most alike first.

    The one-to-one partners of each latent of each dictionary are a candidate, its likeness the mean cosine
    with all partners; a candidate whose latents are taken loses them.
    """
    m, d_sae = len(dictionaries), len(dictionaries[0])
    partner = torch.zeros(m, m, d_sae, dtype=torch.int64)
    cosine = torch.ones(m, m, d_sae)
    for i in range(m):
        for j in range(m):
            partner[i, j], cosine[i, j] = matched(dictionaries[i], dictionaries[j])
    likeness = cosine.sum(1)
    taken: set[tuple[int, int]] = set()
    groups = []
    for place in likeness.flatten().argsort(descending=True).tolist():
        i, latent = divmod(place, d_sae)
        if (i, latent) in taken:
            continue
        group = [(j, int(partner[i, j, latent])) for j in range(m)]
        group = [one for one in group if one not in taken]
        taken.update(group)
        groups.append(group)
    return groups


def matched(rows: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's partner by one-to-one matching and their cosine, `[d_sae]` each."""
    cosines = normalize(rows.detach(), dim=1) @ normalize(others.detach(), dim=1).T
    _, partner = linear_sum_assignment(cosines.numpy(), maximize=True)
    found = torch.from_numpy(partner)
    return found, cosines.gather(1, found[:, None])[:, 0]


def k_means(x: Tensor, n: int, seed: int) -> Tensor:
    """Return `[n, d_in]` centroids."""
    sample = x[torch.from_numpy(np.random.default_rng(seed).permutation(len(x))[: max(n, 10_000)])]
    found = KMeans(n, n_init=1, max_iter=20, random_state=seed).fit(sample.numpy())
    return torch.from_numpy(found.cluster_centers_).to(x)


def _fresh(recipe: Recipe, seed: int) -> TopK:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TopK(recipe.x.shape[1], recipe.d_sae, recipe.k)


def _from_points(recipe: Recipe, points: Tensor, start: int, order: int) -> Trained:
    sae = _fresh(recipe, start)
    initialise(sae, torch.zeros(recipe.x.shape[1]), points, tied=True)
    return train(sae, recipe, order)
