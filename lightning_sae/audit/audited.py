"""The classifier that an audit was made of."""

from lightning_sae.audit.findings import Audit
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.data.prompts import embed_prompts
from lightning_sae.runs.classifier import probe_classifier
from lightning_sae.runs.folder import RunFolder


def audited_classifier(run: RunFolder, audit: Audit) -> Classifier:
    """Return the classifier that was audited: its prompts, or the probe that the audit names.

    An audit that was made without a folder names no probe; its probe is fitted to the run again.

    Args:
        run: an opened run.
        audit: an audit of this run.

    Raises:
        FileNotFoundError: the folder that the audit names no longer holds the probe.
        ValueError: that folder holds another probe now.
    """
    data, names = run.data, [c.name for c in audit.classes]
    if audit.subject.classifier == "prompts":
        prompts = [list(c.prompts) for c in audit.classes]
        texts = embed_prompts(data.clip, prompts).cpu()
        return Classifier.of_prompts(names, prompts, texts, data.clip.logit_scale)
    source = audit.subject.classifier_source
    if source is None:
        return probe_classifier(run)
    folder = run.folder / source.folder
    classifier = probe_classifier(run, str(folder))
    same = classifier.source is not None and classifier.source.sha256 == source.sha256
    if not same or list(classifier.class_names) != names:
        raise ValueError(
            f"the probe in {folder} is not the one that was audited, its weights or class names have "
            "changed: audit the run again, or bring that probe back"
        )
    return classifier
