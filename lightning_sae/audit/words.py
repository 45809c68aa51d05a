"""Words drawn on neutral pictures with Pillow: whether a latent reads the word of a class."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import matplotlib
import torch
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track
from torch import Tensor

from lightning_sae.audit.seen import CHUNK, attribute_own, class_means, stacked
from lightning_sae.clip import capture_context
from lightning_sae.methods import Explained
from lightning_sae.metrics import ActiveRanks, max_over_tokens
from lightning_sae.run_folder import RunFolder
from lightning_sae.scores import ClassScores
from lightning_sae.types import SparseLatents

SIDE = 224  # pixels of a drawn picture; CLIP's preprocessing makes its own size of it
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif")  # of matplotlib
HEIGHTS = (0.15, 0.25, 0.35)  # of a label, shares of the picture's
PLACES = (0.0, 0.5, 1.0)  # of a label, from the upper to the lower edge
GROUNDS = ((128, 128, 128), (235, 235, 235), (20, 20, 20), (90, 110, 140), (150, 120, 100))  # plain colours
WIDEST = 0.95  # of a label, share of the picture's width
RENDERED = 160  # pixels, size of the font that a label is made smaller from


class Style(NamedTuple):
    """How a word is drawn.

    Attributes:
        font: file of matplotlib.
        height: of the label, a share of the picture's.
        place: of the label, 0 at the upper edge to 1 at the lower one.
    """

    font: str
    height: float
    place: float


STYLES = tuple(Style(*parts) for parts in product(FONTS, HEIGHTS, PLACES))


@cache
def _label(word: str, font: str) -> Image.Image:
    """The word in black on white, as high as the line."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    letters = ImageFont.truetype(str(path), RENDERED)
    left, _, right, _ = letters.getbbox(word or "word")
    margin, height = RENDERED // 8, sum(letters.getmetrics())
    label = Image.new("L", (int(right - left) + 2 * margin, height), 255)
    ImageDraw.Draw(label).text((margin - left, 0), word, font=letters, fill=0)
    return label


def put_label(picture: Image.Image, word: str, style: Style) -> Image.Image:
    """The picture with a word in black on a white label, as on a sticker.

    Args:
        picture: in RGB, of any size.
        word: what is written; "" leaves the label empty.
        style: font, size and place. A word that is too wide for the picture is squeezed.

    Returns:
        A copy.

    Example:
        >>> labelled = put_label(Image.new("RGB", (40, 30)), "plane", Style("DejaVuSans", 0.3, 1.0))
        >>> labelled.getpixel((20, 20)), labelled.getpixel((20, 21))  # above the label, and its margin
        ((0, 0, 0), (255, 255, 255))
    """
    label, height = _label(word, style.font), max(1, round(style.height * picture.height))
    width = max(1, min(round(WIDEST * picture.width), round(label.width * height / label.height)))
    labelled = picture.convert("RGB")
    drawn = label.resize((width, height), Image.Resampling.LANCZOS).convert("RGB")
    place = (picture.width - width) // 2, round(style.place * (picture.height - height))
    labelled.paste(drawn, place)
    return labelled


def draw_word(word: str, style: Style, ground: tuple[int, int, int] = GROUNDS[0]) -> Image.Image:
    """A word in black on a white label on a plain ground, as on a sticker.

    Args:
        word: what is written; "" leaves the label empty.
        style: font, size and place. A word that is too wide for it is squeezed.
        ground: colour of the picture.

    Returns:
        RGB, `SIDE` x `SIDE`.

    Example:
        >>> draw_word("plane", STYLES[0]).size
        (224, 224)
    """
    return put_label(Image.new("RGB", (SIDE, SIDE), ground), word, style)


def word_pictures(word: str) -> Iterator[Image.Image]:
    """The word in every style on every ground, style by style: 135 pictures."""
    return (draw_word(word, style, ground) for style, ground in product(STYLES, GROUNDS))


class Reading(NamedTuple):
    """How the latents react to the drawn words.

    Attributes:
        words: `w` words.
        auroc: `[w, d_sae]`, how well the latent's activation tells pictures with the word from those with the
            other words and with none, in the style in which it does best; in 0..1; NaN for a latent that was
            not asked for.
        attribution: `[w, d_sae]`, mean attribution to the score of the word's class on its pictures in that
            style; NaN as above.
        predicted: `[w]`, share of the word's pictures that are predicted as the word's class, less the same
            share of the other words' pictures, in the style in which that is largest.
    """

    words: Sequence[str]
    auroc: Tensor
    attribution: Tensor
    predicted: Tensor


@torch.no_grad()
def read_words(
    run: RunFolder, words: Sequence[str], classes: Sequence[int], scores: ClassScores, asked: Tensor
) -> Reading:
    """Runs CLIP and the autoencoder on the drawn words.

    Args:
        run: with its data set up.
        words: each once; pictures with an empty label are added.
        classes: the class of each word, whose score is attributed on its pictures.
        scores: of the classes.
        asked: `[m]` int64, the latents in question; memory grows with `w * m`.
    """
    pictures = [_look(run, word, c, scores) for word, c in track(
        [*zip(words, classes, strict=True), ("", 0)], "reading words", transient=True)]  # fmt: skip
    latents, attributions = (
        stacked([getattr(p, name).columns(asked) for p in pictures]) for name in ("latents", "attributions")
    )
    n, w, s = len(STYLES) * len(GROUNDS), len(pictures), len(STYLES)
    word = torch.arange(w).repeat_interleave(n)
    style = torch.arange(s).repeat_interleave(len(GROUNDS)).repeat(w)
    auroc, attribution = torch.full((w - 1, len(asked)), -torch.inf), torch.zeros(w - 1, len(asked))
    predicted = _more_often(torch.stack([p.named for p in pictures]).cpu(), torch.tensor(list(classes)))
    for number in range(s):
        chosen = (style == number).to(latents.indices.device)
        mine = word[chosen.cpu()].to(chosen.device)
        ranks = ActiveRanks.of(latents.keep(chosen)).aurocs(mine, w)[:-1].cpu().float()
        means = class_means(attributions.keep(chosen), mine, w)[:-1].cpu()
        better = ranks > auroc
        auroc, attribution = torch.where(better, ranks, auroc), torch.where(better, means, attribution)
    whole = torch.full((2, w - 1, run.sae.d_sae), torch.nan)
    whole[:, :, asked.cpu()] = torch.stack([auroc, attribution])
    return Reading(words, whole[0], whole[1], predicted)


def _more_often(named: Tensor, classes: Tensor) -> Tensor:
    """`[w]`: how much more often its own word's pictures are called a class than the others' are, at best.

    Args:
        named: `[w + 1, n]` predicted classes, style by style.
        classes: `[w]`, that of each word.
    """
    more = torch.empty(len(classes))
    for word, c in enumerate(classes.tolist()):
        called = (named == c).float().view(len(named), len(STYLES), -1).mean(2)
        others = (called.sum(0) - called[word]) / (len(named) - 1)
        more[word] = (called[word] - others).max()
    return more


class _Looked(NamedTuple):
    latents: SparseLatents
    attributions: SparseLatents
    named: Tensor


def _look(run: RunFolder, word: str, c: int, scores: ClassScores) -> _Looked:
    pixels = torch.stack([run.data.clip.preprocess(picture) for picture in word_pictures(word)])
    parts = [_look_at(run, chunk, c, scores) for chunk in torch.split(pixels, CHUNK)]
    latents, attributions, named = zip(*parts, strict=True)
    return _Looked(stacked(latents), stacked(attributions), torch.cat(named))


def _look_at(run: RunFolder, pixels: Tensor, c: int, scores: ClassScores) -> _Looked:
    data, sae = run.data, run.sae
    x, context = capture_context(data.clip, data.hook, data.tail, pixels.to(data.clip.device))
    x_hat, active = sae(x.flatten(0, 1))
    ids = torch.arange(len(x), device=x.device)
    explained = Explained(data.tail, sae.W_dec.detach().float(), x, x_hat.view_as(x), active, context, ids)
    return _Looked(
        max_over_tokens(active, ids.repeat_interleave(x.shape[1]))[0],
        attribute_own(explained, scores, torch.full_like(ids, c)),
        scores.logits(data.tail(x, context)).argmax(1),
    )
