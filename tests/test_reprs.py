"""Latents, autoencoders and runs say what they are."""

import pytest
import torch

import lightning_sae as ls
from lightning_sae.sae import BatchTopK, Gated, TopK
from lightning_sae.types import SparseLatents


def test_sparse_latents():
    z = SparseLatents.from_topk(torch.tensor([[2.5, 0.0], [1.0, 3.0]]), torch.tensor([[0, 1], [4, 2]]), 5)
    assert repr(z) == "SparseLatents(2 rows, 5 latents, 1.5 active per row, largest 3, cpu)"
    empty = SparseLatents.from_dense(torch.zeros(0, 3))
    assert repr(empty) == "SparseLatents(0 rows, 3 latents, 0.0 active per row, largest 0, cpu)"


def test_autoencoders_name_what_is_their_own_and_what_is_unusual():
    assert repr(TopK(4, 8, k=2)) == "TopK(d_in=4, d_sae=8, k=2)"
    assert repr(TopK(4, 8, k=2, k_aux=3, normalisation="none")) == (
        "TopK(d_in=4, d_sae=8, k=2, k_aux=3, normalisation='none')"
    )
    for variant, options in ((BatchTopK, {"k": 2}), (Gated, {"l1_weight": 0.5})):
        said = repr(variant(4, 8, **options))
        assert said.startswith(f"{variant.__name__}(d_in=4, d_sae=8")
        assert eval(said, {variant.__name__: variant}).config() == variant(4, 8, **options).config()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_and_its_latents(small_run):
    run = ls.open_run(small_run)
    page = run._repr_html_()
    assert repr(run) == f"RunFolder({str(small_run)!r})"
    for said in (small_run.name, "TopK with 64 latents", "visual.transformer.resblocks.3:cls", "FVU"):
        assert said in page
    number = int(run.latents.index[0])
    latent = run.latent(number)
    assert len(latent.examples) == len(run.top_images(number)) <= 8
    assert latent.to_frame().loc[number, "density"] == run.latents.loc[number, "density"]
    assert latent._repr_html_().count("<img") == len(latent.examples)
    with pytest.raises(ValueError, match=r"a latent is one of 0\.\.63, got 64"):
        run.latent(64)
    silent = next((j for j in range(64) if j not in run.latents.index), None)
    if silent is not None:
        assert "never fires" in run.latent(silent)._repr_html_()
