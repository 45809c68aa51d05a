"""Images that nobody drew: what a classifier and an autoencoder would make of them, by hand."""

import torch

from lightning_sae.attribution.explained import Explained
from lightning_sae.audit.evidence.cues import Limits, find_cues
from lightning_sae.audit.evidence.evidence_pass import SplitView
from lightning_sae.audit.evidence.gaps import Gap
from lightning_sae.audit.evidence.judgement import JudgeView
from lightning_sae.audit.evidence.ranking import rank
from lightning_sae.audit.evidence.reading import Reading
from lightning_sae.audit.evidence.removal import BootstrapEstimate
from lightning_sae.audit.evidence.subjects import Subjects
from lightning_sae.audit.verdict.cases import Suspect, leads, look_at, make_case
from lightning_sae.audit.verdict.kinds import Case, Decided, Looks
from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.concepts.meaning import Meaning, MeaningTests
from lightning_sae.metrics import ActiveRanks
from lightning_sae.types import SparseLatents

LIMITS = Limits(min_images=4, min_errors=3)
NAN = float("nan")


def seen(predicted, latents, attributions=None, attributed=None, explained=()):
    """Of dense `[n, d_sae]` rows; attributions default to the activations."""
    latents = torch.as_tensor(latents, dtype=torch.float32)
    attributed = torch.arange(len(latents)) if attributed is None else torch.tensor(attributed)
    drive = latents[attributed] if attributions is None else torch.tensor(attributions, dtype=torch.float32)
    return SplitView(
        SparseLatents.from_dense(latents),
        torch.as_tensor(predicted),
        torch.zeros(len(latents), 2),
        attributed,
        explained,
        SparseLatents.from_dense(drive),
        0.0,
    )


def subjects(names, subject, of_class=None):
    """All known; the classifier has the classes of the data, unless it is said otherwise."""
    known = torch.ones(len(subject), dtype=torch.bool)
    return Subjects(names, torch.as_tensor(subject), known, list(of_class or range(len(names))))


def apart(shows):
    """Images that show class 0 or each a thing of its own: no one thing stands behind the errors."""
    return subjects([str(i) for i in range(len(shows) + 1)], [0 if s else i + 1 for i, s in enumerate(shows)])


def detection(images, shown):
    """AUROC of each latent for the images of each subject."""
    return ActiveRanks.of(images.latents).aurocs(shown.subject, len(shown.names)).float()


def look(images, c, shown, unexpected=(), limits=LIMITS, on_thing=None, group=None):
    """The cues of a class and the ranking of its latents; of those in `unexpected`, none means the class."""
    mask = torch.zeros(images.latents.d_sae, dtype=torch.bool)
    mask[list(unexpected)] = True
    detects = detection(images, shown)
    cue = find_cues(images, c, shown, detects, limits, group)
    return cue, rank(cue, detects, on_thing, mask, limits)


def foreign_meaning(d_sae, n_classes):
    """Of latents none of which means any class, by a judge that knows all of them."""
    agreement, many = torch.zeros(d_sae, n_classes), torch.full((n_classes,), 100)
    p = torch.full((d_sae, n_classes), 0.5, dtype=torch.float64)
    return Meaning(agreement, p, p / 500, many, torch.full_like(agreement, NAN), many / 100, MeaningTests())


def judged(n, d_sae, n_classes, calls):
    """A judge that calls image `i` class `calls[i]`, and to whom no latent means a class."""
    embeddings, texts = torch.eye(n_classes)[torch.tensor(calls)], torch.eye(n_classes)
    unknown = torch.full((d_sae,), NAN)
    return JudgeView(
        embeddings,
        texts,
        torch.tensor(calls),
        [""] * d_sae,
        [False] * d_sae,
        unknown,
        unknown,
        torch.full((d_sae, 8), -1),
        foreign_meaning(d_sae, n_classes),
        MeaningTests(),
    )


def reading(d_sae, auroc=0.5, attribution=0.0, predicted=0.0, auroc_p=0.04, predicted_p=1.0):
    """Of one word, the same for every latent."""
    of_latents = [torch.full((1, d_sae), v, dtype=torch.float64) for v in (auroc, auroc_p, attribution)]
    return Reading(["word"], *of_latents, torch.tensor([predicted]), torch.tensor([predicted_p]).double())


def looks(**changes):
    """Of a latent whose top images do not mean the class; it drives no wrong predictions."""
    values = {"agreement": 0.1, "p_random": 0.4, "p_class": 0.001, "foreign": True}
    values |= {"errors_p_class": NAN, "errors_below": False, "errors_called": 0.0, "asked": True}
    return Looks(**{**values, **changes})


def gap_of(name="mark=yes", low=0.05, c=0, measure="false_positives"):
    """A gap of 10 points, whose interval begins at `low`."""
    factor = name.partition("=")[0]
    return Gap(c, factor, 1, name, measure, 50, 0.12, 0.02, BootstrapEstimate(0.1, low, 0.15, 0.001), 0.001)


def case(
    phrase="sea lion",
    names=("dog", "lion"),
    thing=-1,
    detects=0.5,
    share=0.0,
    called=0.0,
    gap=None,
    marked=True,
    words=None,
    by_errors=True,
    **look_changes,
):
    """Of one latent, whose top images do not mean the class."""
    return Case(
        phrase=phrase,
        subjects=subjects(list(names), [0, 1]),
        thing=thing,
        thing_share=share,
        thing_taken=0.25,
        detects=torch.tensor([[0.5], [detects]], dtype=torch.float64),
        reading=reading(1, **(words or {})),
        word=0,
        by_errors=by_errors,
        gap=gap,
        marks=torch.tensor([0.9]),
        marked=torch.tensor([marked]),
        looks={0: looks(**look_changes)},
        errors_called=called,
    )


def made(images, c, shown, calls, phrase="sea lion", read=None, limits=LIMITS, group=None, gap=None):
    """Case, cues and ranking of a class, of images that show `shown` and that the judge calls `calls`."""
    cue, ranking = look(images, c, shown, limits=limits, group=group)
    n, d_sae = len(images.latents), images.latents.d_sae
    judge = judged(n, d_sae, len(shown.of_class), calls)
    looked = look_at(judge, images, cue, leads(cue, ranking, limits))
    read = read or reading(d_sae)
    found = make_case(phrase, cue, gap, shown, judge, detection(images, shown), read, 0, limits, looked)
    return found, cue, ranking


def suspect(cue, latents, kind="spurious"):
    """Latents of a cue, all as much suspected."""
    return Suspect(cue, tuple(latents), (1.0,) * len(latents), Decided(kind, 1.0, ()))


def linear_world(a, weight, bias=None, W_dec=None, rest=0.0, ids=None):
    """Images in two parts, and the scores of a probe on `x = a W_dec + rest` itself; the tail does nothing.

    `ids`: of the images that `a` are; all, unless it is said otherwise.
    """
    a, weight = torch.as_tensor(a, dtype=torch.float32), torch.as_tensor(weight, dtype=torch.float32)
    W_dec = torch.eye(a.shape[1]) if W_dec is None else W_dec
    x = (a @ W_dec + rest)[:, None]
    ids = torch.arange(len(a)) if ids is None else ids
    latents = SparseLatents.from_dense(a)
    explained = Explained(lambda x, context: x[:, 0], W_dec, x, x, latents, None, ids)
    halves = [explained.images(0, len(a) // 2), explained.images(len(a) // 2, len(a))]
    bias = torch.zeros(len(weight)) if bias is None else torch.as_tensor(bias)
    return halves, ClassScores(LinearClassifier(weight, bias), "logit")
