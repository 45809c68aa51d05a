"""`save_pretrained`, `from_pretrained` and `push_to_hub`, without a network."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, ModelCard

from lightning_sae.sae import Gated, SparseAutoencoder, TopK, load_sae, save_sae
from lightning_sae.sae.saving import hub as hub_module

FILES = ["README.md", "cfg.json", "sae.safetensors"]
PROVENANCE = {"clip": {"model": "ViT-B-32", "pretrained": "openai"}, "hook_point": "visual"}


@pytest.fixture
def sae() -> TopK:
    torch.manual_seed(0)
    sae = TopK(6, 20, k=3, normalisation="standard")
    sae.set_normalisation(torch.ones(6), 0.5)
    sae.provenance, sae.metrics = PROVENANCE, {"val/fvu": 0.125}
    return sae


def assert_same(sae: SparseAutoencoder, other: SparseAutoencoder) -> None:
    x = torch.randn(9, 6)
    torch.testing.assert_close(other(x)[0], sae(x)[0])
    assert (other.provenance, other.metrics) == (sae.provenance, sae.metrics)


def test_a_local_folder(sae: TopK, tmp_path: Path) -> None:
    sae.save_pretrained(tmp_path / "sae")
    assert sorted(path.name for path in (tmp_path / "sae").iterdir()) == FILES
    for kind in (SparseAutoencoder, TopK):
        assert_same(sae, kind.from_pretrained(tmp_path / "sae"))
    assert_same(sae, load_sae(tmp_path / "sae"))
    with pytest.raises(ValueError, match="holds a TopK, not a Gated"):
        Gated.from_pretrained(tmp_path / "sae")


def test_the_card_says_what_it_is_and_how_to_load_it(sae: TopK, tmp_path: Path) -> None:
    save_sae(sae, tmp_path / "sae", PROVENANCE, {"val/fvu": 0.125})
    card = ModelCard.load(tmp_path / "sae" / "README.md")
    assert card.data.library_name == "lightning_sae"
    for text in ("# TopK sparse autoencoder, 20 latents on width 6", "| clip.model | `ViT-B-32` |"):
        assert text in card.text
    assert "| `val/fvu` | 0.125 |" in card.text
    assert "SparseAutoencoder.from_pretrained(" in card.text
    assert "does not compare" not in card.text
    marked = TopK(6, 20, k=3, normalisation="layer_norm")
    assert "does not compare" in str(marked.generate_model_card())


def test_from_the_hub_two_files_are_fetched(
    sae: TopK, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae.save_pretrained(tmp_path / "remote")
    fetched = []

    def download(repo: str, name: str, **options: Any) -> str:
        fetched.append((repo, name, options))
        (tmp_path / "cache").mkdir(exist_ok=True)
        return str(shutil.copy(tmp_path / "remote" / name, tmp_path / "cache"))

    monkeypatch.setattr(hub_module, "hf_hub_download", download)
    assert_same(sae, SparseAutoencoder.from_pretrained("user/sae", revision="v1"))
    assert fetched == [("user/sae", name, {"revision": "v1"}) for name in ("cfg.json", "sae.safetensors")]


def test_pushing_uploads_the_folder(sae: TopK, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: dict[str, Any] = {}

    def create(self: HfApi, repo_id: str, **_: Any) -> Any:
        return type("Repo", (), {"repo_id": repo_id})()

    def upload(self: HfApi, folder_path: str, repo_id: str, **_: Any) -> str:
        uploaded[repo_id] = sorted(path.name for path in Path(folder_path).iterdir())
        uploaded["config"] = json.loads((Path(folder_path) / "cfg.json").read_text())
        return "https://example.org/commit"

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    sae.push_to_hub("user/sae", token="hf_none")
    assert uploaded["user/sae"] == FILES
    assert uploaded["config"]["provenance"] == PROVENANCE
