"""The folder of sparsify: `cfg.json` and `sae.safetensors` (https://github.com/EleutherAI/sparsify)."""

from pathlib import Path

from lightning_sae.sae.base import SparseAutoencoder
from lightning_sae.sae.exchange.building import build
from lightning_sae.sae.exchange.reading import check_keys, read_safetensors, read_settings, require
from lightning_sae.sae.variants.topk import TopK

WEIGHTS, CONFIG = "sae.safetensors", "cfg.json"


def recognises(folder: Path) -> bool:
    """Return whether the folder is one of sparsify.

    A folder of this package has files of the same names as sparsify's, but its settings name the variant.
    """
    path = folder / CONFIG
    return (folder / WEIGHTS).is_file() and path.is_file() and "num_latents" in read_settings(path)


def read(folder: Path) -> SparseAutoencoder:
    """Read a `SparseCoder` that reconstructs its input.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, a key is missing or unexpected, or a setting cannot be expressed here.
    """
    config, tensors = read_settings(folder / CONFIG, ["k"]), read_safetensors(folder / WEIGHTS)
    require(folder / CONFIG, config, {"activation": "topk", "transcode": False, "skip_connection": False})
    check_keys(folder / WEIGHTS, tensors, ["encoder.weight", "encoder.bias", "W_dec", "b_dec"])
    state = {name: tensors[name] for name in ("W_dec", "b_dec")}
    state |= {"encoder": tensors["encoder.weight"], "b_enc": tensors["encoder.bias"]}
    return build(folder / WEIGHTS, TopK, {"k": config["k"]}, state)
