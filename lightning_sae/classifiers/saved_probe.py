"""A saved linear probe: a folder with tensors and configuration, valid for the embeddings of one CLIP."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import SafetensorError

from lightning_sae import __version__
from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.files import replacing_folder, user_path
from lightning_sae.mappings import clip_differences
from lightning_sae.trust.documents import check_texts, read_json

WEIGHTS, CONFIG = "classifier.safetensors", "config.json"


class SavedProbe(NamedTuple):
    """A probe with its class names and its provenance.

    Attributes:
        probe: classifier of unit image embeddings, in float32 on the CPU.
        class_names: `C` names, in the order of the probe's rows.
        provenance: provenance with which the probe was saved; `"clip"` is the identity of the CLIP.
    """

    probe: LinearClassifier
    class_names: list[str]
    provenance: dict[str, Any]


def save_probe(
    probe: LinearClassifier, class_names: Sequence[str], provenance: Mapping[str, Any], folder: str | Path
) -> None:
    """Write `classifier.safetensors` (`weight [C, d_embed]`, `bias [C]`) and `config.json`.

    The folder appears whole or not at all.

    Args:
        probe: a linear classifier of unit image embeddings.
        class_names: `C` names.
        provenance: JSON-able; `"clip"` holds the identity of the CLIP (`Clip.identity()`).
        folder: folder that is made or, if it holds a saved classifier, replaced.

    Raises:
        FileExistsError: `folder` holds something else.
        NoRoomError: the disk is full; what the folder held stays.
        ValueError: shapes and names do not fit each other, or the provenance names no CLIP.

    Example:
        >>> import tempfile, torch
        >>> folder, probe = Path(tempfile.mkdtemp(), "probe"), LinearClassifier(torch.eye(2), torch.zeros(2))
        >>> save_probe(probe, ["cat", "dog"], {"clip": {"weights": "ab"}}, folder)
        >>> load_probe(folder, {"weights": "ab"}).class_names
        ['cat', 'dog']
    """
    folder, class_names = user_path(folder), list(class_names)
    if "clip" not in provenance:
        raise ValueError(f"provenance must hold the identity of the CLIP as 'clip', got {sorted(provenance)}")
    _check_shapes(probe, class_names, str(folder))
    if folder.exists() and any(folder.iterdir()) and not (folder / WEIGHTS).is_file():
        raise FileExistsError(f"{folder} holds other files than a saved classifier; name a new folder")
    config = {"kind": "probe", "takes": "unit image embeddings", "class_names": class_names, **provenance}
    with replacing_folder(folder) as new:
        (new / WEIGHTS).write_bytes(safetensors.torch.save(probe.tensors()))
        (new / CONFIG).write_text(json.dumps({**config, "version": __version__}, indent=2) + "\n")


def load_probe(folder: str | Path, clip: Mapping[str, str] | None = None) -> SavedProbe:
    """Read a saved probe.

    Args:
        folder: folder that `save_probe` wrote.
        clip: identity of the CLIP whose embeddings the probe is to classify; names may differ where the
            weights agree.

    Raises:
        FileNotFoundError: a file of the folder is missing.
        ValueError: a file is damaged, the two files do not fit each other, the classifier is of another
            kind, or it was fitted to the embeddings of another CLIP.
    """
    folder = user_path(folder)
    config = _read_config(folder)
    if clip is not None and (differ := clip_differences(config["clip"], clip)):
        raise ValueError(
            f"the probe in {folder} was fitted to embeddings of another CLIP ({differ}): load that CLIP, or "
            "fit a probe to this one with `lightning-sae fit-probe RUN --out DIR`"
        )
    try:
        tensors = safetensors.torch.load_file(folder / WEIGHTS)
        probe = LinearClassifier(tensors["weight"].float(), tensors["bias"].float())
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged ({error}); copy or save it again") from error
    _check_shapes(probe, config["class_names"], str(folder))
    if not all(bool(part.isfinite().all()) for part in probe.tensors().values()):
        raise ValueError(f"{folder / WEIGHTS} has NaN or infinite values: fit the probe again")
    own = {"kind", "takes", "class_names", "version"}
    return SavedProbe(probe, config["class_names"], {k: v for k, v in config.items() if k not in own})


def _read_config(folder: Path) -> dict[str, Any]:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} is no saved probe, {name} is missing: `lightning-sae fit-probe RUN "
                "--out DIR` writes one"
            )
    config = read_json(folder / CONFIG, {"class_names": list, "clip": dict, "kind": str})
    check_texts(f"{folder / CONFIG}: class_names", config["class_names"])
    if config["kind"] != "probe":
        raise ValueError(f"{folder} holds a classifier of kind {config['kind']!r}, and a probe is wanted")
    return config


def _check_shapes(probe: LinearClassifier, class_names: Sequence[str], where: str) -> None:
    n = len(class_names)
    if probe.weight.ndim != 2 or len(probe.weight) != n or probe.bias.shape != (n,) or n < 2:
        raise ValueError(
            f"{where}: a probe has weight [C, d_embed] and bias [C] for C >= 2 class names; got "
            f"{list(probe.weight.shape)}, {list(probe.bias.shape)} and {n} names"
        )
