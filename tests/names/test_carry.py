"""Names that follow a latent: on dictionaries of which one is the other in another order."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.sparse import csc_array

import lightning_sae.names.carry as carry
from lightning_sae.concepts.own_names import read_names
from lightning_sae.stability.recurrence import Dictionary
from lightning_sae.stability.seeds import Seed

M, D, N = 12, 20, 400
ORDER = np.random.default_rng(3).permutation(M)


@pytest.fixture
def dictionary():
    generator = np.random.default_rng(0)
    directions = np.linalg.qr(generator.normal(size=(D, D)))[0][:M]
    fires = generator.random((N, M)) * (generator.random((N, M)) < 0.1)
    return Dictionary(directions, csc_array(fires))


def seed(dictionary, images="same", ids=N):
    known = np.full(len(dictionary.directions), np.nan)
    numbers = 100 + np.arange(len(dictionary.directions))
    return Seed(None, numbers, dictionary, known, known, images, torch.arange(ids))


@pytest.fixture
def runs(dictionary, monkeypatch, tmp_path):
    """Two runs: the second has the first's latents in another order, and lacks the last of them."""

    def runs(names, made_for="one CLIP", other="one CLIP", images="same"):
        kept = ORDER[ORDER != M - 1]
        moved = Dictionary(dictionary.directions[kept], dictionary.activations[:, kept])
        seeds = {"first": seed(dictionary), "second": seed(moved, images)}
        monkeypatch.setattr(carry, "read_seed", lambda run: seeds[run.name])
        place = {j: 100 + int(np.flatnonzero(kept == j)[0]) for j in range(M - 1)}
        folder = tmp_path / "second"
        folder.mkdir(exist_ok=True)
        first = SimpleNamespace(
            name="first", folder=Path("first"), own_names=names, card={"provenance": made_for}
        )
        second = SimpleNamespace(
            name="second", folder=folder, own_names={}, card={"provenance": other}, sae_sha256="ab" * 32
        )
        return first, second, place

    return runs


@pytest.mark.parametrize(("other", "by"), [("one CLIP", "direction and images"), ("another", "images")])
def test_names_follow_their_latents(runs, other, by):
    first, second, place = runs({100: "star", 104: "flag on navy", 100 + M - 1: "lost"}, other=other)
    found = carry.carried_names(first, second)
    assert found.names == {place[0]: "star", place[4]: "flag on navy"}
    assert found.origin == {place[0]: 100, place[4]: 104}
    assert found.lost == {100 + M - 1: "lost"}
    assert found.by == by


def test_names_that_are_there_stay(runs):
    first, second, place = runs({100: "star", 104: "flag"})
    second.own_names = {place[0]: "mine"}
    carry.carry_names(first, second)
    assert read_names(second.folder / "names.csv", "ab" * 32) == {place[0]: "mine", place[4]: "flag"}


def test_what_cannot_be_carried_is_said(runs):
    first, second, _ = runs({})
    with pytest.raises(FileNotFoundError, match="no names to carry over"):
        carry.carried_names(first, second)
    first, second, _ = runs({100: "star"}, images="others")
    with pytest.raises(ValueError, match="validated on different images"):
        carry.carried_names(first, second)
