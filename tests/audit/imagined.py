"""Images that nobody drew: what a classifier and an autoencoder would make of them, by hand."""

import torch

from lightning_sae.audit.cases import make_case
from lightning_sae.audit.cues import Limits, find_cues
from lightning_sae.audit.kinds import Case
from lightning_sae.audit.meaning import Judged
from lightning_sae.audit.seen import Seen
from lightning_sae.audit.subjects import Subjects
from lightning_sae.audit.words import Reading
from lightning_sae.types import SparseLatents

LIMITS = Limits(min_images=4, min_errors=3)


def seen(predicted, latents, attributions=None, attributed=None):
    """Of dense `[n, d_sae]` rows; attributions default to the activations."""
    latents = torch.tensor(latents, dtype=torch.float32)
    attributed = torch.arange(len(latents)) if attributed is None else torch.tensor(attributed)
    drive = latents[attributed] if attributions is None else torch.tensor(attributions, dtype=torch.float32)
    return Seen(
        SparseLatents.from_dense(latents),
        torch.tensor(predicted),
        torch.zeros(len(latents), 2),
        attributed,
        SparseLatents.from_dense(drive),
        0.0,
    )


def subjects(names, subject, of_class=None):
    """All known; the classifier has the classes of the data, unless it is said otherwise."""
    known = torch.ones(len(subject), dtype=torch.bool)
    return Subjects(names, torch.tensor(subject), known, list(of_class or range(len(names))))


def cues(images, c, shows, unexpected=(), limits=LIMITS):
    """Of the latents in `unexpected`, none means the class."""
    mask = torch.zeros(images.latents.d_sae, dtype=torch.bool)
    mask[list(unexpected)] = True
    return find_cues(images, c, torch.as_tensor(shows), mask, limits)


def judged(n, d_sae, n_classes, calls):
    """A judge that calls image `i` class `calls[i]`, and to whom no latent means a class."""
    alignment = torch.zeros(d_sae, n_classes)
    return Judged(
        torch.eye(n_classes)[torch.tensor(calls)],
        torch.eye(n_classes),
        [""] * d_sae,
        torch.full((d_sae,), torch.nan),
        torch.full((d_sae,), torch.nan),
        torch.full((d_sae, 1), -1),
        alignment,
        alignment + 0.5,
    )


def reading(d_sae, auroc=0.5, attribution=0.0, predicted=0.0):
    """Of one word, the same for every latent."""
    return Reading(
        ["word"],
        torch.full((1, d_sae), auroc, dtype=torch.float64),
        torch.full((1, d_sae), attribution, dtype=torch.float64),
        torch.tensor([predicted], dtype=torch.float64),
    )


def case(phrase="sea lion", names=("dog", "lion"), detects=0.5, share=0.0, called=0.0, aligned=0.0, **words):
    """Of one latent and the second subject, at whose threshold of 0.5 it looks like the class."""
    return Case(
        phrase,
        subjects(list(names), [0, 1]),
        [0],
        torch.tensor([[0.5], [detects]], dtype=torch.float64),
        torch.tensor([[0.0], [share]], dtype=torch.float64),
        reading(1, **words),
        0,
        torch.tensor([aligned]),
        torch.tensor([0.5]),
        called,
    )


def made(images, c, shown, calls, phrase="sea lion", read=None, limits=LIMITS):
    """The case of a class and its cues, of images that show `shown` and that the judge calls `calls`."""
    cue = cues(images, c, shown.show(c), limits=limits)
    n, d_sae = len(images.latents), images.latents.d_sae
    judge = judged(n, d_sae, len(shown.of_class), calls)
    return make_case(c, phrase, cue, images, shown, judge, read or reading(d_sae), 0), cue
