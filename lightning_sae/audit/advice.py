"""A finding in words: one sentence, and what to do."""

from collections.abc import Sequence

from lightning_sae.audit.findings import Culprit, Kind

NAMED = 3  # culprits in a sentence
EXPORT = "Export a corrected classifier: python -m lightning_sae.correct RUN --finding {number} --out DIR"


def summarise(class_name: str, kind: Kind, phrase: str, culprits: Sequence[Culprit], thing: str) -> str:
    """What was found, in one sentence.

    Args:
        class_name: the class.
        kind: of the finding.
        phrase: what the class is called in its prompts.
        culprits: the worst first.
        thing: the other subject that a polysemous or compound culprit detects; "" else.
    """
    several = len(culprits) > 1
    who = f"latent{'s' * several} {', '.join(str(culprit.latent) for culprit in culprits[:NAMED])}"
    labels = dict.fromkeys(f'"{culprit.label}"' for culprit in culprits[:NAMED] if culprit.label)
    who += f" (called {', '.join(labels)})" * bool(labels)
    drive, fire = ("drive", "fire") if several else ("drives", "fires")
    sentences: dict[Kind, str] = {
        "spurious": f'"{class_name}" is driven by something else: {who} {drive} it without looking like it.',
        "typographic": f'"{class_name}" is predicted where the word is written: {who} {drive} it and {fire} '
        f'on the drawn word "{phrase}".',
        "polysemous": f'"{class_name}" stands for another thing, too: {who} {drive} it on images of '
        f'"{thing}", which look nothing like it.',
        "compound": f'"{phrase}" is predicted where a part of the name fits: {who} {drive} it on images of '
        f'"{thing}".',
    }
    return sentences[kind]


def advise(class_name: str, kind: Kind, phrase: str, thing: str, classifier: str) -> tuple[str, ...]:
    """Data to collect, prompt or probe to change.

    Args:
        class_name: the class.
        kind: of the finding.
        phrase: what the class is called in its prompts.
        thing: the other subject that a polysemous or compound culprit detects; "" else.
        classifier: `prompts` or `probe`.
    """
    data: dict[Kind, str] = {
        "spurious": f'Collect images of "{class_name}" without the cue, and of other classes with it; '
        "look at the accuracy of both.",
        "typographic": f'Test with pictures of other things that have "{phrase}" written on them; where text '
        "carries no meaning, cover it before classifying.",
        "polysemous": f'Collect images of "{thing}", and count how many are predicted as "{class_name}".',
        "compound": f'Collect images of "{thing}", and count how many are predicted as "{class_name}".',
    }
    prompt: dict[Kind, str] = {
        "spurious": f'Say in the prompt what makes "{class_name}", and give the cue a prompt of its own.',
        "typographic": f'Describe how "{class_name}" looks instead of naming it alone.',
        "polysemous": f'Say in the prompt which meaning is meant, and give "{thing}" a prompt of its own.',
        "compound": f'Describe what "{phrase}" looks like, and give "{thing}" a prompt of its own.',
    }
    probe: dict[Kind, str] = {
        "spurious": "Fit the probe anew on data in which the cue is as frequent in every class.",
        "typographic": "Fit the probe anew with written words on images of every class.",
        "polysemous": f'Fit the probe anew with images of "{thing}" as a class of their own.',
        "compound": f'Fit the probe anew with images of "{thing}" as a class of their own.',
    }
    return (data[kind], (prompt if classifier == "prompts" else probe)[kind])
