"""An exported classifier: a folder with tensors, a record and a card, valid for one CLIP.

Nothing is executed from a file: tensors are safetensors, the rest is JSON.
"""

from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.clip import HookPoint
from lightning_sae.correct.card import card
from lightning_sae.correct.clamp import Clamp, Held
from lightning_sae.correct.corrected_classifier import CorrectedClassifier
from lightning_sae.correct.correction import Correction
from lightning_sae.correct.record import FORMAT, Record
from lightning_sae.files import replacing_folder, user_path
from lightning_sae.sae import load_sae
from lightning_sae.sae.saving.folder import save_sae
from lightning_sae.trust.records import read_record_of

WEIGHTS, CONFIG, CARD, SAE = "classifier.safetensors", "config.json", "card.md", "sae"


def save_classifier(correction: Correction, folder: str | Path) -> None:
    """Write a corrected classifier; the folder appears whole or not at all.

    `classifier.safetensors` holds `weight [C, d_embed]` and `bias [C]`; `config.json` what was changed, on
    what it was chosen and measured, and the CLIP; `card.md` says the same to people; `sae/` is there where
    latents are held.

    Args:
        correction: of `correct`.
        folder: made or, if it holds an exported classifier, replaced.

    Raises:
        FileExistsError: `folder` holds something else.
        NoRoomError: the disk is full; what the folder held stays.
    """
    folder = user_path(folder)
    check_free(folder)
    with replacing_folder(folder) as new:
        _write(correction, new)


def check_free(folder: Path) -> None:
    """Refuse a place where something else lies.

    Raises:
        FileExistsError: a file, or a folder with other files than an exported classifier.
    """
    if folder.is_dir():
        if any(folder.iterdir()) and not (folder / WEIGHTS).is_file():
            raise FileExistsError(
                f"{folder} holds other files than an exported classifier; name a new folder"
            )
    elif folder.exists():
        raise FileExistsError(f"{folder} is a file; name a new folder")


def _write(correction: Correction, folder: Path) -> None:
    classifier, record = correction
    # as bytes, not by save_file, whose files only their owner can read
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(classifier.classes.tensors()))
    (folder / CONFIG).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(card(record), encoding="utf-8")
    if classifier.held is not None:
        sae = classifier.held.sae
        save_sae(sae, folder / SAE, sae.provenance, sae.metrics)


def load_classifier(folder: str | Path) -> CorrectedClassifier:
    """Read an exported classifier, on the CPU.

    Args:
        folder: as `save_classifier` wrote it.

    Raises:
        FileNotFoundError: a file of the folder is missing.
        ValueError: a file is damaged, of another format, or does not fit the others.
    """
    folder = user_path(folder)
    record = read_record(folder)
    classes = _read_tensors(folder / WEIGHTS, len(record.class_names))
    held = None
    if (made := record.held) is not None:
        sae = load_sae(folder / SAE, record.clip)
        held = Held(Clamp(made.latents, made.values), sae, HookPoint(made.hook_point, made.tokens))
    return CorrectedClassifier(record.class_names, classes, record.clip, held)


def read_record(folder: Path) -> Record:
    """Return what an exported classifier says of itself.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is of another format, or not whole; names the fields.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no exported classifier: {name} is missing")
    what = f"record of format {FORMAT}"
    record = read_record_of(Record, folder / CONFIG, what, "export the classifier again")
    held = record.held
    if held is not None and len(held.values) != len(held.latents):
        raise ValueError(
            f"{folder / CONFIG} holds {len(held.latents)} latents and {len(held.values)} values for "
            "them: export the classifier again"
        )
    return record


def _read_tensors(path: Path, n_classes: int) -> LinearClassifier:
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or incomplete ({error}); copy or export it again") from error
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    whole = shapes.keys() == {"weight", "bias"} and len(shapes["weight"]) == 2
    if not whole or [shapes["weight"][0], *shapes["bias"]] != [n_classes, n_classes]:
        raise ValueError(
            f"{path} must hold weight [{n_classes}, d_embed] and bias [{n_classes}], got {shapes}; it is not "
            f"of one saving with {CONFIG}"
        )
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise ValueError(f"{path} holds values that are no finite numbers; export the classifier again")
    return LinearClassifier(tensors["weight"], tensors["bias"])
