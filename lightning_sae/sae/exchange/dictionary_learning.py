"""The folder of dictionary_learning: `config.json` and `ae.pt` (https://github.com/saprmarks/dictionary_learning)."""

from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_sae.sae.base import SparseAutoencoder
from lightning_sae.sae.exchange.building import build, log_threshold
from lightning_sae.sae.exchange.reading import check_keys, only_tensors, read_pickled, read_settings
from lightning_sae.sae.variants.batch_topk import BatchTopK
from lightning_sae.sae.variants.gated import Gated
from lightning_sae.sae.variants.jump_relu import JumpReLU
from lightning_sae.sae.variants.matryoshka import MatryoshkaBatchTopK
from lightning_sae.sae.variants.relu import ReLU
from lightning_sae.sae.variants.topk import TopK

WEIGHTS, CONFIG = "ae.pt", "config.json"
LINEAR = {"encoder": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "decoder.weight", "b_dec": "b_dec"}
PLAIN = {"encoder": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
NAMES: dict[str, dict[str, str]] = {
    "AutoEncoder": LINEAR | {"b_dec": "bias"},
    "AutoEncoderTopK": LINEAR | {"k": "k"},
    "BatchTopKSAE": LINEAR | {"k": "k", "threshold": "threshold"},
    "MatryoshkaBatchTopKSAE": PLAIN | {"k": "k", "threshold": "threshold", "group_sizes": "group_sizes"},
    "JumpReluAutoEncoder": PLAIN | {"threshold": "threshold"},
    "GatedAutoEncoder": LINEAR
    | {"b_enc": "gate_bias", "b_dec": "decoder_bias", "r_mag": "r_mag", "b_mag": "mag_bias"},
}
"""Their class -> our name of each tensor -> theirs."""


def recognises(folder: Path) -> bool:
    """Return whether the folder is one of dictionary_learning."""
    return (folder / WEIGHTS).is_file()


def read(folder: Path) -> SparseAutoencoder:
    """Read a dictionary of one of its classes.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or holds code, a key is missing or unexpected, or the class is unknown.
    """
    config = read_settings(folder / CONFIG)
    kind = config.get("trainer", {}).get("dict_class")
    if kind not in NAMES:
        raise ValueError(
            f"{folder / CONFIG}: trainer.dict_class {kind!r} is unknown here, "
            f"known: {', '.join(sorted(NAMES))}"
        )
    names, tensors = NAMES[kind], only_tensors(read_pickled(folder / WEIGHTS))
    check_keys(folder / WEIGHTS, tensors, names.values(), ignored=["threshold"])
    state = {ours: tensors[theirs] for ours, theirs in names.items()}
    # Linear layers hold [out, in], plain parameters [in, out]; ours are [d_sae, d_in] both.
    transposed = "encoder" if names["encoder"] == "W_enc" else "W_dec"
    state[transposed] = state[transposed].T
    variant, arguments = _variant(kind, state)
    return build(folder / WEIGHTS, variant, arguments, state, subtracts_bias=kind != "JumpReluAutoEncoder")


def _variant(kind: str, state: dict[str, Tensor]) -> tuple[type[SparseAutoencoder], dict[str, Any]]:
    """Return our class and its own arguments, and take what is no parameter of it out of the state."""
    if kind == "AutoEncoder":
        return ReLU, {"l1_weight": 0.0}
    if kind == "GatedAutoEncoder":
        return Gated, {"l1_weight": 0.0}
    if kind == "JumpReluAutoEncoder":
        state["log_threshold"] = log_threshold(state.pop("threshold"))
        return JumpReLU, {"l0_weight": 0.0}
    k = int(state.pop("k"))
    if kind == "AutoEncoderTopK":
        return TopK, {"k": k}
    state["threshold"] = state["threshold"].clamp_min(0)  # -1 before it is learned
    if kind == "BatchTopKSAE":
        return BatchTopK, {"k": k}
    sizes = state.pop("group_sizes").cumsum(0)
    return MatryoshkaBatchTopK, {"k": k, "prefixes": (sizes / sizes[-1]).tolist()}
