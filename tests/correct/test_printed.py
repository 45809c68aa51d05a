"""The class's word on images of the data: what is printed where."""

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_sae.correct.choice import Candidate, Rule, choose
from lightning_sae.correct.measures import Predictions, measured
from lightning_sae.correct.printed import AT_AN_EDGE, printed_on
from lightning_sae.metrics.group_errors import Groups
from lightning_sae.pairs.printing import STYLES, Style, put_label


@pytest.mark.parametrize("size", [(40, 40), (64, 30), (5, 4)])
@pytest.mark.parametrize("place", [0.0, 0.25, 0.5, 1.0])
def test_a_label_covers_its_part_of_a_picture_and_no_more(size, place):
    noise = np.random.default_rng(0).integers(0, 200, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    labelled = np.asarray(put_label(picture, "plane", Style("DejaVuSans", 0.25, place)))
    changed = (labelled != noise).any(2)
    rows = max(1, round(0.25 * size[1]))
    top = round(place * (size[1] - rows))
    label = changed[top : top + rows]
    assert changed.sum() == label.sum() > 0
    columns = label.any(0).nonzero()[0]
    assert len(columns) <= round(0.95 * size[0])
    assert abs(columns[0] - (size[0] - 1 - columns[-1])) <= 1  # in the middle
    assert labelled[top].max() > 200  # the label is white
    assert np.array_equal(np.asarray(picture), noise)


def test_labels_lie_at_an_edge():
    assert {style.place for style in AT_AN_EDGE} == {0.0, 1.0}
    assert len(AT_AN_EDGE) == len(STYLES) * 2 // 3


def test_the_images_are_spread_over_the_data():
    targets = torch.arange(1000) // 100
    ids = printed_on(targets, target=3, own=50, others=90)
    assert len(set(ids.tolist())) == 140
    assert (targets[ids[:50]] == 3).all()
    assert torch.bincount(targets[ids[50:]], minlength=10).tolist() == [10] * 3 + [0] + [10] * 6
    assert printed_on(targets[:10], target=5, own=3, others=3).tolist() == [0, 4, 9]  # 4.5 to even


def test_printed_images_count_in_their_group_alone():
    targets = torch.tensor([0] * 10 + [1] * 10 + [0] * 10 + [1] * 10)
    groups = Groups("printed", ["as they are", "word"], torch.arange(2).repeat_interleave(20), added=20)
    before = torch.tensor([0] * 10 + [1] * 10 + [0] * 20)  # all images with the word are taken for 0
    found = measured("test", Predictions(before, targets, before), targets, 0, groups, 1)
    assert (found.images, found.accuracy.before, found.accuracy.after) == (20, 1.0, 1.0)
    assert (found.worst.before, found.worst.after) == (0.5, 0.0)
    # what is gained on printed images makes up for nothing that is lost on those of the data
    after = torch.eye(2)[targets]
    after[10:13] = torch.tensor([1.0, 0.0])
    tried = [Candidate(1.0, after)]
    strict, loose = (Rule(max_loss, 1.0, 1.0, 1.0) for max_loss in (0.1, 0.2))
    assert choose(tried, torch.eye(2)[before], targets, 0, groups, loose).best is not None
    assert choose(tried, torch.eye(2)[before], targets, 0, groups, strict).best is None
