"""The reference of a monitor: what was usual on images of which nobody complains."""

from collections.abc import Sequence
from pathlib import Path

from lightning_sae.audit.audited import audited_classifier
from lightning_sae.audit.evidence.evidence_pass import check_images
from lightning_sae.audit.findings import FILE as AUDIT
from lightning_sae.audit.findings import Audit, read_audit
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.concepts.naming import names_of
from lightning_sae.data.images.image_set import ImageSet
from lightning_sae.monitoring.image_numbers import ImageNumbers
from lightning_sae.monitoring.looking import Looking
from lightning_sae.monitoring.reference import Reference, ReferenceFacts, save_reference
from lightning_sae.monitoring.state import FILE as STATE
from lightning_sae.monitoring.stream import prepared_batches
from lightning_sae.runs.classifier import chosen_classifier
from lightning_sae.runs.folder import RunFolder

ALPHA = 0.05
FEWEST = 100
"""Reference images below which no bound says anything."""


def fit_reference(
    run: RunFolder,
    images: ImageSet | None = None,
    classifier: Classifier | None = None,
    alpha: float = ALPHA,
    attribute_every: int | None = None,
) -> Reference:
    """Return the reference of a monitor: what is usual on some images.

    Args:
        run: an opened run on images.
        images: those in which nothing is wrong, as the monitor will see them; `None`: the validation images.
        classifier: the one in use; `None`: the audited one, or without an audit that of the run's prompts.
        alpha: chance of any alarm where nothing has changed.
        attribute_every: 1 in so many images is attributed; `None`: all behind the last layer, else 1 in 20.

    Raises:
        ValueError: a run on texts, too few images, an alpha that is none.
    """
    check_images(run.data)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    audit = read_audit(run.folder) if (run.folder / AUDIT).is_file() else None
    classifier = classifier or _classifier(run, audit)
    culprits = {} if audit is None else _culprits(audit, classifier.class_names)
    looking = Looking.of(run, classifier, culprits, attribute_every)
    chosen = run.data.images("val") if images is None else images
    numbers = _look(looking, chosen)
    names = names_of(run.latents.reindex(range(run.sae.d_sae)))
    facts = ReferenceFacts(
        run=str(run.folder.resolve()),
        sae_sha256=run.sae_sha256,
        images=str(chosen.identity()["name"]),
        class_names=tuple(classifier.class_names),
        labels=tuple(name.in_sentence(j) for j, name in enumerate(names)),
        alpha=alpha,
        attribute_every=looking.every,
        culprits=culprits,
        audited=audit is not None,
    )
    return Reference(facts, numbers, classifier)


def check_new(folder: Path) -> None:
    """Refuse a folder whose monitor has seen something: its alarms would be of another reference.

    Raises:
        FileExistsError: it has.
    """
    if folder.is_file() or (folder / STATE).is_file():
        raise FileExistsError(f"{folder} is a file, or a monitor that has seen images: name a new folder")


def fit_monitor(reference: Reference, folder: Path) -> None:
    """Write the folder of a monitor that has seen nothing yet.

    Raises:
        FileExistsError: as `check_new`.
    """
    check_new(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_reference(reference, folder)


def _classifier(run: RunFolder, audit: Audit | None) -> Classifier:
    if audit is not None:
        return audited_classifier(run, audit)
    run.data.prepare_data()
    run.data.setup("validate")
    return chosen_classifier(run)


def _culprits(audit: Audit, class_names: Sequence[str]) -> dict[int, tuple[int, ...]]:
    """Return the culprits of each class in all findings about it: class -> latents."""
    found: dict[int, set[int]] = {}
    for finding in audit.findings:
        for c, name in enumerate(class_names):
            if name == finding.class_name:
                found.setdefault(c, set()).update(culprit.latent for culprit in finding.culprits)
    return {c: tuple(sorted(latents)) for c, latents in found.items()}


def _look(looking: Looking, images: ImageSet) -> ImageNumbers:
    parts, seen = [], 0
    for prepared, _ in prepared_batches(images, looking.clip, "looking at what is usual"):
        numbers = looking.at_pixels(looking.clip.finish(prepared.to(looking.clip.device)), seen)
        parts.append(numbers)
        seen += numbers.n
    if seen < FEWEST:
        raise ValueError(
            f"{seen} images can be read, and a reference takes {FEWEST} at least; some thousands see more"
        )
    return ImageNumbers.stack(parts)
