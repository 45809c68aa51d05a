"""The state as a file: whole or not at all, and the same when it is read again."""

import os

import numpy as np
import pytest
import torch

from lightning_sae.monitoring.recent import MOST, merge_recent
from lightning_sae.monitoring.reference import Reference, load_reference, save_reference
from lightning_sae.monitoring.state import FILE, State, load_state, merge_states, save_state


@pytest.fixture
def seen(reference, draw, rates):
    """A state after some images, by their seed."""

    def seen(seed=0, n=120, digest="r"):
        state = State.new(12, sum(reference.tests.sizes), digest)
        numbers = draw(n, rates, seed=seed)
        reference.watch.update(state.evidence, reference.entries(numbers))
        state.recent.add(numbers, 0, [b"%d" % i for i in range(n)])
        return state

    return seen


def test_a_state_that_is_read_again_is_the_same(seen, tmp_path):
    state = seen()
    state.taken, state.bad = (7, "abc"), 2
    save_state(state, tmp_path)
    again = load_state(tmp_path)
    for name in ("placed", "carried", "best", "since", "counted", "total", "raised"):
        np.testing.assert_array_equal(getattr(state.evidence, name), getattr(again.evidence, name))
    assert (again.evidence.seen, again.taken, again.bad) == (120, (7, "abc"), 2)
    assert again.machines == state.machines
    assert (again.recent.places, again.recent.pictures) == (state.recent.places, state.recent.pictures)
    assert torch.equal(again.recent.numbers.predicted, state.recent.numbers.predicted)
    dense = [s.recent.numbers.latents.to_dense() for s in (again, state)]
    assert torch.equal(*dense)


def test_a_kill_while_it_is_written_leaves_the_one_before(seen, tmp_path, monkeypatch):
    save_state(seen(n=50), tmp_path)

    def killed(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_state(seen(n=100), tmp_path)
    monkeypatch.undo()
    assert load_state(tmp_path).evidence.seen == 50


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_state_is_told(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"state\.safetensors is damaged, or of another version"):
        load_state(tmp_path)


def test_memory_does_not_grow(reference, draw, rates, tmp_path):
    state, sizes = State.new(12, sum(reference.tests.sizes), "r"), []
    for seed in range(6):
        numbers = draw(600, rates, seed=seed)
        reference.watch.update(state.evidence, reference.entries(numbers))
        state.recent.add(numbers, 600 * seed, [])
        save_state(state, tmp_path)
        sizes.append((tmp_path / FILE).stat().st_size)
    assert len(state.recent) == MOST
    assert state.recent.places == [*range(2601, 3601)]
    assert max(sizes[2:]) < 1.02 * sizes[2]


def test_a_machine_counts_once(seen):
    first, second = seen(0), seen(1)
    merged = merge_states([first, second])
    assert merged.evidence.seen == 240
    assert {*merged.machines} == {*first.machines, *second.machines}
    assert merged.recent.places == [*range(1, 241)]
    for states in ([first, first], [merged, second]):
        with pytest.raises(ValueError, match="a machine is in two of the states"):
            merge_states(states)
    with pytest.raises(ValueError, match="against different references"):
        merge_states([first, seen(2, digest="other")])
    with pytest.raises(ValueError, match="name two states or more"):
        merge_states([first])


def test_the_latest_of_each_machine_are_kept(seen):
    many, few = seen(0, n=900).recent, seen(1, n=300).recent
    merged = merge_recent([many, few], 1200)
    assert len(merged) == 800
    assert merged.pictures[:500] == many.pictures[400:]
    assert merged.after(900).pictures == few.pictures


def test_a_reference_that_is_read_again_is_the_same(reference, tmp_path):
    save_reference(reference, tmp_path)
    again = load_reference(tmp_path)
    assert again.facts == reference.facts
    for ends in zip(again.bounds, reference.bounds, strict=True):
        np.testing.assert_allclose(*ends, atol=2e-4)  # shares are kept in half precision
    assert isinstance(again, Reference)
    fewer = reference.facts.model_copy(update={"class_names": ("cat",)})
    save_reference(Reference(fewer, reference.whole, reference.classifier), tmp_path)
    with pytest.raises(ValueError, match="its parts do not fit each other"):
        load_reference(tmp_path)
    (tmp_path / "reference.safetensors").write_bytes(b"{}")
    with pytest.raises(ValueError, match="is damaged, or of another version"):
        load_reference(tmp_path)
