"""The arithmetic of corrections, against what is planted and what can be done by hand."""

import pytest
import torch
from torch.nn.functional import normalize

from lightning_sae.attribution.ablation import ablate
from lightning_sae.attribution.explained import Explained
from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.correct.choice import Candidate, Rule, choose
from lightning_sae.correct.clamp import Clamp, Held, clamped, holding
from lightning_sae.correct.corrected_classifier import WAYS
from lightning_sae.correct.embeddings import CulpritView
from lightning_sae.correct.measures import Predictions, all_images, class_rows, group_rows, measured
from lightning_sae.correct.strategies import erasure, way_out, ways_open
from lightning_sae.metrics.group_errors import (
    OUTSIDE,
    UNKNOWN,
    Groups,
    culprit_groups,
    factor_groups,
    group_errors,
)
from lightning_sae.sae import TopK
from lightning_sae.types import SparseLatents

ANY = Rule(*[1.0] * 4)


@pytest.fixture
def planted():
    """Embeddings with a culprit's direction in them that the class's vector shares."""
    generator = torch.Generator().manual_seed(0)
    culprit, glyph = torch.eye(6)[0], torch.eye(6)[1]
    fires = torch.rand(400, generator=generator) < 0.5
    noise = torch.randn(400, 6, generator=generator) * torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    return noise + fires[:, None] * culprit, fires.float()[:, None], 2 * culprit + glyph


@pytest.mark.parametrize("ridge", [0.0, 0.01, 1.0])
def test_the_score_has_no_covariance_with_the_culprits_any_more(planted, ridge):
    e, _, weight = planted
    activations = torch.stack([e[:, 0], e[:, 0] * (e[:, 2] > 0)], 1)  # two, that fire together
    edited = weight - erasure(e, activations, e[:0], weight, ridge).direction
    score = e @ edited
    for activation in activations.T:
        assert float(torch.cov(torch.stack([score, activation]))[0, 1]) == pytest.approx(0, abs=1e-5)


def test_what_was_planted_is_removed_and_the_rest_stays(planted):
    e, activations, weight = planted
    found = erasure(e, activations, e[:0], weight, ridge=0.0)
    torch.testing.assert_close(weight - found.direction, torch.eye(6)[1], rtol=0.05, atol=0.15)
    # by the least squares that it is: the change is a multiple of the best linear predictor of the culprit
    centred = e - e.mean(0)
    predictor = torch.linalg.lstsq(centred, activations - activations.mean()).solution.flatten()
    assert torch.cosine_similarity(found.direction, predictor, dim=0) == pytest.approx(1, abs=1e-4)
    assert found.centre == pytest.approx(float(e.mean(0) @ found.direction), abs=1e-5)


def test_no_change_of_the_scores_is_smaller(planted):
    e, activations, weight = planted
    direction = erasure(e, activations, e[:0], weight, ridge=0.0).direction
    sigma = ((e - e.mean(0)) * (activations - activations.mean())).mean(0)
    orthogonal = (weight @ sigma) / (sigma @ sigma) * sigma  # ends the covariance as well
    assert float((weight - orthogonal) @ sigma) == pytest.approx(0, abs=1e-6)
    assert float((e @ direction).var()) <= float((e @ orthogonal).var()) + 1e-9


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_the_classes_own_images_keep_their_mean_score(planted, ridge):
    e, activations, weight = planted
    own = e[:50] + torch.tensor([1.0, 3.0, 0.5, 0.0, 0.0, 0.0])  # with the culprit's direction in them
    found = erasure(e, activations, own, weight, ridge)
    own_before, others_before = (float((part @ weight).mean()) for part in (own, e))
    edited = weight - found.direction
    assert float((own @ edited).mean() + found.centre) == pytest.approx(own_before, abs=1e-4)
    assert float((e @ edited).mean() + found.centre) == pytest.approx(others_before, abs=1e-4)
    score = torch.stack([e @ edited, activations[:, 0]])
    assert float(torch.cov(score)[0, 1]) == pytest.approx(0, abs=1e-5)
    # no other change that does both is smaller
    centred = torch.cat([e - e.mean(0), own - own.mean(0)]).double()
    sigma = ((e - e.mean(0)) * (activations - activations.mean())).mean(0)
    both = torch.stack([sigma, own.mean(0) - e.mean(0)]).double()
    free = torch.linalg.svd(both).Vh[2:]  # changes that neither condition sees
    with_ridge = centred.T @ centred / len(centred)
    with_ridge.diagonal().add_(ridge * with_ridge.diagonal().mean())
    assert (free @ with_ridge @ found.direction.double()).abs().max() < 1e-5


def test_spared_classes_keep_their_mean_score_too(planted):
    e, activations, weight = planted
    own = e[:50] + torch.tensor([1.0, 3.0, 0.5, 0.0, 0.0, 0.0])
    like = e[50:100] + torch.tensor([1.0, 1.0, 0.5, 2.0, 0.0, 0.0])
    before, after = (erasure(e, activations, own, weight, spared=s) for s in ((), (like,)))
    changes = [float((like @ found.direction).mean()) - found.centre for found in (before, after)]
    assert abs(changes[0]) > 0.1
    assert changes[1] == pytest.approx(0, abs=1e-4)
    assert float((own @ after.direction).mean()) == pytest.approx(after.centre, abs=1e-4)
    score = torch.stack([e @ (weight - after.direction), activations[:, 0]])
    assert float(torch.cov(score)[0, 1]) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("way", ["edit", "erase"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_an_edit_keeps_the_mean_scores_by_its_bias(planted, strength, way):
    e, activations, weight = planted
    own = e[:50] + torch.tensor([1.0, 3.0, 0.5, 0.0, 0.0, 0.0])
    images = CulpritView(
        torch.cat([own, e + 0.5]),
        torch.cat([activations[:50], activations]),
        torch.tensor([0] * 50 + [1] * 400),
        {},
        torch.arange(450),
    )
    groups = Groups("cue", ["no", "yes"], (images.activations[:, 0] > 0.5).long())
    classes = LinearClassifier(torch.stack([weight, torch.ones(6)]), torch.tensor([0.25, -1.0]))
    edited = way_out(way, classes, 0, images, (0,), groups).make(strength).classes
    change = images.embeddings @ (edited.weight - classes.weight).T + edited.bias - classes.bias
    assert float(change[:, 0].std()) > 0.1  # it is an edit
    followed = images.activations[:, 0] if way == "edit" else groups.of.float()
    before, after = (
        float(torch.cov(torch.stack([(images.embeddings @ w)[50:], followed[50:]]))[0, 1])
        for w in (classes.weight[0], edited.weight[0])
    )
    assert after == pytest.approx((1 - strength) * before, abs=1e-3 * abs(before))
    for target in (0, 1):
        assert float(change[images.targets == target, 0].mean()) == pytest.approx(0, abs=1e-4)
    assert not change[:, 1].any()
    assert abs(float(edited.bias[0]) - 0.25) > 0.05  # and its bias takes part


def test_a_uncorrelated_culprit_leaves_the_vector():
    e = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    found = erasure(e, torch.tensor([[1.0], [0.0], [0.0], [0.0]]), e[:0], torch.tensor([0.0, 3.0]), ridge=0.0)
    torch.testing.assert_close(found.direction, torch.zeros(2))


@pytest.mark.parametrize("activations", [torch.zeros(5, 1), torch.ones(5, 2), torch.zeros(0, 1)])
def test_culprits_that_say_nothing(activations):
    with pytest.raises(ValueError, match="no direction to take out"):
        erasure(torch.randn(len(activations), 3), activations, torch.randn(4, 3), torch.ones(3))


@pytest.mark.parametrize("on_others", [0.0, 1.0])
@pytest.mark.parametrize("group", [0, 1])
def test_what_is_alike_on_all_other_classes_cannot_be_taken_out(on_others, group):
    closed = {
        way for way, alike in {"edit": on_others == 0, "erase": group == 0, "refit": True}.items() if alike
    }
    classes = LinearClassifier(torch.randn(3, 3), torch.zeros(3))
    activations = torch.tensor([[2.0], [1.0], [on_others], [0.0]])
    images = CulpritView(torch.randn(4, 3), activations, torch.tensor([0, 0, 1, 2]), {}, torch.arange(4))
    groups = Groups("cue", ["no", "yes"], torch.tensor([0, 1, group, 0]))
    assert ways_open(classes, images, 0, groups) == tuple(way for way in WAYS if way not in closed)
    assert "erase" not in ways_open(classes, images, 0, groups._replace(added=1))


@pytest.fixture
def sae():
    torch.manual_seed(0)
    return TopK(d_in=4, d_sae=10, k=3).eval()


def test_clamped_by_hand(sae):
    x = torch.randn(7, 4)
    with torch.no_grad():
        a = sae.encode(x).to_dense()
        edited = clamped(sae, x, Clamp([2, 5], [0.0, 1.5]))
    expected = x - a[:, [2]] * sae.W_dec[2] + (1.5 - a[:, [5]]) * sae.W_dec[5]
    torch.testing.assert_close(edited, expected)
    torch.testing.assert_close(sae.encode(x).columns(torch.tensor([5, 2])).to_dense(), a[:, [5, 2]])


def test_ablating_is_what_the_effects_were_measured_by(sae):
    x, tail = torch.randn(20, 1, 4), lambda x, context: normalize(x[:, 0], dim=-1)
    with torch.no_grad():
        x_hat, latents = sae(x[:, 0])
        explained = Explained(tail, sae.W_dec, x, x_hat[:, None], latents)
        mine = tail(clamped(sae, x[:, 0], Clamp([1, 3], [0.0, 0.0]))[:, None], None)
        (edited,) = ablate(explained, [[1, 3]])
    assert len(edited.image) > 0
    torch.testing.assert_close(mine[edited.image], edited.embeddings)
    rest = torch.ones(20, dtype=torch.bool)
    rest[edited.image] = False
    torch.testing.assert_close(mine[rest], tail(x, None)[rest])


def errors_by_hand(predicted, targets, target, of, v):
    own, others = (targets == target) & (of == v), (targets != target) & (targets >= 0) & (of == v)
    miss = (predicted[own] != target).double().mean()
    return float((miss + (predicted[others] == target).double().mean()) / 2)


def test_group_errors_by_hand():
    generator = torch.Generator().manual_seed(1)
    targets, of = (torch.randint(m, (300,), generator=generator) for m in (4, 3))
    targets[:20] = -1
    predicted = torch.randint(4, (300,), generator=generator)
    errors = group_errors(predicted, targets, 2, Groups("f", ["a", "b", "c"], of), min_group=5)
    expected = [errors_by_hand(predicted, targets, 2, of, v) for v in range(3)]
    assert errors.error.tolist() == pytest.approx(expected)
    assert errors.worst == pytest.approx(max(expected))
    assert int(errors.own.sum() + errors.others.sum()) == 280


def test_images_of_no_class_can_only_be_false_positives():
    targets = torch.tensor([0, 0, 1, 1, OUTSIDE, OUTSIDE, UNKNOWN])
    predicted = torch.tensor([0, 1, 1, 0, 0, 1, 0])
    errors = group_errors(predicted, targets, 0, Groups("f", ["all"], torch.zeros_like(targets)), 1)
    assert (int(errors.own), int(errors.others)) == (2, 4)
    shares = errors.miss, errors.false_positives, errors.others_right, errors.error
    assert [float(share) for share in shares] == [0.5, 0.5, 0.5, 0.5]


def test_small_groups():
    targets = torch.tensor([0] * 10 + [1] * 20)
    of = torch.tensor([0] * 9 + [1] + [0] * 10 + [1] * 8 + [2] * 2)
    predicted = torch.tensor(
        [0] * 9 + [1] + [1] * 20
    )  # the only one of the class in the second group is missed
    errors = group_errors(predicted, targets, 0, Groups("f", ["a", "b", "c"], of), min_group=5)
    assert errors.error[:2].tolist() == pytest.approx([0.0, 0.05])  # 1 of all 10, not 1 of 1
    assert errors.error[2].isnan()
    assert errors.worst == pytest.approx(0.05)


def test_groups_of_a_factor_and_of_the_culprits():
    truth = torch.tensor([0, 1] * 50)
    activations = torch.stack([truth * 0.5, truth * torch.rand(100)], 1)
    assert culprit_groups(activations).of.tolist() == truth.tolist()
    assert factor_groups("told", ["p", "q"], truth).values == ["p", "q"]


@pytest.fixture
def led_astray():
    """Two classes, and a factor that pulls images into class 0: its logit is 3 too high there."""
    targets = torch.tensor([0, 1]).repeat(200)
    of = torch.tensor([0, 0, 1, 1]).repeat(100)
    clean = torch.stack([1.0 - targets, targets.float()], 1)
    pull = torch.zeros(400, 2)
    pull[:, 0] = 3.0 * of
    return targets, Groups("f", ["off", "on"], of), clean, pull


def test_the_best_candidate_is_chosen(led_astray):
    targets, groups, clean, pull = led_astray
    tried = [Candidate(s, clean + (1 - s) * pull) for s in (0.25, 0.5, 1.0, 2.0)]
    choice = choose(tried, clean + pull, targets, 0, groups, Rule()).best
    assert choice[:3] == (1.0, 0.0, (0.0, 0.0, 0.0, 1.0))
    # the 100 images of class 1 in the second group are all that were wrong; the other group costs nothing
    assert choice.costs[:4] == (-0.25, 0.0, 0.0, -0.5)


@pytest.mark.parametrize("limit", ["max_loss", "max_group_loss", "max_class_loss"])
def test_what_costs_too_much_accuracy_is_not_chosen(led_astray, limit):
    targets, groups, clean, pull = led_astray
    targets = torch.cat([targets, torch.full((400,), 2)])  # a third class, which the candidate gives up
    groups = Groups("f", ["off", "on", "third"], torch.cat([groups.of, torch.full((400,), 2)]))
    third = torch.zeros(800, 1)
    third[400:] = 9.0
    logits = torch.cat([torch.cat([clean, torch.zeros(400, 2)]), third], 1)
    before = logits.clone()
    before[:400, :2] += pull
    after = logits.clone()
    after[400:, 1] = 10.0
    strict = ANY._replace(**{limit: getattr(Rule(), limit)})
    found = choose([Candidate(1.0, after)], before, targets, 0, groups, strict)
    assert found.best is None
    assert list(found.refused) == [(limit,)]
    assert choose([Candidate(1.0, after)], before, targets, 0, groups, ANY).best is not None


def test_nothing_helps(led_astray):
    targets, groups, clean, _ = led_astray
    assert choose([Candidate(1.0, clean)], clean, targets, 0, groups, Rule()) == (0.0, None, {})


def test_the_figures_by_hand():
    targets = torch.tensor([0, 0, 1, 1, 2, -1])
    before, after = torch.tensor([0, 1, 0, 1, 0, 0]), torch.tensor([0, 0, 1, 1, 0, 0])
    colour = Groups("colour", ["red", "blue"], torch.tensor([0, 1, 0, 0, 0, 0]))
    predictions = Predictions(before, after, torch.zeros(6, dtype=torch.long))
    whole, red, blue = group_rows(predictions, targets, 0, [all_images(6), colour], min_group=1)
    assert (whole.factor, whole.own, whole.others) == ("", 2, 3)
    assert (whole.own_accuracy.before, whole.own_accuracy.after) == (0.5, 1.0)
    assert whole.others_accuracy.before == pytest.approx(1 / 3)
    assert whole.false_positives.after == pytest.approx(1 / 3)
    assert (red.value, red.own, red.others) == ("red", 1, 3)
    assert (red.error.before, red.error.after) == pytest.approx((1 / 3, 1 / 6))
    assert (blue.own, blue.others, blue.false_positives.before, blue.error.before) == (1, 0, None, None)
    found = measured("test", predictions, targets, 0, colour, 1)
    assert (found.images, found.accuracy.before, found.accuracy.after) == (5, 0.4, 0.8)
    assert (found.worst.before, found.worst.after, found.worst.shifted) == pytest.approx((1 / 3, 1 / 6, 0.5))
    taken = found.false_positives
    assert (taken.before, taken.after, taken.shifted) == pytest.approx((2 / 3, 1 / 3, 1))
    rows = class_rows(predictions, targets, ["a", "b", "c", "d"])
    assert [(row.name, row.images, row.accuracy.after, row.accuracy.shifted) for row in rows] == [
        ("c", 1, 0, 0),  # gains least
        ("a", 2, 1, 1),
        ("b", 2, 1, 0),
    ]


def test_no_latent_is_held_after_the_with():
    from lightning_sae.clip import HookPoint, load_clip
    from lightning_sae.world import config_path, weights_path

    clip = load_clip(config_path(), weights_path("biased"))
    hook, pixels = HookPoint("visual.transformer.resblocks.1", "all"), torch.randn(2, 3, *clip.image_size)
    width = clip.model.visual.ln_post.weight.shape[0]
    sae = TopK(d_in=width, d_sae=8, k=8).eval()
    with torch.no_grad():
        plain = clip.encode_image(pixels)
        with holding(clip, Held(Clamp([0], [5.0]), sae, hook)):
            assert not torch.allclose(clip.encode_image(pixels), plain)
        assert torch.equal(clip.encode_image(pixels), plain)


def test_columns_of_no_latents():
    silent = SparseLatents.from_dense(torch.zeros(3, 4))
    assert silent.columns(torch.tensor([1])).to_dense().tolist() == [[0], [0], [0]]
