"""Which classifier is audited: the one that a user names."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import torch

from lightning_sae.classifiers.classifier import Classifier, ClassifierSource
from lightning_sae.classifiers.saved_probe import WEIGHTS, load_probe, save_probe
from lightning_sae.data.images.class_names import check_distinct
from lightning_sae.data.prompts import embed_prompts, read_prompts
from lightning_sae.files import user_path
from lightning_sae.runs.folder import RunFolder
from lightning_sae.runs.probe import probe_of

KEPT = "audited_probe"


def prompt_classifier(run: RunFolder, prompts_file: str | None = None) -> Classifier:
    """Return the zero-shot classifier of a run, with its own prompts or those of a file.

    Args:
        run: `ready`.
        prompts_file: JSON or YAML, `{class: [prompt, ...]}`; it may have fewer classes than the data, or
            others.

    Raises:
        ValueError: classes whose prompts the tokenizer cannot tell apart.
    """
    data, names, prompts = run.data, run.data.class_names, run.data.prompts
    texts = data.class_embeddings
    if prompts_file is not None:
        names, prompts = read_prompts(prompts_file)
        check_distinct(names, prompts, data.clip.tokenizer)
        texts = embed_prompts(data.clip, prompts).float().to(texts)
    return Classifier.of_prompts(names, prompts, texts, data.clip.logit_scale)


def check_choice(name: str, prompts_file: str | None = None) -> None:
    """Refuse a choice that no run can have, before there is a run.

    Args:
        name: of `chosen_classifier`.
        prompts_file: of `prompt_classifier`.

    Raises:
        ValueError: prompts for a probe, or a file without prompts.
        FileNotFoundError: no probe, or no prompts, lie there.
    """
    if name == "prompts":
        if prompts_file is not None:
            read_prompts(prompts_file)
        return
    if prompts_file is not None:
        raise ValueError("a probe has no prompts: leave out --prompts, or audit --classifier prompts")
    if name != "probe" and not user_path(name).is_dir():
        raise FileNotFoundError(f"the classifier must be prompts, probe or the folder of a probe, got {name}")


def chosen_classifier(run: RunFolder, name: str = "prompts", prompts_file: str | None = None) -> Classifier:
    """Return the classifier that a user names.

    Args:
        run: `ready`.
        name: `prompts`; `probe`, which is fitted to the train embeddings; or the folder of a saved probe.
        prompts_file: of `prompt_classifier`.

    Raises:
        ValueError: as `check_choice`, or a probe that was fitted to another CLIP.
        FileNotFoundError: as `check_choice`.
    """
    check_choice(name, prompts_file)
    if name == "prompts":
        return prompt_classifier(run, prompts_file)
    return probe_classifier(run, None if name == "probe" else name)


def kept_probe(run: RunFolder, folder: Path) -> Classifier:
    """Return a probe that is fitted to the train embeddings of a run, and saved beside the audit of it.

    Args:
        run: `ready`.
        folder: of the audit; the probe lies in `audited_probe` there, by which name its source is known.

    Raises:
        ValueError: a class without train images.
        FileExistsError: `audited_probe` holds something else.
    """
    save_probe(*probe_of(run.data), folder / KEPT)
    kept = probe_classifier(run, str(folder / KEPT))
    assert kept.source is not None
    return replace(kept, source=kept.source.model_copy(update={"folder": KEPT}))


def probe_classifier(run: RunFolder, folder: str | None = None) -> Classifier:
    """Return a saved probe, or one that is fitted to the train embeddings of a run.

    Args:
        run: an opened run.
        folder: of a saved probe; `None`: fitted.

    Raises:
        ValueError: a probe that was fitted to another CLIP, or a class without train images.
        FileNotFoundError: `folder` holds no probe.
    """
    if folder is None:
        saved, source = probe_of(run.data), None
    else:
        place = user_path(folder).resolve()
        saved, weights = load_probe(place, run.data.clip.identity()), (place / WEIGHTS).read_bytes()
        source = ClassifierSource(folder=str(place), sha256=sha256(weights).hexdigest())
    probe = saved.probe.to(torch.empty(0, device=run.data.clip.device))
    return Classifier(probe.weight, probe.bias, saved.class_names, source=source)
