"""Gaps of known groups, against Fisher's exact test of scipy and counts by hand."""

import pytest
import torch
from scipy.stats import fisher_exact

from lightning_sae.audit.evidence.gaps import find_gaps, raises

GENERATOR = torch.Generator().manual_seed(0)


def drawn(n, high, low=0):
    return torch.randint(low, high, (n,), generator=GENERATOR)


def everything(predicted, targets, n_classes, factors, min_group=10):
    """(class, name, measure) -> gap, by counting images one by one; no test of significance."""
    found = {}
    for factor, (values, truth) in factors.items():
        for v, value in enumerate(values):
            for c in range(n_classes):
                for measure in ("false_positives", "misses"):
                    cells = [[0, 0], [0, 0]]
                    for p, t, k in zip(predicted.tolist(), targets.tolist(), truth.tolist(), strict=True):
                        if k >= 0 and t >= 0 and (t == c) == (measure == "misses"):
                            cells[k != v][(p != c) if measure == "misses" else (p == c)] += 1
                    if min(map(sum, cells)) >= min_group:
                        found[c, f"{factor}={value}", measure] = cells
    return found


def test_every_gap_is_that_of_the_counts():
    """One value takes images for class 0; some have no class or no value; 3 is no class of the classifier."""
    n = 900
    targets, truth = drawn(n, 4, -1), drawn(n, 3, -1)
    predicted = torch.where(torch.rand(n, generator=GENERATOR) < 0.7, targets.clamp(0, 2), drawn(n, 3))
    predicted = torch.where((truth == 1) & (torch.rand(n, generator=GENERATOR) < 0.4), 0, predicted)
    factors = {"mark": (["a", "b", "c"], truth)}
    found = find_gaps(predicted, targets, 3, factors)
    counted = everything(predicted, targets, 3, factors)
    assert (0, "mark=b", "false_positives") in [(g.c, g.name, g.measure) for g in found]
    assert [g.gap.value for g in found] == sorted((g.gap.value for g in found), reverse=True)
    for one in found:
        (right, wrong), (right_else, wrong_else) = cells = counted[one.c, one.name, one.measure]
        assert one.images == right + wrong
        assert one.share == pytest.approx(wrong / (right + wrong))
        assert one.elsewhere == pytest.approx(wrong_else / (right_else + wrong_else))
        table = [[wrong, right], [wrong_else, right_else]]
        assert one.p == pytest.approx(fisher_exact(table, alternative="greater").pvalue)
        assert one.gap.value == pytest.approx(one.share - one.elsewhere)
        assert one.gap.low < one.gap.value < one.gap.high
        assert sum(map(sum, cells)) <= n
    # Benjamini and Hochberg over all that were counted
    p = {
        key: fisher_exact([cells[0][::-1], cells[1][::-1]], alternative="greater").pvalue
        for key, cells in counted.items()
    }
    order = sorted(p, key=p.get)
    last = max(i for i, key in enumerate(order, 1) if p[key] <= 0.05 * i / len(order))
    assert {(g.c, g.name, g.measure) for g in found} == set(order[:last])


def test_random_groups_have_no_gaps():
    """All are true null hypotheses: any at all is found in at most one of twenty audits, on average."""
    audits = 0
    for _ in range(200):
        targets, groups = drawn(300, 4), {"a": (["x", "y"], drawn(300, 2)), "b": (list("xyz"), drawn(300, 3))}
        predicted = torch.where(torch.rand(300, generator=GENERATOR) < 0.7, targets, drawn(300, 4))
        audits += bool(find_gaps(predicted, targets, 4, groups))
    assert audits <= 10 + 3 * 3


def test_the_class_itself_and_small_groups_are_no_groups():
    predicted, targets = torch.tensor([0] * 9 + [1] * 40), torch.ones(49, dtype=torch.int64)
    truth = torch.tensor([1] * 9 + [0] * 40)
    assert find_gaps(predicted, targets, 2, {"mark": (["no", "yes"], truth)}) == []
    assert find_gaps(predicted, targets, 2, {"mark": (["no", "yes"], truth)}, min_group=9)
    assert find_gaps(predicted, targets, 2, {"class": (["no", "yes"], truth)}, min_group=9) == []
    assert find_gaps(predicted, targets, 2, {}) == []


def test_without_known_classes_there_are_no_gaps():
    unknown = torch.full((40,), -1)
    mark = {"mark": (["no", "yes"], torch.arange(40) % 2)}
    assert find_gaps(torch.arange(40) % 2, unknown, 2, mark) == []


def marked_logits(raised, by=4.0, n=60, n_classes=3):
    """A mark on a third of the images raises the logits of one class; targets go round."""
    group, targets = torch.arange(n) % 5 == 0, torch.arange(n) % n_classes
    logits = 3.0 * torch.nn.functional.one_hot(targets, n_classes) + torch.zeros(n, n_classes)
    logits[group, raised] += by
    return group, logits, targets


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_a_mark_speaks_for_the_class_that_it_raises_alone(n_classes):
    group, logits, targets = marked_logits(1, n_classes=n_classes)
    assert [raises(group, c, logits, targets) for c in range(n_classes)] == [c == 1 for c in range(n_classes)]


@pytest.mark.parametrize(("by", "rise", "expected"), [(4, 2.2, 0), (4, 2.5, 1), (-4, 1.5, 0), (-4, 1.8, 1)])
def test_a_class_is_raised_by_half_of_the_largest_shift_on(by, rise, expected):
    """Of ten logits one rises or falls by 4; all are taken relative to their mean, a tenth of the sum."""
    group, logits, targets = marked_logits(1, by=by, n_classes=10)
    logits[group, 2] += rise
    mean = (by + rise) / 10
    assert (rise - mean >= abs(by - mean) / 2) == expected
    assert raises(group, 2, logits, targets) == expected


def test_where_there_is_no_mark_nothing_speaks_for_the_others():
    group, logits, targets = marked_logits(1)
    assert not any(raises(~group, c, logits, targets) for c in range(3))
    rare = torch.arange(60) % 5 != 0
    rare[20:] = False  # the same on fewer images: these lack the mark, and raise no class
    assert not raises(rare, 1, logits, targets)


def test_a_shift_of_all_logits_speaks_for_no_class():
    group, logits, targets = marked_logits(1)
    shifted = logits + 9.0 * group[:, None]
    assert [raises(group, c, shifted, targets) for c in range(3)] == [False, True, False]


def test_a_group_on_the_class_alone_says_nothing():
    _, logits, targets = marked_logits(1)
    assert not raises(targets == 1, 1, logits, targets)
    assert not raises(torch.arange(60) < 20, 0, logits, torch.full((60,), -1))
