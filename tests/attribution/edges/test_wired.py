"""The circuits of a model that was wired by hand are found."""

import pytest
import torch
from sklearn.metrics import average_precision_score

from benchmarks.wired import EARLY, LATE, SOURCES, recovered, wired
from lightning_sae.attribution.edges.edges import edges_to_latents
from lightning_sae.attribution.edges.layers import look
from lightning_sae.attribution.edges.passes import BESIDE


@pytest.fixture(scope="module")
def seen():
    model = wired(n=48)
    return look(model.clip, model.layers, model.inputs)


@pytest.mark.parametrize("rule", ["frozen", "gradient"])
def test_edges_are_the_wires(seen, rule):
    table = recovered(*edges_to_latents(*seen, rule=rule))
    assert average_precision_score(table["wired"], table["strength"]) == 1
    assert set(map(tuple, table.loc[table["wired"], ["source", "target"]].to_numpy())) == {
        (source, target) for target, sources in SOURCES.items() for source in sources
    }
    signs = table.set_index(["target", "source"])["mean"]
    assert signs["e but f", "f"] < 0 < signs["e but f", "e"]


def test_error_and_bias_stand_where_they_belong(seen):
    found, targets = edges_to_latents(*seen, rule="frozen")
    for name, place in (("dark copied", "error"), ("constant", "bias")):
        rows = targets.node == LATE.index(name)
        parts = dict(zip(BESIDE, found.beside[rows].sum(0).tolist(), strict=True))
        total = float((targets.value - found.constant)[rows].sum())
        assert parts[place] == pytest.approx(total, rel=0.1)  # the norm subtracts a mean of all latents
        assert sum(abs(parts[other]) for other in BESIDE if other != place) < 0.05 * total


def test_attention_carries_a_latent_to_another_token(seen):
    found, targets = edges_to_latents(*seen, rule="frozen", by_token=True)
    mine = torch.isin(found.pairs.target, (targets.node == LATE.index("g seen")).nonzero().flatten())
    pairs = [part[mine] for part in found.pairs]  # into the class token alone
    strongest = pairs[1][pairs[2].abs() > 0.05]
    assert len(strongest) > 0
    assert set((strongest % len(EARLY)).tolist()) == {EARLY.index("g")}
    assert (strongest // len(EARLY) > 0).all()  # from patches
