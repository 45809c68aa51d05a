"""Images that nobody drew: what a classifier and an autoencoder would make of them, by hand."""

import torch

from lightning_sae.audit.cases import make_case
from lightning_sae.audit.cues import Limits, find_cues
from lightning_sae.audit.kinds import Case
from lightning_sae.audit.meaning import Judged
from lightning_sae.audit.ranking import rank
from lightning_sae.audit.seen import Seen
from lightning_sae.audit.subjects import Subjects
from lightning_sae.audit.words import Reading
from lightning_sae.metrics import ActiveRanks
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


def apart(shows):
    """Images that show class 0 or each a thing of its own: no one thing stands behind the errors."""
    return subjects([str(i) for i in range(len(shows) + 1)], [0 if s else i + 1 for i, s in enumerate(shows)])


def look(images, c, shown, unexpected=(), limits=LIMITS, on_thing=None):
    """The cues of a class and the ranking of its latents; of those in `unexpected`, none means the class."""
    mask = torch.zeros(images.latents.d_sae, dtype=torch.bool)
    mask[list(unexpected)] = True
    detects = ActiveRanks.of(images.latents).aurocs(shown.subject, len(shown.names)).float()
    cue = find_cues(images, c, shown, detects, limits)
    return cue, rank(cue, detects, on_thing, mask, limits)


def judged(n, d_sae, n_classes, calls):
    """A judge that calls image `i` class `calls[i]`, and to whom no latent means a class."""
    alignment = torch.zeros(d_sae, n_classes)
    return Judged(
        [str(c) for c in range(n_classes)],
        torch.eye(n_classes)[torch.tensor(calls)],
        torch.eye(n_classes),
        [""] * d_sae,
        [False] * d_sae,
        torch.full((d_sae,), torch.nan),
        torch.full((d_sae,), torch.nan),
        torch.full((d_sae, 1), -1),
        alignment,
        alignment + 0.5,
    )


def reading(d_sae, auroc=0.5, attribution=0.0, predicted=0.0, auroc_p=0.04, predicted_p=1.0):
    """Of one word, the same for every latent."""
    of_latents = [torch.full((1, d_sae), v, dtype=torch.float64) for v in (auroc, auroc_p, attribution)]
    return Reading(["word"], *of_latents, torch.tensor([predicted]), torch.tensor([predicted_p]).double())


def case(
    phrase="sea lion",
    names=("dog", "lion"),
    thing=-1,
    detects=0.5,
    share=0.0,
    called=0.0,
    aligned=0.0,
    otherwise=torch.nan,
    **words,
):
    """Of one latent, at whose threshold of 0.5 it looks like the class."""
    return Case(
        phrase=phrase,
        subjects=subjects(list(names), [0, 1]),
        thing=thing,
        thing_share=share,
        detects=torch.tensor([[0.5], [detects]], dtype=torch.float64),
        reading=reading(1, **words),
        word=0,
        by_errors=True,
        alignment=torch.tensor([aligned]),
        threshold=torch.tensor([0.5]),
        otherwise=torch.tensor([otherwise]),
        errors_called=called,
    )


def made(images, c, shown, calls, phrase="sea lion", read=None, limits=LIMITS):
    """Case, cues and ranking of a class, of images that show `shown` and that the judge calls `calls`."""
    cue, ranking = look(images, c, shown, limits=limits)
    n, d_sae = len(images.latents), images.latents.d_sae
    judge = judged(n, d_sae, len(shown.of_class), calls)
    detects = ActiveRanks.of(images.latents).aurocs(shown.subject, len(shown.names)).float()
    found = make_case(phrase, cue, shown, judge, detects, read or reading(d_sae), 0, limits)
    return found, cue, ranking
