"""Folders of other libraries: read and written by their layout, and by the libraries where they are."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lightning_sae.sae import (
    BatchTopK,
    Gated,
    JumpReLU,
    MatryoshkaBatchTopK,
    ReLU,
    SparseAutoencoder,
    TopK,
    load_sae,
    save_sae,
)
from lightning_sae.sae.__main__ import main
from lightning_sae.sae.exchange import export_sae, import_sae

D_IN, D_SAE, K = 6, 20, 3
PROVENANCE = {"clip": {"model": "ViT-B-32"}, "hook_point": "visual.transformer.resblocks.11"}
VARIANTS: dict[str, Callable[..., SparseAutoencoder]] = {
    "TopK": lambda **o: TopK(D_IN, D_SAE, K, **o),
    "BatchTopK": lambda **o: BatchTopK(D_IN, D_SAE, K, **o),
    "Matryoshka": lambda **o: MatryoshkaBatchTopK(D_IN, D_SAE, K, **o),
    "ReLU": lambda **o: ReLU(D_IN, D_SAE, 0.0, **o),
    "Gated": lambda **o: Gated(D_IN, D_SAE, 0.0, **o),
    "JumpReLU": lambda **o: JumpReLU(D_IN, D_SAE, 0.0, **o),
}


def random_sae(name: str, **options: Any) -> SparseAutoencoder:
    torch.manual_seed(0)
    sae = VARIANTS[name](**options)
    for parameter in sae.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    sae.normalise_decoder()
    sae.set_normalisation(torch.randn(D_IN), 0.7)
    if isinstance(sae, BatchTopK):
        sae.threshold.fill_(0.9)
    sae.provenance = PROVENANCE
    return sae.eval()


@pytest.fixture
def x() -> Tensor:
    return 2 * torch.randn(50, D_IN, generator=torch.Generator().manual_seed(1)) + 1


def assert_same(sae: SparseAutoencoder, other: SparseAutoencoder, x: Tensor) -> None:
    torch.testing.assert_close(other.encode(x).to_dense(), sae.encode(x).to_dense(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(other(x)[0], sae(x)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normalisation", ["standard", "layer_norm"])
@pytest.mark.parametrize("name", VARIANTS)
def test_there_and_back_by_saelens(name: str, normalisation: str, x: Tensor, tmp_path: Path) -> None:
    sae = random_sae(name, normalisation=normalisation)
    export_sae(sae, tmp_path / "theirs", "saelens")
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
    back = import_sae(tmp_path / "theirs")
    assert_same(sae, back, x)
    assert back.provenance == PROVENANCE
    config = json.loads((tmp_path / "theirs" / "cfg.json").read_text())
    assert config["metadata"]["hook_name"] == PROVENANCE["hook_point"]


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("normalisation", ["standard", "layer_norm"])
def test_saelens_reads_what_is_written(name: str, normalisation: str, x: Tensor, tmp_path: Path) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    sae = random_sae(name, normalisation=normalisation)
    export_sae(sae, tmp_path / "theirs", "saelens")
    theirs = sae_lens.SAE.load_from_disk(tmp_path / "theirs")
    latents = theirs.encode(x)
    spread = x.std(1, keepdim=True) + 1e-5 if normalisation == "layer_norm" else 1.0
    torch.testing.assert_close(latents * spread, sae.encode(x).to_dense(), rtol=1e-5, atol=1e-5)
    # they leave out the 1e-5 when they go back to raw units
    assert (theirs.decode(latents) - sae(x)[0]).norm() < 1e-5 * sae(x)[0].norm()
    theirs.save_model(tmp_path / "again")
    again = import_sae(tmp_path / "again")
    assert_same(sae, again, x)
    assert again.provenance == PROVENANCE  # their loader and writer keep the metadata


@pytest.mark.parametrize("architecture", ["standard", "topk", "gated", "jumprelu"])
@pytest.mark.parametrize("subtracts", [True, False])
def test_saelens_own_autoencoders_are_read(
    architecture: str, subtracts: bool, x: Tensor, tmp_path: Path
) -> None:
    pytest.importorskip("sae_lens")
    from sae_lens.registry import get_sae_class

    kind, settings = get_sae_class(architecture)
    sparsity = {"k": K, "rescale_acts_by_decoder_norm": True} if architecture == "topk" else {}
    torch.manual_seed(0)
    theirs = kind(settings(d_in=D_IN, d_sae=D_SAE, apply_b_dec_to_input=subtracts, **sparsity))
    for parameter in theirs.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    theirs.save_model(tmp_path / "theirs")
    ours, latents = import_sae(tmp_path / "theirs"), theirs.encode(x)
    x_hat, mine = ours(x)
    torch.testing.assert_close(x_hat, theirs.decode(latents), rtol=1e-5, atol=1e-5)
    norms = 1.0 if architecture == "topk" else theirs.W_dec.norm(dim=1)
    torch.testing.assert_close(mine.to_dense(), latents * norms, rtol=1e-5, atol=1e-5)


def test_sparsify_is_read(x: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSIFY_DISABLE_TRITON", "1")
    sparsify = pytest.importorskip("sparsify")
    theirs = sparsify.SparseCoder(D_IN, sparsify.SparseCoderConfig(num_latents=D_SAE, k=K))
    for parameter in theirs.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    theirs.save_to_disk(tmp_path / "theirs")
    values, indices, _ = theirs.encode(x)
    x_hat, latents = import_sae(tmp_path / "theirs")(x)
    torch.testing.assert_close(x_hat, theirs.decode(values, indices), rtol=1e-5, atol=1e-5)
    want = torch.zeros(len(x), D_SAE).scatter(1, indices, values)
    torch.testing.assert_close(latents.to_dense(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["TopK", "BatchTopK", "Matryoshka", "ReLU", "Gated", "JumpReLU"])
def test_dictionary_learning_is_read(name: str, x: Tensor, tmp_path: Path) -> None:
    pytest.importorskip("dictionary_learning")
    from dictionary_learning import dictionary
    from dictionary_learning.trainers import batch_top_k, matryoshka_batch_top_k, top_k

    theirs = {
        "TopK": lambda: top_k.AutoEncoderTopK(D_IN, D_SAE, K),
        "BatchTopK": lambda: batch_top_k.BatchTopKSAE(D_IN, D_SAE, K),
        "Matryoshka": lambda: matryoshka_batch_top_k.MatryoshkaBatchTopKSAE(D_IN, D_SAE, K, [4, 16]),
        "ReLU": lambda: dictionary.AutoEncoder(D_IN, D_SAE),
        "Gated": lambda: dictionary.GatedAutoEncoder(D_IN, D_SAE),
        "JumpReLU": lambda: dictionary.JumpReluAutoEncoder(D_IN, D_SAE),
    }[name]()
    for parameter in theirs.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    if name in ("BatchTopK", "Matryoshka"):
        theirs.threshold.fill_(0.4)
    torch.save(theirs.state_dict(), tmp_path / "ae.pt")
    config = {"trainer": {"dict_class": type(theirs).__name__}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    x_hat, _ = import_sae(tmp_path)(x)
    torch.testing.assert_close(x_hat, theirs(x), rtol=1e-5, atol=1e-5)


def paper_checkpoint(folder: Path, **changes: Any) -> Path:
    torch.manual_seed(0)
    shapes = {
        "encoder.0.weight_g": (D_SAE, 1),
        "encoder.0.weight_v": (D_SAE, D_IN),
        "encoder.0.bias": (D_SAE,),
        "decoder.weight_g": (D_IN, 1),
        "decoder.weight_v": (D_IN, D_SAE),
    }
    state = {f"model.{name}": torch.randn(shape) + 2 for name, shape in shapes.items()} | changes
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    path = folder / "last.ckpt"
    torch.save({"state_dict": state, "hyper_parameters": {"k": K}}, path)
    return path


@pytest.mark.parametrize("bias", [None, torch.arange(6.0)])
def test_the_papers_checkpoint_is_read(bias: Tensor | None, x: Tensor, tmp_path: Path) -> None:
    path = paper_checkpoint(tmp_path, **{"model.decoder.bias": bias})
    state = {n.removeprefix("model."): t for n, t in torch.load(path)["state_dict"].items()}
    encoder = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(D_IN, D_SAE))
    decoder = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(D_SAE, D_IN, bias=bias is not None))
    for layer, name in ((encoder, "encoder.0"), (decoder, "decoder")):
        layer.parametrizations.weight.original0.data = state[f"{name}.weight_g"]
        layer.parametrizations.weight.original1.data = state[f"{name}.weight_v"]
        if layer.bias is not None:
            layer.bias.data = state[f"{name}.bias"]
    best = encoder(x).topk(K)
    latents = torch.zeros(len(x), D_SAE).scatter(1, best.indices, best.values.relu())
    x_hat, mine = import_sae(path)(x)
    torch.testing.assert_close(mine.to_dense(), latents, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x_hat, decoder(latents), rtol=1e-5, atol=1e-5)


def test_without_the_library_a_hand_written_folder_is_read(tmp_path: Path) -> None:
    tensors = {"encoder.weight": 2 * torch.eye(3), "encoder.bias": torch.zeros(3)}
    save_file(tensors | {"W_dec": torch.eye(3), "b_dec": torch.ones(3)}, tmp_path / "sae.safetensors")
    (tmp_path / "cfg.json").write_text(
        json.dumps({"num_latents": 3, "k": 1, "d_in": 3, "activation": "topk"})
    )
    x_hat, latents = import_sae(tmp_path)(torch.tensor([[2.0, 4.0, 1.0]]))
    assert latents.to_dense().tolist() == [[0.0, 6.0, 0.0]]
    assert x_hat.tolist() == [[1.0, 7.0, 1.0]]


def test_convert_on_the_command_line(x: Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sae = random_sae("JumpReLU")
    save_sae(sae, tmp_path / "ours", PROVENANCE)
    main(["convert", str(tmp_path / "ours"), str(tmp_path / "theirs"), "--to", "saelens"])
    main(["convert", str(tmp_path / "theirs"), str(tmp_path / "back"), "--to", "lightning_sae"])
    assert (
        f"JumpReLU with 20 latents of width 6, for lightning_sae: {tmp_path / 'back'}"
        in capsys.readouterr().out
    )
    assert_same(sae, load_sae(tmp_path / "back"), x)
    with pytest.raises(SystemExit, match=r"FileExistsError: .* exists; name a new folder"):
        main(["convert", str(tmp_path / "ours"), str(tmp_path / "back"), "--to", "saelens"])


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "lightning_sae.sae", "convert", "nowhere", "x", "--to", "saelens"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.split("\n")[1:3] == [
        "FileNotFoundError: nowhere does not exist",
        "(HYDRA_FULL_ERROR=1 shows where.)",
    ]


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    export_sae(random_sae("TopK"), tmp_path / "theirs", "saelens")
    return tmp_path / "theirs"


def rewrite(path: Path, change: dict[str, Tensor | None]) -> None:
    tensors = load_file(path) | change
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b_enc": None}, r"missing \['b_enc'\]"),
        ({"threshold": torch.ones(D_SAE)}, r"unexpected \['threshold'\]"),
        ({"b_enc": None, "bias": torch.ones(2)}, r"missing \['b_enc'\], unexpected \['bias'\]"),
        ({"b_enc": torch.zeros(3)}, r"b_enc has shape \[3\], the encoder asks for \[20\]"),
        ({"W_dec": torch.zeros(D_SAE, 7)}, r"W_dec has shape \[20, 7\], the encoder asks for \[20, 6\]"),
    ],
)
def test_other_tensors_are_refused(theirs: Path, change: dict[str, Tensor | None], message: str) -> None:
    rewrite(theirs / "sae_weights.safetensors", change)
    with pytest.raises(ValueError, match=message):
        import_sae(theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "temporal"}, "'temporal' is unknown here, known: gated, jumprelu, standard, topk"),
        ({"normalize_activations": "constant_norm_rescale"}, "cannot be expressed here, only 'none'"),
        ({"reshape_activations": "hook_z"}, "'hook_z' cannot be expressed"),
    ],
)
def test_settings_that_cannot_be_expressed(theirs: Path, change: dict[str, str], message: str) -> None:
    path = theirs / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        import_sae(theirs)


def test_weights_without_their_configuration(theirs: Path) -> None:
    (theirs / "cfg.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no cfg\.json"):
        import_sae(theirs)


def test_truncated_files(theirs: Path, tmp_path: Path) -> None:
    path = theirs / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="damaged or incomplete"):
        import_sae(theirs)
    checkpoint = paper_checkpoint(tmp_path)
    checkpoint.write_bytes(checkpoint.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged"):
        import_sae(checkpoint)


class Bomb:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_code_in_a_file_does_not_run(tmp_path: Path, protocol: str) -> None:
    trace, bomb = tmp_path / "ran", {"state_dict": {"encoder.0.weight_g": Bomb(tmp_path / "ran")}}
    for name in ("last.ckpt", "ae.pt"):
        if protocol == "torch":
            torch.save(bomb, tmp_path / name)
        else:
            (tmp_path / name).write_bytes(pickle.dumps(bomb))
    (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoder"}}))
    for source in (tmp_path / "last.ckpt", tmp_path):
        with pytest.raises(ValueError, match="could run code and are not read"):
            import_sae(source)
    assert not trace.exists()


def test_a_checkpoint_with_other_keys(tmp_path: Path) -> None:
    path = paper_checkpoint(tmp_path, **{"model.encoder.0.bias": None})
    with pytest.raises(ValueError, match=r"missing \['encoder\.0\.bias'\]"):
        import_sae(path)
    torch.save({"weights": torch.ones(2)}, path)
    with pytest.raises(ValueError, match="no state_dict"):
        import_sae(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ValueError, match="missing"):
        import_sae(path)


def test_a_threshold_that_is_not_learned_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train it first"):
        export_sae(BatchTopK(D_IN, D_SAE, K), tmp_path / "theirs", "saelens")
    assert not any(tmp_path.iterdir())
    with pytest.raises(ValueError, match="got 'sparsify'"):
        export_sae(TopK(D_IN, D_SAE, K), tmp_path / "theirs", "sparsify")
