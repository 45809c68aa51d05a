"""Words printed on images with Pillow: whether CLIP and its latents read the word of a class."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from scipy.stats import binom
from scipy.stats import t as student_t
from torch import Tensor

from lightning_sae.attribution.explained import CHUNK, Explained
from lightning_sae.attribution.methods import attribute_own
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import capture_context
from lightning_sae.data import choose_probe
from lightning_sae.metrics import max_over_tokens, sparse_auroc
from lightning_sae.pairs.printing import STYLES, Style, check_letters, meaningless_words, put_label
from lightning_sae.progress import track
from lightning_sae.runs.folder import RunFolder
from lightning_sae.types import SparseLatents

IMAGES = 2  # to print a word on in each style, to find the one that suits it
FRESH = 60  # others, to see what it does in that style
MEANINGLESS = 20  # strings beside each word: by chance it comes first of 21, in less than READ of all cases
READ = 0.05  # p-value up to which a word is read


class Reading(NamedTuple):
    """The reaction of CLIP and latents to the words of classes, printed on validation images.

    Each word is printed in the style in which it raises the score of its class most above that of an empty
    label. The style is chosen on images that nothing else is measured on. The p-values come from meaningless
    words that are treated in the same way, each in the style that suits it.

    Attributes:
        words: `w` words.
        auroc: `[w, d_sae]`, how well the latent's activation tells images with the word from the same images
            with an empty label; in 0..1; NaN for a latent that was not asked for, as below.
        auroc_p: `[w, d_sae]`, p-value by rank of how much more active the latent is in the mean; at least
            1 / 21.
        attribution: `[w, d_sae]`, mean attribution to the score of the word's class on images with the word.
        predicted: `[w]`, share of images that are predicted as the class with its word, minus that share with
            an empty label.
        predicted_p: `[w]`, the larger of two p-values: of more images that turn to the class than from it
            (McNemar's exact test), and of a score that is raised more than by meaningless words (`exceeds`).
    """

    words: Sequence[str]
    auroc: Tensor
    auroc_p: Tensor
    attribution: Tensor
    predicted: Tensor
    predicted_p: Tensor


@torch.no_grad()
def read_words(
    run: RunFolder, words: Sequence[str], classes: Sequence[int], scores: ClassScores, asked: Tensor
) -> Reading:
    """Print the words on validation images, and run CLIP and the autoencoder on them.

    Any string raises the score of a class in some style or other, whatever it means. So each word has its own
    null: strings of its length that mean nothing. They are not drawn for a word that turns no images to its
    class; its p-values are then 1 for the latents, and McNemar's for the class.

    Args:
        run: with its data set up.
        words: each once.
        classes: the class of each word.
        scores: of the classes.
        asked: `[m]` int64, the latents in question.
    """
    check_letters(words)
    reader = _Reader(run, scores, asked)
    found = [
        reader.read(word, c, words)
        for word, c in track([*zip(words, classes, strict=True)], "reading words", unit="words")
    ]
    whole = torch.full((3, len(words), run.sae.d_sae), torch.nan)
    whole[:, :, asked.cpu()] = torch.stack([one.latents for one in found], 1).cpu()
    auroc, auroc_p, attribution = whole
    predicted, p = (
        torch.tensor(part, dtype=torch.float64) for part in zip(*(one[1:] for one in found), strict=True)
    )
    return Reading(words, auroc, auroc_p, attribution, predicted, p)


class _Looked(NamedTuple):
    """Everything that is seen in `n` images.

    Attributes:
        active: `[n, m]`, activations.
        attribution: `[n, m]`, to the score of one class.
        scores: `[n, C]`.
        named: `[n]`, predicted classes.
    """

    active: Tensor
    attribution: Tensor
    scores: Tensor
    named: Tensor


class _Read(NamedTuple):
    """One word of a `Reading`; `latents` are `[3, m]`: AUROC, its p-value, and attribution."""

    latents: Tensor
    predicted: float
    p: float


class _Reader:
    """Reads one word after the other on the same images."""

    def __init__(self, run: RunFolder, scores: ClassScores, asked: Tensor) -> None:
        self.run, self.scores, self.asked = run, scores, asked
        images = run.data.images("val")
        n = len(STYLES) * IMAGES
        ids = choose_probe(images.targets, n + FRESH, seed=0)
        ids = ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))]
        some = [images[i] for i in ids[torch.arange(n + FRESH) % len(ids)].tolist()]  # again, if too few
        self.images, self.fresh = some[:n], some[n:]
        self.empty = self._in_all_styles("")
        self.empty_in: dict[Style, _Looked] = {}

    def read(self, word: str, c: int, words: Sequence[str]) -> _Read:
        """Return the effect of a word against an empty label and, if there is one, meaningless words."""
        mine, empty = self._in_its_style(word, c)
        predicted, p = turned(empty.named == c, mine.named == c)
        active, ranks = (mine.active - empty.active).mean(0), torch.ones(len(self.asked))
        if p <= READ:
            null = meaningless_words(word, words, MEANINGLESS)
            others = [self._in_its_style(drawn, c) for drawn in null]
            lifts = torch.stack([_lift(*other, c) for other in others])
            p = max(p, exceeds(float(_lift(mine, empty, c)), lifts))
            reached = torch.stack([(there.active - without.active).mean(0) for there, without in others])
            ranks = (1 + (reached >= active).sum(0)) / (1 + len(others))
        both = SparseLatents.from_dense(torch.cat([mine.active, empty.active]))
        auroc = sparse_auroc(both, torch.arange(len(both), device=both.values.device) < len(mine.active))
        rows = (auroc.float(), ranks.to(auroc.device), mine.attribution.mean(0))
        return _Read(torch.stack(rows), predicted, p)

    def _in_all_styles(self, word: str) -> Tensor:
        """Return the scores `[s, i, C]`, on `i` images in each of `s` styles."""
        styles = [style for style in STYLES for _ in range(IMAGES)]
        labelled = [put_label(image, word, style) for image, style in zip(self.images, styles, strict=True)]
        scores = [self.scores(self.run.data.clip.encode_image(pixels)) for pixels in self._pixels(labelled)]
        return torch.cat(scores).view(len(STYLES), IMAGES, -1)

    def _in_its_style(self, word: str, c: int) -> tuple[_Looked, _Looked]:
        """Return the fresh images with a word, and the fresh images with an empty label.

        Both labels are in the style that suits the word.
        """
        style = STYLES[int((self._in_all_styles(word) - self.empty)[..., c].mean(1).argmax())]
        if style not in self.empty_in:
            self.empty_in[style] = self._look("", c, style)
        return self._look(word, c, style), self.empty_in[style]

    def _look(self, word: str, c: int, style: Style) -> _Looked:
        parts = [self._look_at(p, c) for p in self._pixels([put_label(i, word, style) for i in self.fresh])]
        return _Looked(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _pixels(self, images: Sequence[Image.Image]) -> Iterator[Tensor]:
        clip = self.run.data.clip
        for start in range(0, len(images), CHUNK):
            part = images[start : start + CHUNK]
            yield torch.stack([clip.preprocess(image) for image in part]).to(clip.device)

    def _look_at(self, pixels: Tensor, c: int) -> _Looked:
        data, sae = self.run.data, self.run.sae
        x, context = capture_context(data.clip, data.hook, data.tail, pixels)
        ids = torch.arange(len(x), device=x.device)
        explained = Explained.of(data.tail, sae, x, context, ids)
        largest = max_over_tokens(explained.latents, ids.repeat_interleave(x.shape[1]))[0]
        attribution = attribute_own(explained, self.scores, torch.full_like(ids, c))
        embeddings = data.tail(x, context)
        return _Looked(
            largest.columns(self.asked).to_dense(),
            attribution.columns(self.asked).to_dense(),
            self.scores(embeddings),
            self.scores.logits(embeddings).argmax(1),
        )


def _lift(there: _Looked, without: _Looked, c: int) -> Tensor:
    """Return by how much a word raises the score of a class, mean over the images."""
    return (there.scores - without.scores)[:, c].mean()


def turned(before: Tensor, after: Tensor) -> tuple[float, float]:
    """Return by how much the share of hits grows, and the p-value of McNemar's exact test that it does.

    Args:
        before: `[n]` bool.
        after: `[n]` bool, of the same images.

    Returns:
        The difference in [-1, 1], and the one-sided p-value.

    Example:
        >>> turned(torch.tensor([False] * 4), torch.tensor([True, True, True, False]))
        (0.75, 0.125)
    """
    to, back = int((after & ~before).sum()), int((before & ~after).sum())
    return (to - back) / len(before), float(binom.sf(to - 1, to + back, 0.5))


def exceeds(value: float, null: Tensor) -> float:
    """Return the p-value of a value as one more draw from a normal distribution of which `k` are known.

    `(value - mean) / (s sqrt(1 + 1/k))` has a t distribution with `k - 1` degrees of freedom, `s` being the
    standard deviation of the `k`.

    Args:
        value: the draw.
        null: `[k]`, two or more.

    Returns:
        In [0, 1]; 1 where all of them and the value are equal.

    Example:
        >>> round(exceeds(2.0, torch.tensor([-1.0, 0.0, 1.0])), 4)
        0.1127
    """
    k = len(null)
    t = (value - null.mean()) / (null.std() * (1 + 1 / k) ** 0.5)
    return float(student_t.sf(t.item(), k - 1)) if not t.isnan() else 1.0
