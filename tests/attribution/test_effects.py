"""Removing latents, against the whole model with an edited activation in it."""

import pandas as pd
import pytest
import torch
from torch.nn.functional import normalize

from lightning_sae.attribution.ablation import (
    COLUMNS,
    AblationEffects,
    Effects,
    Removal,
    ablate,
    effects_table,
    mean_effects,
)
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import splice

D_SAE, D_EMBED = 24, 16  # of the autoencoder and the ViT in conftest.py
SETS = [(0,), (3, 5, 7), tuple(range(D_SAE)), (5,)]
CLASSES = normalize(torch.randn(4, D_EMBED, generator=torch.Generator().manual_seed(3)).double(), dim=-1)
OWN = torch.tensor([0, 2, 1, -1, 2])  # the class whose mean each image is part of


def in_the_model(case, latents):
    """Embeddings of all images by the whole model, its activations without some latents."""
    explained = case.explained
    dense = explained.latents.to_dense()
    removed = (dense[:, list(latents)] @ explained.W_dec[list(latents)]).view_as(explained.x)
    with torch.no_grad(), splice(case.clip, case.hook, lambda x: x - removed, error_term=False):
        return case.clip.encode_image(case.pixels)


@pytest.mark.parametrize("batch_size", [3, 100])
def test_ablation_through_the_tail_is_ablation_in_the_model(case, batch_size):
    dense = case.explained.latents.to_dense().view(*case.explained.x.shape[:2], D_SAE)
    found = {}
    for edited in ablate(case.explained, SETS, batch_size):
        assert len(edited.image) <= batch_size
        pairs = zip(edited.removal.tolist(), edited.image.tolist(), strict=True)
        found |= dict(zip(pairs, edited.embeddings, strict=True))
    active = {(s, i) for s, latents in enumerate(SETS) for i in range(5) if dense[i][:, list(latents)].any()}
    assert found.keys() == active
    truth = [in_the_model(case, latents) for latents in SETS]
    for (s, image), embedding in found.items():
        torch.testing.assert_close(embedding, truth[s][image], rtol=0, atol=1e-6)


def test_sets_without_active_latents_run_nothing(explained):
    used = set(explained.latents.indices.tolist())
    silent = sorted(set(range(D_SAE)) - used)
    calls = []
    watched = explained._replace(tail=lambda x, context: calls.append(x))
    assert list(ablate(watched, [silent, ()])) == []
    assert calls == []


REMOVALS = [Removal(c, SETS[s]) for c, s in [(0, 0), (2, 1), (2, 2), (1, 3)]]


def measured(explained, scores, classes, split=5):
    metric = AblationEffects(REMOVALS, scores, n_images=200, batch_size=2)
    for start in range(0, 5, split):
        part = explained.images(start, min(start + split, 5))
        metric.update(part, None if classes is None else classes[start : start + split])
    return metric.effects()


@pytest.mark.parametrize(
    ("output", "everyone"), [("cosine", True), ("margin", False), ("probability", False)]
)
def test_effects_are_those_of_the_model(case, output, everyone):
    scores = ClassScores(CLASSES, output, logit_scale=10.0)
    effects = measured(case.explained, scores, None if everyone else OWN, split=2)
    whole = in_the_model(case, ())
    ids = case.explained.image_ids
    predicted = (whole @ CLASSES.T).argmax(1)
    assert torch.equal(effects.predicted[ids], predicted)
    assert int((effects.predicted >= 0).sum()) == 5
    for number, (target, latents) in enumerate(REMOVALS):
        without = in_the_model(case, latents)
        mine = torch.ones(5, dtype=torch.bool) if everyone else target == OWN
        assert int(effects.images[number]) == int(mine.sum())
        for found, embeddings in zip(effects[1:3], (whole, without), strict=True):
            expected = scores(embeddings)[mine, target].mean()
            torch.testing.assert_close(found[number], expected, rtol=1e-5, atol=1e-6)
        held = (without @ CLASSES.T).argmax(1) == target
        assert torch.equal(effects.held[number, ids], held)


def test_effects_do_not_depend_on_the_batches(explained):
    scores = ClassScores(CLASSES, "margin", 10.0)
    for one, other in zip(
        measured(explained, scores, OWN), measured(explained, scores, OWN, split=1), strict=True
    ):
        torch.testing.assert_close(one, other, equal_nan=True)


def test_the_table_of_a_case_made_by_hand():
    """Six images: three stars, of which the one on white is missed; a heart and a sun, one seen as a star."""
    removals = [Removal(0, (7,))]
    effects = Effects(
        images=torch.tensor([3]),
        score=torch.tensor([2.0]),
        score_without=torch.tensor([0.5]),
        predicted=torch.tensor([0, 0, 1, 0, 2, -1]),
        held=torch.tensor([[True, False, False, False, False, True]]),
    )
    targets = torch.tensor([0, 0, 0, 1, 2, 0])  # the last one was not seen
    factors = {
        "class": (["star", "heart", "sun"], targets),
        "background": (["brown", "white"], torch.tensor([0, 0, 1, 0, -1, 0])),
    }
    table = effects_table(effects, removals, targets, factors, min_images=1)
    expected = [
        (0, "score", "", "", 3, 2.0, 0.5),
        (0, "accuracy", "", "", 3, 2 / 3, 1 / 3),
        (0, "accuracy", "background", "brown", 2, 1.0, 0.5),
        (0, "accuracy", "background", "white", 1, 0.0, 0.0),
        (0, "false_positives", "", "", 2, 0.5, 0.0),
        (0, "false_positives", "class", "heart", 1, 1.0, 0.0),
        (0, "false_positives", "background", "brown", 1, 1.0, 0.0),
    ]
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected, columns=COLUMNS))
    assert mean_effects(table) == pytest.approx(
        {"score": -1.5, "accuracy": -1 / 3, "worst_group": 0.0, "false_positives": -0.5}
    )
    smaller = effects_table(effects, removals, targets, factors, min_images=2)
    assert set(smaller["value"]) == {"", "brown"}


def test_a_single_removal_keeps_its_shape(explained):
    metric = AblationEffects(REMOVALS[:1], ClassScores(CLASSES), n_images=1)
    metric.update(explained.images(0, 1)._replace(image_ids=None), None)
    assert [list(part.shape) for part in metric.effects()] == [[1], [1], [1], [1], [1, 1]]
