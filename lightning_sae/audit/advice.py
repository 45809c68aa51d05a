"""A finding in words: one sentence, and what to do."""

from collections.abc import Sequence

from lightning_sae.audit.findings import Culprit, Kind
from lightning_sae.concepts.naming import LatentName

NAMED = 3  # culprits in a sentence
EXPORT = "Export a corrected classifier: lightning-sae correct RUN --finding {number} --out DIR"


def summarise(
    class_name: str,
    kind: Kind,
    phrase: str,
    culprits: Sequence[Culprit],
    things: Sequence[str],
    group: str = "",
) -> str:
    """Return what was found, in one sentence.

    Args:
        class_name: the class.
        kind: of the finding.
        phrase: what the class is called in its prompts.
        culprits: the worst first.
        things: the other subjects that polysemous or compound culprits detect.
        group: value of a known factor in which the class is taken for wrongly too often, as `mark=yes`.
    """
    named = culprits[:NAMED]
    who = f"latent{'s' * (len(named) > 1)} {_listed([str(culprit.latent) for culprit in named])}"
    drive, fire, its = ("drive", "fire", "their") if len(named) > 1 else ("drives", "fires", "its")
    others, called = _listed([f'"{thing}"' for thing in things]), _listed(list(map(_called, named)))
    sentences: dict[Kind, str] = {
        "spurious": f'"{class_name}" relies on something else: {called} {drive} it '
        + (
            f"on images with {group}."
            if group
            else f"where it is wrong, and {its} images do not look like it."
        ),
        "typographic": f'"{class_name}" is predicted where the word is written: {who} {drive} it and {fire} '
        f'on the drawn word "{phrase}".',
        "polysemous": f'"{class_name}" also stands for something that looks different: {who} {drive} it on '
        f"images of {others}.",
        "compound": f'"{phrase}" is predicted where only a part of the name fits: {who} {drive} it on images '
        f"of {others}.",
    }
    return sentences[kind]


def _called(culprit: Culprit) -> str:
    return LatentName(culprit.label, culprit.named).in_sentence(culprit.latent)


def _listed(words: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def advise(
    class_name: str, kind: Kind, phrase: str, things: Sequence[str], classifier: str
) -> tuple[str, ...]:
    """Return advice: the data to collect, and the prompt or probe to change.

    Args:
        class_name: the class.
        kind: of the finding.
        phrase: what the class is called in its prompts.
        things: the other subjects that polysemous or compound culprits detect.
        classifier: `prompts` or `probe`.
    """
    others = _listed([f'"{thing}"' for thing in things])
    count = f'Collect images of {others}, and count how many are predicted as "{class_name}".'
    own = f"Fit the probe anew with {others} among the classes."
    data: dict[Kind, str] = {
        "spurious": f'Collect images of "{class_name}" without the cue, and of other classes with it; '
        "look at the accuracy of both.",
        "typographic": f'Test with pictures of other things that have "{phrase}" written on them; where text '
        "carries no meaning, cover it before classifying.",
        "polysemous": count,
        "compound": count,
    }
    prompt: dict[Kind, str] = {
        "spurious": f'Describe "{class_name}" itself in the prompt, and add a class whose prompt is the cue.',
        "typographic": f'Describe how "{class_name}" looks instead of naming it alone.',
        "polysemous": f"Say in the prompt which meaning is meant, and add {others} to the classes.",
        "compound": f'Describe how "{phrase}" looks, and add {others} to the classes.',
    }
    probe: dict[Kind, str] = {
        "spurious": "Fit the probe anew on data in which the cue is as frequent in every class.",
        "typographic": "Fit the probe anew with written words on images of every class.",
        "polysemous": own,
        "compound": own,
    }
    return (data[kind], (prompt if classifier == "prompts" else probe)[kind])
