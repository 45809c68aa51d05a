"""The refit of a class, against its formula, a well-kept library and what was planted."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import softplus

from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.correct.corrected_classifier import WAYS
from lightning_sae.correct.covariance import RIDGE
from lightning_sae.correct.embeddings import CulpritView
from lightning_sae.correct.refit import (
    FOLDS,
    FitImages,
    cell_weights,
    cells_of,
    folds,
    held_out,
    refit,
)
from lightning_sae.correct.strategies import Validation, way_out, ways_open
from lightning_sae.metrics.group_errors import UNKNOWN, Groups, group_errors

N = 400


@pytest.fixture
def images():
    """A class and a cue, a direction each, with noise; the margin follows the cue more than the class."""
    generator = torch.Generator().manual_seed(0)
    own, cue = (torch.rand(N, generator=generator) < share for share in (0.3, 0.4))
    e = torch.randn(N, 5, generator=generator) * 0.3
    e[:, 0] += own.float()
    e[:, 1] += cue.float()
    cells = cells_of((~own).long(), 0, Groups("cue", ["no", "yes"], cue.long()))
    return FitImages(e, e[:, 0] + 3 * e[:, 1] - 2, cells, torch.arange(N))


def loss(images, direction, bias, inverse_penalty):
    """The formula of the docstring, cell by cell."""
    e, kinds = images.embeddings.double(), images.cells % 2
    total = 0
    for cell in range(4):
        inside = images.cells == cell
        margin = images.margin.double()[inside] + e[inside] @ direction + bias
        total = total + softplus(margin if cell % 2 == 0 else -margin).mean() / 4
    centred = torch.cat([e[kinds == kind] - e[kinds == kind].mean(0) for kind in (0, 1)])
    C = centred.T @ centred / len(centred)
    C = C + RIDGE * C.diagonal().mean() * torch.eye(len(C))
    return total + direction @ C @ direction / (2 * inverse_penalty)


@pytest.mark.parametrize("inverse_penalty", [1.0, 100.0])
def test_it_is_the_minimum_of_its_formula(images, inverse_penalty):
    found = refit(images, inverse_penalty)
    direction = found.direction.double().requires_grad_()
    bias = torch.tensor(found.bias, dtype=torch.float64, requires_grad=True)
    least = loss(images, direction, bias, inverse_penalty)
    slopes = torch.autograd.grad(least, [direction, bias])
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-4
    assert least < loss(images, torch.zeros(5).double(), 0.0, inverse_penalty)


def test_from_no_margin_it_is_the_logistic_regression_of_scikit_learn(images):
    flat = images._replace(margin=torch.zeros(N))
    e, own = images.embeddings.double(), images.cells % 2 == 1
    centred = torch.cat([e[part] - e[part].mean(0) for part in (own, ~own)])
    C = centred.T @ centred / N
    root = torch.linalg.cholesky(C + RIDGE * C.diagonal().mean() * torch.eye(5))
    z = torch.linalg.solve_triangular(root, e.T, upper=False).T.numpy()
    counts = torch.bincount(images.cells)
    weights = (1 / (4 * counts[images.cells])).numpy()
    known = LogisticRegression(C=10.0, tol=1e-10, max_iter=1000).fit(z, own.numpy(), weights)
    found = refit(flat, 10.0)
    np.testing.assert_allclose(found.direction.double() @ root, known.coef_[0], atol=1e-3)
    assert found.bias == pytest.approx(float(known.intercept_[0]), abs=1e-3)


def test_a_group_counts_alike_however_many_images_it_has(images):
    again = torch.cat([torch.arange(N), *[(images.cells == 3).nonzero().flatten()] * 3])
    more, once = refit(images.only(again), 10.0), refit(images, 10.0)
    # the covariance alone, of the penalty, knows how many there are
    assert torch.cosine_similarity(more.direction, once.direction, dim=0) > 0.99


def test_an_image_is_judged_by_a_fit_without_it(images):
    fold, change = folds(images), held_out(images, [100.0, 10.0])[1]
    for k in range(FOLDS):
        assert torch.bincount(images.cells[fold == k]).min() >= torch.bincount(images.cells).min() // FOLDS
        others = refit(images.only(fold != k), 10.0)
        torch.testing.assert_close(change[fold == k], others.of(images.embeddings[fold == k]))


@pytest.mark.parametrize("step", [5, 7, 10])
def test_what_shows_one_image_is_in_one_fold_and_every_fold_has_a_part_of_each_cell(images, step):
    images = images._replace(cells=images.cells % 2)
    copies = torch.cat([(images.cells == cell).nonzero().flatten()[::step] for cell in (0, 1)])
    twice = images.only(torch.cat([torch.arange(N), copies]))
    twice = twice._replace(cells=torch.cat([images.cells, images.cells[copies] + 2]))
    fold = folds(twice)
    assert fold[N:].tolist() == fold[copies].tolist()
    for cell in range(4):
        counts = torch.bincount(fold[twice.cells == cell], minlength=FOLDS)
        assert counts.max() - counts.min() <= 2


def view(images, own_without=60, own_with=60, others_with=60):
    """The images as a correction sees them, of which some cells may have lost theirs."""
    targets = torch.where(images.cells % 2 == 1, 0, 1)
    for cell, left in ((1, own_without), (3, own_with), (2, others_with)):
        targets[(images.cells == cell).nonzero().flatten()[left:]] = UNKNOWN
    groups = Groups("cue", ["no", "yes"], torch.div(images.cells, 2, rounding_mode="floor"))
    return CulpritView(images.embeddings, torch.rand(N, 1), targets, {}, images.ids), groups


def test_the_worse_group_is_mended_and_told_by_what_was_held_out(images):
    seen, groups = view(images)
    weight = torch.tensor([[1.0, 3.0, 0, 0, 0], [0.0] * 5])
    classes = LinearClassifier(weight, torch.tensor([-2.0, 0.0]))
    assert "refit" in ways_open(classes, seen, 0, groups)
    out = way_out("refit", classes, 0, seen, (0,), groups)
    as_it_is = classes.logits(seen.embeddings)
    validation = Validation(seen, as_it_is, 0, lambda held: None)
    before = group_errors(as_it_is.argmax(1), seen.targets, 0, groups).worst
    tried = list(validation.candidates(out))
    assert [one.amount for one in tried] == list(out.amounts)
    for one in tried:
        made = out.make(one.amount)
        assert made.held is None
        assert torch.equal(made.classes.weight[1], weight[1])
        assert torch.equal(one.logits[:, 1], as_it_is[:, 1])
        errors = [
            group_errors(logits.argmax(1), seen.targets, 0, groups).worst
            for logits in (one.logits, made.classes.logits(seen.embeddings))
        ]
        assert max(errors) < before
    assert max(errors) < 0.3 * before  # with the largest amount
    assert not torch.allclose(one.logits, made.classes.logits(seen.embeddings), atol=1e-3)


def test_the_cells_of_a_group_weigh_alike_whatever_their_size(images):
    sums = torch.bincount(images.cells, cell_weights(images.cells), minlength=4)
    torch.testing.assert_close(sums, torch.full((4,), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("lost", [{"own_without": 9}, {"own_with": 9}, {"others_with": 9}])
def test_where_nothing_tells_class_and_cue_apart_there_is_none(images, lost):
    seen, groups = view(images, **lost)
    classes = LinearClassifier(torch.randn(2, 5), torch.zeros(2))
    assert "refit" not in ways_open(classes, seen, 0, groups)
    with pytest.raises(ValueError, match="in each of two groups 10 images of the class and 10 of others"):
        way_out("refit", classes, 0, seen, (0,), groups).make(1.0)


@pytest.mark.parametrize(
    ("lost", "cells"),
    [
        ({"own_with": 9}, {0, 1, 2}),  # the nine have no part
        ({"own_without": 9, "own_with": 9}, {0, 2, 5}),  # of both groups together there are enough
    ],
)
def test_images_of_the_class_do_not_show_a_look_alike(images, lost, cells):
    seen, groups = view(images, **lost)
    found = cells_of(seen.targets, 0, groups, look_alike=True)
    assert {*found.tolist()} - {-1} == cells
    weights = cell_weights(found[found >= 0])
    sums = torch.bincount(found[found >= 0], weights, minlength=6)
    assert sums[[0, 2]].tolist() == pytest.approx([0.25, 0.25])
    assert float(sums[1::2].sum()) == pytest.approx(0.5)
    classes = LinearClassifier(torch.randn(2, 5), torch.zeros(2))
    assert "refit" not in ways_open(classes, seen, 0, groups)
    assert "refit" in ways_open(classes, seen, 0, groups, look_alike=True)
    out = way_out("refit", classes, 0, seen, (0,), groups, look_alike=True)
    assert out.held_out(10.0).isfinite().all()


def test_a_classifier_of_one_class_has_nothing_to_be_told_from(images):
    seen, groups = view(images)
    one = LinearClassifier(torch.randn(1, 5), torch.zeros(1))
    assert set(ways_open(one, seen, 0, groups)) == {*WAYS} - {"refit"}


def test_where_all_embeddings_are_alike_only_the_bias_changes(images):
    flat = images._replace(embeddings=torch.full_like(images.embeddings, 0.5), margin=torch.full((N,), 2.0))
    found = refit(flat, 100.0)
    assert found.of(flat.embeddings).tolist() == pytest.approx([-2.0] * N, abs=1e-3)
