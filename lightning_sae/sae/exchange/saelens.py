"""SAELens's folder: `cfg.json` and `sae_weights.safetensors` (https://github.com/decoderesearch/SAELens)."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from lightning_sae.sae.base import SparseAutoencoder
from lightning_sae.sae.exchange.building import build, log_threshold
from lightning_sae.sae.exchange.reading import check_keys, read_safetensors, read_settings, require
from lightning_sae.sae.variants.batch_topk import BatchTopK
from lightning_sae.sae.variants.gated import Gated
from lightning_sae.sae.variants.jump_relu import JumpReLU
from lightning_sae.sae.variants.relu import ReLU
from lightning_sae.sae.variants.topk import TopK

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"
LAYOUT = "6.0.0"  # version whose layout this is; without it the loader takes the metadata for older ones
COMMON = ("W_enc", "W_dec", "b_dec")
BIASES = {"standard": ["b_enc"], "topk": ["b_enc"], "jumprelu": ["b_enc", "threshold"]}
BIASES["gated"] = ["b_gate", "b_mag", "r_mag"]


def recognises(folder: Path) -> bool:
    """Return whether the folder is one of SAELens."""
    return (folder / WEIGHTS).is_file()


def write(sae: SparseAutoencoder, folder: Path) -> None:
    """Write what `sae_lens.SAE.load_from_disk` reads.

    A `BatchTopK` or Matryoshka autoencoder becomes a `jumprelu` with one threshold, as SAELens itself saves
    them. After a layer norm its latents are those of ours divided by the spread of the token. The provenance
    is in the metadata: `model_name`, `hook_name`, and whole under `lightning_sae`.

    Args:
        sae: any variant.
        folder: exists.

    Raises:
        ValueError: a `BatchTopK` without a threshold, or a variant that SAELens does not have.
    """
    sae = sae.fold()
    architecture, arguments, tensors = _theirs(sae)
    tensors |= {"W_enc": sae.W_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    plain = {name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(plain))
    clip = sae.provenance.get("clip", {})
    config = {
        "architecture": architecture,
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "layer_norm" if sae.normalisation == "layer_norm" else "none",
        "reshape_activations": "none",
        **arguments,
        "metadata": {
            "sae_lens_version": LAYOUT,
            "model_name": clip.get("model"),
            "hook_name": sae.provenance.get("hook_point"),
            "lightning_sae": sae.provenance,
        },
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def read(folder: Path) -> SparseAutoencoder:
    """Read a folder of SAELens: `standard`, `topk`, `jumprelu` or `gated`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, a key is missing or unexpected, or a setting cannot be expressed here.
    """
    config, tensors = read_settings(folder / CONFIG), read_safetensors(folder / WEIGHTS)
    architecture = config.get("architecture", "standard")
    if architecture not in BIASES:
        raise ValueError(
            f"{folder / CONFIG}: architecture {architecture!r} is unknown here, "
            f"known: {', '.join(sorted(BIASES))}"
        )
    if architecture == "topk" and "k" not in config:
        raise ValueError(f"{folder / CONFIG} lacks k: it does not say how many latents are active")
    require(folder / CONFIG, config, {"reshape_activations": "none"})
    if config.get("normalize_activations", "none") != "layer_norm":
        require(folder / CONFIG, config, {"normalize_activations": "none"})
    check_keys(folder / WEIGHTS, tensors, [*COMMON, *BIASES[architecture]])
    variant, arguments, state = _ours(architecture, config, tensors)
    if config.get("normalize_activations") == "layer_norm":
        arguments["normalisation"] = "layer_norm"
    state |= {"encoder": tensors["W_enc"].T, "W_dec": tensors["W_dec"], "b_dec": tensors["b_dec"]}
    if config.get("rescale_acts_by_decoder_norm"):  # it selects lengthened latents
        norms = tensors["W_dec"].norm(dim=1)
        state["encoder"], state["b_enc"] = state["encoder"] * norms[:, None], state["b_enc"] * norms
        state["W_dec"] = state["W_dec"] / norms[:, None]
    sae = build(folder / WEIGHTS, variant, arguments, state, config.get("apply_b_dec_to_input", True))
    metadata = config.get("metadata") or {}
    sae.provenance = metadata.get("lightning_sae") or {"saelens": metadata}
    return sae


def _theirs(sae: SparseAutoencoder) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Return the architecture, its own settings and tensors."""
    if isinstance(sae, Gated):
        return "gated", {}, {"b_gate": sae.b_enc, "b_mag": sae.b_mag, "r_mag": sae.r_mag}
    if isinstance(sae, TopK):
        return "topk", {"k": sae.k, "rescale_acts_by_decoder_norm": False}, {"b_enc": sae.b_enc}
    if isinstance(sae, ReLU):
        return "standard", {}, {"b_enc": sae.b_enc}
    if isinstance(sae, JumpReLU):
        return "jumprelu", {}, {"b_enc": sae.b_enc, "threshold": sae.log_threshold.exp()}
    if isinstance(sae, BatchTopK):
        if not sae.threshold > 0:
            raise ValueError("the autoencoder has no threshold yet, which training learns: train it first")
        return "jumprelu", {}, {"b_enc": sae.b_enc, "threshold": sae.threshold.expand(sae.d_sae)}
    raise ValueError(f"SAELens has no {type(sae).__name__}")


def _ours(
    architecture: str, config: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[type[SparseAutoencoder], dict[str, Any], dict[str, Tensor]]:
    """Return the variant, its own arguments and tensors."""
    if architecture == "gated":
        state = {"b_enc": tensors["b_gate"], "b_mag": tensors["b_mag"], "r_mag": tensors["r_mag"]}
        return Gated, {"l1_weight": 0.0}, state
    if architecture == "jumprelu":
        state = {"b_enc": tensors["b_enc"], "log_threshold": log_threshold(tensors["threshold"])}
        return JumpReLU, {"l0_weight": 0.0}, state
    if architecture == "topk":
        return TopK, {"k": config["k"]}, {"b_enc": tensors["b_enc"]}
    return ReLU, {"l1_weight": 0.0}, {"b_enc": tensors["b_enc"]}
