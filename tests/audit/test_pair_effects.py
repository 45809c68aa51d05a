"""A finding becomes shown where pairs that differ in the cue alone show it, by worlds whose truth is known.

Latent 0 is class a, 1 a mark that drives class a, 2 class b, 3 a mark that drives nothing.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lightning_sae.audit.paired import edits_of, pair_evidence
from lightning_sae.audit.verdict.pair_effects import Cause, PairView, effects_on_pairs
from lightning_sae.pairs.of_run import sources_of
from lightning_sae.pairs.pair import Contrast
from lightning_sae.pairs.pair_table import PairTable
from lightning_sae.pairs.responses import FactorValue

from .imagined import linear_world

WEIGHT = torch.tensor([[1.0, 1.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
PAIRS, SCALE = 12, np.ones(4)


def view(pairs=PAIRS, shown=1, moves=1.0):
    """Images of class b without and with each mark: latent 1 for `mark`, 3 for `sticker`."""
    draws = torch.Generator().manual_seed(0)
    plain = torch.zeros(pairs, 4)
    plain[:, 2] = 2.0 + torch.rand(pairs, generator=draws)
    changed = []
    for latent in (1, 3):
        marked = plain.clone()
        marked[:, latent] = moves * (1 + torch.rand(pairs, generator=draws))
        changed.append(marked)
    parts, scores = linear_world(torch.cat([plain, *changed]), WEIGHT)
    names = [Contrast("mark", None, "yes")] * pairs + [Contrast("sticker", None, "yes")] * pairs
    subject = torch.full((3 * pairs,), shown)
    before = torch.arange(pairs).repeat(2)
    return PairView(parts, subject, before, torch.arange(pairs, 3 * pairs), names), scores


def of(cause, **world):
    pairs, scores = view(**world)
    return effects_on_pairs(scores, [pairs], SCALE, [cause])[0]


def test_a_mark_that_moves_the_culprit_and_the_score_with_it_is_shown():
    found = of(Cause(0, 0, (1,), "mark=yes"))
    pairs, _ = view()
    rise = torch.cat([part.latents.to_dense() for part in pairs.explained])[PAIRS : 2 * PAIRS, 1].mean()
    assert found.shown
    assert (str(found.value), found.pairs, found.right_way) == ("mark=yes", PAIRS, 1.0)
    assert float(found.activation.mean) == pytest.approx(float(rise))
    assert float(found.score.mean) == pytest.approx(1.5 * float(rise))  # the margin, class b stays as it is
    assert float(found.carried.mean) == pytest.approx(1.5 * float(rise))  # all of it is by the culprit
    assert float(found.carried.low) > 0
    record = pair_evidence(found)
    assert record.shown
    assert record.carried.low <= record.carried.value <= record.carried.high


def test_an_unknown_cue_is_the_one_that_moves_the_score():
    assert of(Cause(0, 0, (1,), "")).value == FactorValue("mark", "yes")


@pytest.mark.parametrize(
    "latents",
    [(3,), (0,)],  # it rises with the sticker and drives nothing; it does not move
)
def test_what_does_not_move_the_score_is_not_shown(latents):
    assert of(Cause(0, 0, latents, "")) is None
    known = of(Cause(0, 0, latents, "sticker=yes"))
    assert known is not None
    assert not known.shown


def test_a_score_that_rises_without_the_culprits_is_not_shown_by_them():
    """The mark raises the score by latent 1, and latent 3 has no part in it."""
    found = of(Cause(0, 0, (3,), "mark=yes"))
    assert float(found.score.low) > 0
    assert float(found.carried.mean) == 0
    assert not found.shown


def test_pairs_that_show_the_class_do_not_count():
    assert of(Cause(0, 0, (1,), "mark=yes"), shown=0) is None
    assert of(Cause(0, 0, (1,), "mark=yes"), shown=-1).shown  # nobody knows what they show


def test_few_pairs_are_not_tried():
    assert of(Cause(0, 0, (1,), "mark=yes"), pairs=9) is None


def test_a_thing_is_the_cue_as_a_value_of_the_class():
    cause = Cause(0, 0, (1,), '"gear"')
    assert cause.stands_for(FactorValue("class", "gear"))
    assert not cause.stands_for(FactorValue("word", "gear"))
    assert not cause.stands_for(FactorValue("class", "bolt"))


def test_a_run_has_the_pairs_of_its_configuration(tmp_path):
    from omegaconf import OmegaConf

    target = "lightning_sae.pairs.pair_table.PairTable"
    sources = {"mine": {"_target_": target, "path": str(tmp_path / "p.csv")}, "none": None}
    config = OmegaConf.create({"callbacks": {"pairs": {"sources": sources}}})
    found = sources_of(SimpleNamespace(config=config, trusted=()))
    assert [*found] == ["mine"]
    assert isinstance(found["mine"], PairTable)
    assert sources_of(SimpleNamespace(config=OmegaConf.create({"callbacks": {}}), trusted=())) == {}
    config.callbacks.pairs.sources.mine = {"_target_": "lightning_sae.world.config_path"}
    with pytest.raises(ValueError, match=r"callbacks.pairs.sources.mine .* is no source of pairs"):
        sources_of(SimpleNamespace(config=config, trusted=()))


def test_edits_for_an_audit_have_names_of_their_own():
    edits = edits_of(["star", "sun flower"])
    assert len({(edit.factor, edit.value) for edit in edits.values()}) == len(edits) == 14
