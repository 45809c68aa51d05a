"""Which kind of reliance a culprit is; the tests with their formulas are written down in `docs/audit.md`."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from lightning_sae.audit.evidence.cues import HALF, Limits
from lightning_sae.audit.evidence.gaps import Gap
from lightning_sae.audit.evidence.phrases import is_part
from lightning_sae.audit.evidence.reading import READ, Reading
from lightning_sae.audit.evidence.subjects import Subjects
from lightning_sae.audit.findings import EvidenceTest, Kind


class Looks(NamedTuple):
    """The judge's view of the images of a latent, for a class.

    Attributes:
        agreement: mean cosine of its top images with the class's name.
        p_random: chance that as many random images agree as well.
        p_class: chance that as many alike images of the class agree as badly.
        foreign: whether its top images do not mean the class, by both chances.
        errors_p_class: as `p_class`, of the wrong predictions that the latent drives most; NaN without any.
        errors_below: whether these predictions agree worse with the name than images of the class do.
        errors_called: share of these predictions that the judge calls the class.
        asked: whether the judge can tell the class at all.
    """

    agreement: float
    p_random: float
    p_class: float
    foreign: bool
    errors_p_class: float
    errors_below: bool
    errors_called: float
    asked: bool


class Case(NamedTuple):
    """All that the tests of one class look at.

    Attributes:
        phrase: what it is called.
        subjects: what the images show.
        thing: the other subject that at least half of the wrong predictions show, -1 for none.
        thing_share: share of the wrong predictions that show this subject.
        thing_taken: share of this subject's images that are predicted as the class.
        detects: `[S, d_sae]`, AUROC of each latent for the images of each subject against all others.
        reading: reading of the drawn words, one of which is the class's word.
        word: place of the class's word in the reading.
        by_errors: whether there are enough wrong predictions to look at.
        gap: gap in false positives of the known group that the wrong predictions were picked by; `None` where
            they were not picked by a group.
        marks: `[d_sae]`, AUROC of each latent for the group, or for the wrong predictions.
        marked: `[d_sae]` bool, whether that is more than chance.
        looks: by latent, for the latents that may lead a cause.
        errors_called: share of the wrong predictions that the judge calls the class, too.
        limits: from which AUROC on a latent is a detector.
    """

    phrase: str
    subjects: Subjects
    thing: int
    thing_share: float
    thing_taken: float
    detects: Tensor
    reading: Reading
    word: int
    by_errors: bool
    gap: Gap | None
    marks: Tensor
    marked: Tensor
    looks: Mapping[int, Looks]
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
    evidence: tuple[EvidenceTest, ...]


def decide(case: Case, latent: int) -> Decided:
    """Return the kind of one culprit: the first whose tests are passed.

    1. *compound*, *polysemous*: the latent stands for another thing. At least half of the wrong predictions
       show one other subject, the latent detects that subject, and the judge can tell the class and calls at
       most half of the wrong predictions the class. The kind is compound if the subject's name is a part of
       the class's, else polysemous.
    2. *typographic*: the latent reads. It detects the class's word, is more active on it than on most
       meaningless words, and raises the class's score there. The word turns images to the class and raises
       its score as no meaningless word does.
    3. *spurious*: the latent does not look like the class. Either the class is taken for wrongly more often
       in a group that the data know, and the latent marks this group. Or the latent's top images do not mean
       the class, by the judge. Or the wrong predictions that it drives most agree worse with the class's name
       than images of the class do, and the judge calls less than half of them the class.

    A detector has an AUROC of at least `limits.detects`. Where the judge cannot tell the class, no test that
    asks the judge is passed.
    """
    other, reads, foreign = _thing(case, latent), _reads(case, latent), _foreign(case, latent)
    if other and all(e.passed is not False for e in other):
        kind: Kind = "compound" if is_part(case.thing_name, case.phrase) else "polysemous"
        return Decided(kind, other[0].value, (*other, *reads, *foreign))
    if all(e.passed for e in reads):
        return Decided("typographic", reads[0].value, (*reads, *other, *foreign))
    if any(e.passed for e in foreign):
        best = max(tests[0].value for tests in (other, reads) if tests)  # AUROC that speaks for another kind
        return Decided("spurious", 1 - best / 2, (*foreign, *other, *reads))
    return Decided(None, 0.0, ())


def _reads(case: Case, latent: int) -> tuple[EvidenceTest, ...]:
    reading, w = case.reading, case.word
    auroc, auroc_p = float(reading.auroc[w, latent]), float(reading.auroc_p[w, latent])
    drive = float(reading.attribution[w, latent])
    effect, effect_p = float(reading.predicted[w]), float(reading.predicted_p[w])
    return (
        EvidenceTest(
            name="word_auroc",
            value=auroc,
            threshold=case.limits.detects,
            passed=auroc >= case.limits.detects and auroc_p <= HALF,
            p_value=auroc_p,
            meaning=f'how well it tells the printed word "{case.phrase}" from an empty label; p against '
            "meaningless words, most of which have to make it less active",
        ),
        EvidenceTest(
            name="word_attribution",
            value=drive,
            threshold=0.0,
            passed=drive > 0,
            meaning="its mean attribution to the class on images with the word",
        ),
        EvidenceTest(
            name="word_effect",
            value=effect,
            threshold=0.0,
            passed=effect_p <= READ,
            p_value=effect_p,
            meaning="by how much larger a share of images is predicted as the class with its word printed on "
            "them than with an empty label; p also against meaningless words",
        ),
    )


def _thing(case: Case, latent: int) -> tuple[EvidenceTest, ...]:
    if case.thing < 0:
        return ()
    auroc = float(case.detects[case.thing, latent].nan_to_num(nan=0.5))
    named, asked = f'one other thing, "{case.thing_name}"', case.looks[latent].asked
    return (
        EvidenceTest(
            name="thing_auroc",
            value=auroc,
            threshold=case.limits.detects,
            passed=auroc >= case.limits.detects,
            meaning=f"how well it detects {named}",
        ),
        EvidenceTest(
            name="thing_share",
            value=case.thing_share,
            threshold=HALF,
            passed=case.thing_share >= HALF,
            meaning=f"share of the wrong predictions that show {named}",
        ),
        EvidenceTest(
            name="judge_disagrees",
            value=1 - case.errors_called,
            threshold=HALF,
            passed=asked and 1 - case.errors_called >= HALF,
            meaning="share of the wrong predictions that the judge does not call the class",
        ),
        EvidenceTest(
            name="thing_taken",
            value=case.thing_taken,
            meaning=f'share of all images of "{case.thing_name}" that are predicted as the class',
        ),
    )


def _foreign(case: Case, latent: int) -> tuple[EvidenceTest, ...]:
    looks = case.looks[latent]
    found = [] if case.gap is None else [_group_gap(case, case.gap, latent)]
    found += [] if math.isnan(looks.agreement) else [_top_images(looks)]
    found += [] if math.isnan(looks.errors_p_class) else [_driven_errors(looks)]
    return tuple(found)


def _group_gap(case: Case, gap: Gap, latent: int) -> EvidenceTest:
    return EvidenceTest(
        name="group_gap",
        value=gap.gap.value,
        threshold=0.0,
        passed=bool(case.marked[latent]) and gap.gap.low > 0,
        p_value=gap.p,
        meaning=f"by how much more often images of other classes with {gap.name} are taken for the class "
        f"({gap.share:.1%}) than those without ({gap.elsewhere:.1%}); the latent tells them with an AUROC of "
        f"{float(case.marks[latent]):.2f}",
    )


def _top_images(looks: Looks) -> EvidenceTest:
    return EvidenceTest(
        name="top_images",
        value=looks.agreement,
        p_value=None if math.isnan(looks.p_class) else looks.p_class,
        passed=looks.foreign,
        meaning="mean cosine of its top images with the name of the class, by the judge; passed if random "
        f"images have as much (p {looks.p_random:.2g}) and alike images of the class more (the p-value)",
    )


def _driven_errors(looks: Looks) -> EvidenceTest:
    return EvidenceTest(
        name="driven_errors",
        value=1 - looks.errors_called,
        threshold=HALF,
        p_value=looks.errors_p_class,
        passed=looks.asked and looks.errors_below and looks.errors_called < HALF,
        meaning="share of the wrong predictions it drives most that the judge does not call the class; the "
        "p-value is that of alike images of the class",
    )
