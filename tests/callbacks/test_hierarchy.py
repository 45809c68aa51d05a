"""The links of a Matryoshka in a short training."""

from functools import partial

import pandas as pd
import pytest
import torch

from callbacks.alignment import Alignment
from callbacks.hierarchy import Hierarchy
from lightning_sae.concepts.hierarchy import link, prefix_levels
from lightning_sae.concepts.vocabulary import Vocabulary
from lightning_sae.sae import MatryoshkaBatchTopK


@pytest.fixture(scope="module")
def matryoshka(fit, tmp_path_factory):
    found = {"alignment": Alignment(Vocabulary()), "hierarchy": Hierarchy(fdr=0.9, every=1)}
    make = partial(MatryoshkaBatchTopK, d_sae=96, k=6, prefixes=[0.25, 1.0])
    return fit(tmp_path_factory.mktemp("matryoshka"), found, make_sae=make)


def test_the_table_has_the_links_of_the_whole_split(matryoshka):
    sae = matryoshka.module.sae
    latents = sae.encode(torch.cat([batch.x for batch in matryoshka.data.val_dataloader()]))
    levels = prefix_levels(latents, sae.W_dec.detach().double().numpy(), (24, 96))
    want = link(levels, fdr=0.9)  # of so few images nothing is sure
    table = pd.read_csv(matryoshka.folder / "hierarchy.csv", keep_default_na=False)
    assert len(want) > 0
    assert table[["latent", "parent", "by"]].to_dict("list") == want[["latent", "parent", "by"]].to_dict(
        "list"
    )
    assert table["given_child"].tolist() == pytest.approx(want["given_child"].tolist(), abs=1e-5)
    names = matryoshka.find(Alignment).concepts.names
    assert table["parent_label"].tolist() == [names[j].label for j in want["parent"]]
    logged = matryoshka.trainer.callback_metrics
    children = len(levels[1].latents)
    assert float(logged["hierarchy/linked"]) == pytest.approx(len(want) / children)
    shares = [float(logged[f"hierarchy/by_{kind}"]) for kind in ("firing", "direction")]
    assert sum(shares) == pytest.approx((len(want) + (want["by"] == "both").sum()) / children)


def test_an_autoencoder_without_prefixes_has_none(fit, tmp_path):
    run = fit(tmp_path, {"hierarchy": Hierarchy(every=1)}, max_steps=4)
    assert run.find(Hierarchy).table is None
    assert not (tmp_path / "hierarchy.csv").exists()
    assert not any(key.startswith("hierarchy") for key in run.trainer.callback_metrics)


@pytest.mark.parametrize(("arguments", "word"), [({"fdr": 0}, "fdr"), ({"every": -1}, "every")])
def test_arguments_out_of_range(arguments, word):
    with pytest.raises(ValueError, match=word):
        Hierarchy(**arguments)
