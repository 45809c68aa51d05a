"""Does a latent mean a class? Its top images against random images, and against images of the class."""

from typing import NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor

from lightning_sae.concepts.alignment import concept_vectors
from lightning_sae.concepts.significance import least_auroc, p_values, random_image_sets
from lightning_sae.metrics import auroc
from lightning_sae.metrics.accuracy import predict

ROUNDING = 1e-6  # of a mean cosine: sets that differ by less agree alike
TELLS = (
    0.8  # AUROC for the images of a class: of the judge, so that it can be asked; of a latent that marks it
)


class MeaningTests(NamedTuple):
    """The tests against both references.

    Attributes:
        level: level of both tests, in (0, 1).
        draws: number of random sets, and largest number of sets of a class.
        seed: of the draws.
        min_images: smallest number of images of a class that are a reference.
    """

    level: float = 0.01
    draws: int = 1000
    seed: int = 0
    min_images: int = 20


DEFAULT = MeaningTests()


class Meaning(NamedTuple):
    """Agreement of the top images of latents with class names, beside that of references.

    Attributes:
        agreement: `[d_sae, C]` in [-1, 1], mean cosine of the top images with the name; NaN without images.
        p_random: `[d_sae, C]` in (0, 1], chance that as many random images agree as well.
        p_class: `[d_sae, C]` in (0, 1], chance that as many alike images of the class agree as badly; NaN
            for a class without images.
        images: `[C]` int64, images of each class.
        detects: `[d_sae, C]` in [0, 1], AUROC of each latent's activation for images of the class; NaN if
            unknown.
        told: `[C]` in [0, 1], AUROC of the judge's cosine with the name for images of the class; NaN for a
            class that no image shows, or all.
        tests: by which they were made.
    """

    agreement: Tensor
    p_random: Tensor
    p_class: Tensor
    images: Tensor
    detects: Tensor
    told: Tensor
    tests: MeaningTests

    def to(self, device: torch.device | str) -> "Meaning":
        """Return the same on another device."""
        return self._replace(**{name: getattr(self, name).to(device) for name in self._fields[:-1]})

    @property
    def asked(self) -> Tensor:
        """`[C]` bool, classes with enough images, which the judge tells from others with an AUROC of 0.8."""
        return (self.told >= TELLS) & (self.images >= self.tests.min_images)

    @property
    def below_class(self) -> Tensor:
        """`[d_sae, C]` bool: worse than images of the class, or than all their sets where these are few."""
        least, level = 1 / (self.images.double() + 1), self.tests.level
        return self.p_class <= torch.where(least > level, least, level) + 1e-9

    @property
    def means(self) -> Tensor:
        """`[d_sae, C]` bool: better than random images, and no worse than images of the class."""
        return self.asked & (self.p_random <= self.tests.level) & (self.p_class > 0) & ~self.below_class

    @property
    def passes_by(self) -> Tensor:
        """`[d_sae, C]` bool: not more active on images of the class than chance allows (Mann-Whitney)."""
        counts = self.images.tolist()
        least = [least_auroc(n, sum(counts) - n, self.tests.level) for n in counts]
        return self.detects <= self.detects.new_tensor(least)

    @property
    def foreign(self) -> Tensor:
        """`[d_sae, C]` bool: worse than images of the class, no better than random images, and not its mark.

        A latent that tells the images of the class from others, with an AUROC of 0.8 or more, is a feature of
        the class as far as these images can tell, even where other classes have more of it: a latent for
        shoes that fires on sandals most is a feature of ankle boots, too. A latent that is not more active on
        the class (`passes_by`) cannot mean it. Its top images may still agree with the name better than
        random ones, because they are like each other: grey notes are like an umbrella.
        """
        no_better = (self.p_random > self.tests.level) | self.passes_by
        return self.asked & no_better & self.below_class & ~(self.detects >= TELLS)


def class_meaning(
    top_ids: Tensor,
    embeddings: Tensor,
    texts: Tensor,
    shown: Tensor,
    detects: Tensor | None = None,
    tests: MeaningTests = DEFAULT,
) -> Meaning:
    """Test every latent against every class.

    The statistic is linear in the images, `m_j(c) = mean_i <e_i, t_c>` over the top images of latent `j`: its
    mean over random sets is that over all images, however unlike they are. The cosine of the *mean* image has
    no such reference: the mean of unlike images is short, and giving it unit length turns it to the texts.

    There are two references. Random sets are `tests.draws` sets of as many different images. Sets of the
    class are an image of the class and those images of the class that are most like it, so a latent for a
    part of the class, such as white bags among bags, is compared with such parts.

    Args:
        top_ids: `[d_sae, n]` int64, rows of `embeddings`; -1 where a latent has fewer than `n` images.
        embeddings: `[n_images, d]` unit image embeddings of the judge.
        texts: `[C, d]` unit text embeddings of the class names.
        shown: `[n_images]` int64, the class of each image, -1 for none of them.
        detects: `[d_sae, C]`, AUROC of each latent for images of each class; `None` if unknown.
        tests: level, draws and seed.

    Raises:
        ValueError: `tests.level` is not in (0, 1), or there are too few draws for it.

    Example:
        >>> e = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> shown, tops = torch.tensor([0, 0, 1, 1]), torch.tensor([[0, 1], [0, 2], [-1, -1]])
        >>> texts = torch.tensor([[0.8, 0.6], [-0.6, 0.8]])
        >>> class_meaning(tops, e, texts, shown, tests=MeaningTests(0.5)).agreement
        tensor([[ 0.8000, -0.6000],
                [ 0.7000,  0.1000],
                [    nan,     nan]])
    """
    level, draws, seed, _ = tests
    if not 1 / (draws + 1) <= level < 1:
        raise ValueError(
            f"level must be below 1 and at least 1 / (draws + 1), got {level} with {draws} draws: draw more"
        )
    agreement = concept_vectors(top_ids, embeddings) @ texts.T
    sizes = (top_ids >= 0).sum(1)
    most = int(sizes.max()) if len(sizes) else 0
    p_random, p_class = torch.full((2, *agreement.shape), torch.nan, dtype=torch.float64).to(texts.device)
    told = torch.full((len(texts),), torch.nan, device=texts.device)
    images = torch.bincount(shown[shown >= 0], minlength=len(texts)).to(texts.device)
    if detects is None:
        detects = torch.full_like(agreement, torch.nan)
    found = Meaning(agreement, p_random, p_class, images, detects.to(texts.device), told, tests)
    if most == 0:
        return found
    sets = _random_orders(len(embeddings), most, draws, seed).to(embeddings.device)
    for c, text in enumerate(texts):
        similarity, mine = embeddings @ text, shown == c
        told[c] = auroc(similarity, mine)
        _fill(p_random[:, c], agreement[:, c], sizes, _running_means(similarity[sets]))
        if mine.any():
            alike = alike_sets(embeddings[mine], most, draws, seed)
            _fill(p_class[:, c], -agreement[:, c], sizes, -_running_means(similarity[mine][alike]))
    return found


def alike_sets(embeddings: Tensor, n: int, draws: int, seed: int = 0) -> Tensor:
    """Return sets of images, each of one image and the images that are most like it.

    Args:
        embeddings: `[m, d]` unit embeddings.
        n: images in a set; all `m`, where there are fewer.
        draws: sets, of different images; `m`, where there are fewer.
        seed: of the choice of images.

    Returns:
        `[min(draws, m), min(n, m)]` int64, the most alike first.

    Example:
        >>> alike_sets(torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), n=2, draws=3)
        tensor([[0, 1],
                [1, 0],
                [2, 1]])
    """
    m = len(embeddings)
    start = torch.arange(m)
    if m > draws:
        start = torch.randperm(m, generator=torch.Generator().manual_seed(seed))[:draws].sort().values
    return (embeddings[start.to(embeddings.device)] @ embeddings.T).topk(min(n, m)).indices


def meaning_tests(config: DictConfig) -> MeaningTests:
    """Return the tests of a run; settings that it leaves out have the library's defaults.

    Args:
        config: of the run.

    Example:
        >>> from omegaconf import OmegaConf
        >>> meaning_tests(OmegaConf.create({"callbacks": {"reliance": {"level": 0.02, "top": 5}}}))
        MeaningTests(level=0.02, draws=1000, seed=0, min_images=20)
    """
    reliance = config.callbacks.get("reliance") or {}
    return MeaningTests(**{name: reliance[name] for name in MeaningTests._fields if name in reliance})


def shown_classes(targets: Tensor, embeddings: Tensor, texts: Tensor) -> Tensor:
    """Return the class of each image: that of the data, else what the judge would call it.

    Args:
        targets: `[n_images]` int64, -1 where the data do not say.
        embeddings: `[n_images, d]` unit image embeddings of the judge.
        texts: `[C, d]` unit text embeddings of the class names.
    """
    targets = targets.to(embeddings.device)
    return torch.where(targets >= 0, targets, predict(embeddings, texts))


def _random_orders(n_images: int, n: int, draws: int, seed: int) -> Tensor:
    """Return `[draws, n]`: the first images of each row, however many are taken, are a random set."""
    n = min(n, n_images)
    sets = random_image_sets(n_images, n, draws, seed)
    order = torch.rand(sets.shape, generator=torch.Generator().manual_seed(seed)).argsort(1)
    return sets.gather(1, order)


def _running_means(similarity: Tensor) -> Tensor:
    """Return `[sets, n]`: mean of the first 1, 2, ... images of each set."""
    return similarity.cumsum(1) / torch.arange(1, similarity.shape[1] + 1, device=similarity.device)


def _fill(p: Tensor, scores: Tensor, sizes: Tensor, null: Tensor) -> None:
    """Write the p-values of latents, each by sets of as many images as it has."""
    for n in torch.unique(sizes[sizes > 0]).tolist():
        some = sizes == n
        reached = null[:, min(n, null.shape[1]) - 1].to(scores) + ROUNDING
        p[some] = p_values(scores[some], reached)
