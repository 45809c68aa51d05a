"""A saved autoencoder: a folder with tensors, configuration and a card, valid for one CLIP and hook point.

Nothing is executed from a file: tensors are safetensors, the variant is looked up among the classes that are
already imported.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from lightning_sae import __version__
from lightning_sae.files import replacing_folder, user_path
from lightning_sae.mappings import check_clip
from lightning_sae.sae.base import SparseAutoencoder
from lightning_sae.sae.saving.card import model_card
from lightning_sae.trust.documents import read_json

WEIGHTS, CONFIG, CARD = "sae.safetensors", "cfg.json", "README.md"


def save_sae(
    sae: SparseAutoencoder,
    folder: str | Path,
    provenance: Mapping[str, Any],
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Write the folded autoencoder: it takes raw activations and its decoder rows keep unit norm.

    `sae.safetensors` holds `W_enc [d_in, d_sae]`, `b_enc`, `W_dec [d_sae, d_in]`, `b_dec` and the buffers;
    `cfg.json` the variant with its arguments, the shapes, the provenance, the metrics and the version of this
    library; `README.md` says the same to people. The folder appears whole or not at all.

    Args:
        sae: any variant.
        folder: made or, if it holds a saved autoencoder, replaced.
        provenance: JSON-able; what the autoencoder is valid for. `"clip"` holds the identity of the CLIP.
        metrics: of its last validation pass.

    Raises:
        FileExistsError: `folder` holds something else.
        NoRoomError: the disk is full; what the folder held stays.
    """
    folder = user_path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / CONFIG).is_file():
        raise FileExistsError(f"{folder} holds other files than a saved autoencoder; name a new folder")
    with replacing_folder(folder, sum(tensor.nbytes for tensor in _public(sae).values())) as new:
        _write(sae.fold(), new, provenance, metrics or {})


def load_sae(
    folder: str | Path, clip: Mapping[str, str] | None = None, strict: bool = True
) -> SparseAutoencoder:
    """Read a saved autoencoder, in evaluation mode on the CPU.

    Args:
        folder: as `save_sae` wrote it.
        clip: identity of the CLIP to be used with (`Clip.identity()`), compared with the provenance. Names
            may differ where the hash of the weights agrees.
        strict: `False` accepts another CLIP.

    Returns:
        The autoencoder on raw activations, with `.provenance`.

    Raises:
        FileNotFoundError: a file of the folder is missing.
        ValueError: a file is damaged, the variant is unknown, a tensor has another name or shape than the
            configuration says, or the autoencoder was made for another CLIP.
    """
    folder = user_path(folder)
    config = _read_config(folder)
    if clip is not None and strict:
        recorded: Mapping[str, Any] = config["provenance"].get("clip", config["provenance"])
        check_clip(f"the autoencoder in {folder}", recorded, clip)
    tensors = _read_tensors(folder)
    _check_widths(folder, config, tensors)
    sae = _build(folder, config)
    expected = {name: list(tensor.shape) for name, tensor in _public(sae).items()}
    got = {name: list(tensor.shape) for name, tensor in tensors.items()}
    wrong = sorted(name for name in expected | got if expected.get(name) != got.get(name))
    if wrong:
        pairs = ", ".join(f"{name} {got.get(name)} instead of {expected.get(name)}" for name in wrong)
        raise ValueError(f"{folder / WEIGHTS} does not fit {CONFIG}: {pairs}; the two are not of one saving")
    tensors["encoder"] = tensors.pop("W_enc").T.contiguous()
    sae.load_state_dict(tensors)
    sae.provenance, sae.metrics = config["provenance"], config.get("metrics", {})
    return sae.eval()


def load_decoder(folder: str | Path) -> Tensor:
    """Read the decoder rows of a saved autoencoder, `W_dec [d_sae, d_in]`; no variant has to be known.

    Raises:
        FileNotFoundError: a file of the folder is missing.
        ValueError: a file is damaged, or the tensor has another shape than the configuration says.
    """
    folder = user_path(folder)
    config, tensors = _read_config(folder), _read_tensors(folder)
    said = [config["d_sae"], config["d_in"]]
    got = list(tensors["W_dec"].shape) if "W_dec" in tensors else None
    if got != said:
        raise ValueError(f"{folder / WEIGHTS} does not fit {CONFIG}: W_dec {got} instead of {said}")
    return tensors["W_dec"]


def configuration(
    sae: SparseAutoencoder, provenance: Mapping[str, Any], metrics: Mapping[str, float]
) -> dict[str, Any]:
    """Return what `cfg.json` says of an autoencoder.

    Args:
        sae: any variant.
        provenance: see `save_sae`.
        metrics: see `save_sae`.
    """
    return {
        "variant": type(sae).__name__,
        **sae.config(),
        "takes": "raw activations",
        "shapes": {name: list(tensor.shape) for name, tensor in _public(sae).items()},
        "provenance": dict(provenance),
        "metrics": dict(metrics),
        "version": __version__,
    }


def _write(
    sae: SparseAutoencoder, folder: Path, provenance: Mapping[str, Any], metrics: Mapping[str, float]
) -> None:
    # as bytes, not by save_file, whose files only their owner can read
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(_public(sae)))
    config = configuration(sae, provenance, metrics)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    (folder / CARD).write_text(model_card(config))


def _public(sae: SparseAutoencoder) -> dict[str, Tensor]:
    tensors = dict(sae.state_dict())
    tensors["W_enc"] = tensors.pop("encoder").T
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def _read_config(folder: Path) -> dict[str, Any]:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no saved autoencoder: {name} is missing")
    return read_json(folder / CONFIG, {"variant": str, "provenance": dict, "d_in": int, "d_sae": int})


def _check_widths(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuse widths that the tensors do not have, before anything is made of them."""
    said = [config["d_in"], config["d_sae"]]
    got = list(tensors["W_enc"].shape) if "W_enc" in tensors else None
    if got != said:
        raise ValueError(
            f"{folder / WEIGHTS} does not fit {CONFIG}: W_enc {got} instead of {said}; the two are not of "
            "one saving"
        )


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(
            f"{folder / WEIGHTS} is damaged or incomplete ({error}); copy or save it again"
        ) from error


def _build(folder: Path, config: Mapping[str, Any]) -> SparseAutoencoder:
    variant = find_variant(config["variant"])
    names = variant.parameter_names()
    missing = sorted(set(names) - config.keys())
    if missing:
        raise ValueError(
            f"{folder / CONFIG} lacks {missing} of {variant.__name__}; save the autoencoder again"
        )
    try:
        return variant(**{name: config[name] for name in names})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG} describes no {variant.__name__}: {error}") from error


def find_variant(name: str) -> type[SparseAutoencoder]:
    """Return the imported variant of that class name.

    Args:
        name: such as `"TopK"`.

    Raises:
        ValueError: no such variant is imported.

    Example:
        >>> find_variant("TopK").__name__
        'TopK'
    """
    if name not in SparseAutoencoder.variants:
        known = ", ".join(sorted(SparseAutoencoder.variants))
        raise ValueError(
            f"unknown SAE variant {name!r}; known: {known} (import the module that defines another; commands "
            "do with --trust MODULE)"
        )
    return SparseAutoencoder.variants[name]
