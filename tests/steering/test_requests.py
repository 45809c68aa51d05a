"""Edits as people write them, and what is refused."""

import pandas as pd
import pytest

from lightning_sae.steering.intervention import Scale
from lightning_sae.steering.requests import read_edits


@pytest.fixture
def latents():
    return pd.DataFrame(
        {
            "label": ["brown background", "star", "star", "a=b", "heart", "heart"],
            "named": [True, True, False, True, False, False],
        },
        index=pd.Index([108, 3, 4, 5, 6, 7], name="latent"),
    )


@pytest.mark.parametrize(
    ("word", "edit"),
    [
        ("108=0", {108: 0.0}),
        ("108 = 1e-1", {108: 0.1}),
        ("3*-2", {3: Scale(-2.0)}),
        ("brown background*2", {108: Scale(2.0)}),
        ("Brown Background=.5", {108: 0.5}),
        ("star=1", {3: 1.0}),  # the named one
        ("star*3", {3: Scale(3.0)}),
        ("heart*0.5", {6: Scale(0.5), 7: Scale(0.5)}),  # all that have the label
        ("a=b=2", {5: 2.0}),
        ("a=b * 0", {5: Scale(0.0)}),
    ],
)
def test_edits_are_read(latents, word, edit):
    assert read_edits([word], latents, 128) == edit


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["108"], "an edit is LATENT=VALUE"),
        (["=3"], "an edit is LATENT=VALUE"),
        (["108=much"], "finite number, got 'much' in '108=much'"),
        (["108="], "finite number, got ''"),
        (["108*nan"], "finite number, got 'nan'"),
        (["108=inf"], "finite number, got 'inf'"),
        (["128=0"], r"one of 0\.\.127, got 128"),
        (["9=0"], "latent 9 is dead"),
        (["brown backgrond=0"], "no latent has the label 'brown backgrond'; the nearest labels are 'brown"),
        (["xyz=0"], "no label is near it"),
        (["heart=0"], "'heart' is the label of latents 6, 7: scale all of them by 'heart.FACTOR'"),
        (["108=0", "brown background*2"], "latent 108 is edited more than once"),
    ],
)
def test_what_is_no_edit(latents, words, message):
    with pytest.raises(ValueError, match=message):
        read_edits(words, latents, 128)


def test_several_named_latents_of_a_label_come_the_best_first(latents):
    latents = latents.assign(named=True, alignment=[0.3, 0.1, 0.2, 0.3, 0.1, 0.2])
    with pytest.raises(ValueError, match="latents 4, 3: scale"):
        read_edits(["star=0"], latents, 128)


def test_a_run_without_labels_knows_numbers():
    latents = pd.DataFrame(index=pd.Index([1], name="latent"))
    assert read_edits(["1=2"], latents, 4) == {1: 2.0}
    with pytest.raises(ValueError, match="no latent has the label"):
        read_edits(["star=2"], latents, 4)
