"""The checkpoint of the paper's code (Dreyer et al. 2025, arXiv 2505.20229): a Lightning `last.ckpt`."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lightning_sae.sae.base import SparseAutoencoder
from lightning_sae.sae.exchange.building import build
from lightning_sae.sae.exchange.reading import check_keys, only_tensors, read_pickled
from lightning_sae.sae.variants.topk import TopK

LAST = "encoder.0.weight_g"
NEEDED = (LAST, "encoder.0.weight_v", "encoder.0.bias", "decoder.weight_g", "decoder.weight_v")


def recognises(path: Path) -> bool:
    """Return whether the path is a Lightning checkpoint."""
    return path.suffix == ".ckpt"


def read(path: Path, k: int | None = None) -> SparseAutoencoder:
    """Read its TopK autoencoder, two layers with weight norm, `weight = g v / ||v||` for each output.

    Its top `k` are taken without a ReLU. Ours has one: where fewer than `k` pre-activations are positive, its
    negative latents are missing here. Its decoder rows are not of unit norm and stay as they are.

    Args:
        path: the checkpoint.
        k: active latents per token; `None` takes it from the checkpoint's hyper-parameters.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or holds code, a key is missing or unexpected, or it does not know `k`.
    """
    content = read_pickled(path)
    if "state_dict" not in content:
        raise ValueError(f"{path} is no Lightning checkpoint: it has no state_dict")
    tensors = only_tensors(content["state_dict"])
    prefix = next((name.removesuffix(LAST) for name in tensors if name.endswith(LAST)), "")
    mine = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix + ("encoder."))}
    mine |= {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix + ("decoder."))}
    check_keys(path, mine, NEEDED, ignored=["decoder.bias"])
    k = k or content.get("hyper_parameters", {}).get("k")
    if k is None:
        raise ValueError(f"{path} does not say how many latents are active: give k")
    decoder = _weight(mine, "decoder")
    state = {
        "encoder": _weight(mine, "encoder.0"),
        "b_enc": mine["encoder.0.bias"],
        "W_dec": decoder.T,
        "b_dec": mine.get("decoder.bias", decoder.new_zeros(len(decoder))),
    }
    return build(path, TopK, {"k": k}, state, subtracts_bias=False)


def _weight(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    g, v = tensors[f"{name}.weight_g"], tensors[f"{name}.weight_v"]
    weight: Tensor = g * v / v.norm(dim=1, keepdim=True)
    return weight
