"""Names of several words: what the firing images have in common, beyond what a first word says of them."""

from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lightning_sae.concepts.significance import best_label_null, chance_of, p_values
from lightning_sae.metrics import auroc


class Word(NamedTuple):
    """A word of a composition, judged among the images that the words before it describe.

    Attributes:
        text: its place in the texts.
        z: standard deviations by which the firing images agree with it more than as many random images.
        p: chance that as many random images agree as well with their own best word.
        auroc: AUROC of the agreement for the firing images.
        firing: number of the images on which the latent fires.
        images: number of images that the word is judged on.
    """

    text: int
    z: float
    p: float
    auroc: float
    firing: int
    images: int


class Composing(NamedTuple):
    """Settings of the search.

    Attributes:
        most: words at most.
        level: p-value that a word has at most, in (0, 1).
        draws: random sets behind a p-value.
        min_auroc: what a word reaches at least among the images that it is judged on, in [0, 1].
        cover: share of the firing images that the words so far describe, in (0, 1].
        min_images: firing images that a word is judged on at least.
        seed: of the draws.
    """

    most: int = 3
    level: float = 0.01
    draws: int = 300
    min_auroc: float = 0.8
    cover: float = 0.9
    min_images: int = 5
    seed: int = 0


DEFAULT = Composing()


def compose(
    fires: Tensor, embeddings: Tensor, texts: Tensor, settings: Composing = DEFAULT
) -> tuple[list[Word], Word | None]:
    """Find words which together say when a latent fires: a greedy search, a word at a time.

    The search picks the word with the best standardised agreement of the firing images
    (`Chance.standardise`). The word is taken if random sets of as many images do not reach this agreement
    with their own best word, and if it tells the firing images from the others as a name has to. The next
    word is looked for among the images that the words so far describe. These are all images that agree with
    the words at least as well as the share `cover` of the firing images that agrees best. A word that only
    repeats the first one has no contrast left there.

    Args:
        fires: `[n]` bool, whether the latent fires on each image.
        embeddings: `[n, d]` unit image embeddings of the judge.
        texts: `[V, d]` unit text embeddings.
        settings: of the search.

    Returns:
        The words that are taken, and the first that is not; `None` where too few images were left.

    Example:
        >>> e = torch.eye(4).repeat(20, 1)
        >>> e = normalize(e + e.roll(1, 0) / 2)
        >>> words, stopped = compose(e[:, 2] > 0.8, e, torch.eye(4))
        >>> [word.text for word in words]
        [2]
    """
    found: list[Word] = []
    while len(found) < settings.most:
        n = int(fires.sum())
        if n < settings.min_images or n == len(fires):
            return found, None
        word = _best_word(fires, embeddings, texts, [one.text for one in found], settings)
        if word.p > settings.level or word.auroc < settings.min_auroc:
            return found, word
        found.append(word)
        agreement = embeddings @ composed(texts, found)
        described = agreement >= agreement[fires].quantile(1 - settings.cover)
        fires, embeddings = fires[described], embeddings[described]
    return found, None


def composed(texts: Tensor, words: list[Word]) -> Tensor:
    """Return the unit embedding of several words: their mean direction, `[d]`."""
    return normalize(texts[[word.text for word in words]].sum(0), dim=0)


def orders(words: list[str]) -> list[str]:
    """Return the texts that some words make, in every order.

    Example:
        >>> orders(["flag", "navy background"])
        ['flag navy background', 'navy background flag']
    """
    return [" ".join(order) for order in permutations(words)]


def _best_word(
    fires: Tensor, embeddings: Tensor, texts: Tensor, taken: list[int], settings: Composing
) -> Word:
    n, chance = int(fires.sum()), chance_of(embeddings, texts)
    z = chance.standardise(texts @ embeddings[fires].mean(0), n).nan_to_num(nan=-torch.inf)
    z[taken] = -torch.inf
    index = int(z.argmax())
    null = best_label_null(embeddings, texts, n, settings.draws, settings.seed)
    tells = auroc(embeddings @ texts[index], fires)
    return Word(index, float(z[index]), float(p_values(z[index], null)), float(tells), n, len(fires))
