"""Which kind of reliance a culprit is; the tests with their formulas are written down in `docs/audit.md`."""

from typing import NamedTuple

from torch import Tensor

from lightning_sae.audit.cues import HALF, Limits
from lightning_sae.audit.findings import Evidence, Kind
from lightning_sae.audit.phrases import is_part
from lightning_sae.audit.subjects import Subjects
from lightning_sae.audit.words import READ, Reading


class Case(NamedTuple):
    """All that the tests of one class look at.

    Attributes:
        phrase: what it is called.
        subjects: what the images show.
        thing: the other subject that at least half of the wrong predictions show, -1 for none.
        thing_share: of the wrong predictions that show it.
        detects: `[S, d_sae]`, AUROC of each latent for the images of each subject against all others.
        reading: of the drawn words, where the class's is one of them.
        word: its place there.
        by_errors: whether there are enough wrong predictions to look at.
        alignment: `[d_sae]`, of each latent's top images with the class, under the judge.
        threshold: `[d_sae]`, what few random image sets reach.
        otherwise: `[d_sae]`, alignment with the latent's label where that is not the class, else NaN.
        errors_called: share of the wrong predictions that the judge calls the class, too.
        limits: from which AUROC on a latent is a detector.
    """

    phrase: str
    subjects: Subjects
    thing: int
    thing_share: float
    detects: Tensor
    reading: Reading
    word: int
    by_errors: bool
    alignment: Tensor
    threshold: Tensor
    otherwise: Tensor
    errors_called: float
    limits: Limits = Limits()

    @property
    def thing_name(self) -> str:
        """The name of that subject, "" for none."""
        return self.subjects.names[self.thing] if self.thing >= 0 else ""


class Decided(NamedTuple):
    """A kind, how sure it is, and the tests; `kind` is `None` for a latent that is no culprit after all."""

    kind: Kind | None
    confidence: float
    evidence: tuple[Evidence, ...]


def decide(case: Case, latent: int) -> Decided:
    """The kind of one culprit: the first whose tests are passed.

    1. *compound*, *polysemous*: it is another thing. At least half of the wrong predictions show one other
       subject, it detects that subject, and the judge calls at most half of the wrong predictions the class.
       Compound if the subject's name is a part of the class's, else polysemous.
    2. *typographic*: it reads. It detects the class's word among meaningless ones, it raises the class's
       score there, and the word turns images to the class and raises its score as no meaningless one does.
    3. *spurious*: its top images do not look like the class under the judge. They agree with it no better
       than random ones can; or, where it marks wrong predictions, they agree better with another word, and
       the judge calls less than half of the wrong predictions the class.

    A detector has an AUROC of at least `limits.detects`.
    """
    other, reads, foreign = _thing(case, latent), _reads(case, latent), _foreign(case, latent)
    if other and all(e.passed for e in other):
        kind: Kind = "compound" if is_part(case.thing_name, case.phrase) else "polysemous"
        return Decided(kind, other[0].value, (*other, *reads, foreign))
    if all(e.passed for e in reads):
        return Decided("typographic", reads[0].value, (*reads, *other, foreign))
    if foreign.passed:
        best = max(tests[0].value for tests in (other, reads) if tests)  # AUROC that speaks for another kind
        return Decided("spurious", 1 - best / 2, (foreign, *other, *reads))
    return Decided(None, 0.0, ())


def _reads(case: Case, latent: int) -> tuple[Evidence, ...]:
    reading, w = case.reading, case.word
    auroc, auroc_p = float(reading.auroc[w, latent]), float(reading.auroc_p[w, latent])
    drive = float(reading.attribution[w, latent])
    effect, effect_p = float(reading.predicted[w]), float(reading.predicted_p[w])
    return (
        Evidence(
            name="word_auroc",
            value=auroc,
            threshold=case.limits.detects,
            passed=auroc >= case.limits.detects and auroc_p <= READ,
            p_value=auroc_p,
            meaning=f'how well it tells the printed word "{case.phrase}" from meaningless ones',
        ),
        Evidence(
            name="word_attribution",
            value=drive,
            threshold=0.0,
            passed=drive > 0,
            meaning="its mean attribution to the class on images with the word",
        ),
        Evidence(
            name="word_effect",
            value=effect,
            threshold=0.0,
            passed=effect_p <= READ,
            p_value=effect_p,
            meaning="by how much larger a share of images is predicted as the class with its word printed on "
            "them than with an empty label; p also against meaningless words",
        ),
    )


def _thing(case: Case, latent: int) -> tuple[Evidence, ...]:
    if case.thing < 0:
        return ()
    auroc = float(case.detects[case.thing, latent].nan_to_num(nan=0.5))
    named = f'one other thing, "{case.thing_name}"'
    return (
        Evidence(
            name="thing_auroc",
            value=auroc,
            threshold=case.limits.detects,
            passed=auroc >= case.limits.detects,
            meaning=f"how well it detects {named}",
        ),
        Evidence(
            name="thing_share",
            value=case.thing_share,
            threshold=HALF,
            passed=case.thing_share >= HALF,
            meaning=f"share of the wrong predictions that show {named}",
        ),
        Evidence(
            name="judge_disagrees",
            value=1 - case.errors_called,
            threshold=HALF,
            passed=1 - case.errors_called >= HALF,
            meaning="share of the wrong predictions that the judge does not call the class",
        ),
    )


def _foreign(case: Case, latent: int) -> Evidence:
    alignment, threshold = float(case.alignment[latent]), float(case.threshold[latent])
    meaning = "alignment of its top images with the class, by the judge; random images reach the threshold"
    otherwise = float(case.otherwise[latent])
    if case.by_errors and otherwise > threshold and case.errors_called < 1 - HALF:
        threshold = otherwise
        meaning = (
            "alignment of its top images with the class, by the judge; its own label reaches the threshold"
        )
    return Evidence(
        name="class_alignment",
        value=alignment,
        threshold=threshold,
        passed=alignment < threshold,
        meaning=meaning,
    )
