"""Matching against planted firing patterns."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csc_array

from lightning_sae.compare.matching import firing_correlation, match_latents
from lightning_sae.compare.runs import read_runs
from lightning_sae.compare.shared_concepts import compare_concepts
from lightning_sae.compare.variants import find_variants
from lightning_sae.runs.image_latents import choose_images, load_image_latents, save_image_latents
from lightning_sae.tracking.values import goal
from lightning_sae.types import SparseLatents

from .conftest import write_run

N, D = 400, 12


def patterns(seed, d=D):
    """Latents that fire on a tenth of the images, independently."""
    generator = np.random.default_rng(seed)
    return (generator.random((N, d)) < 0.1) * generator.uniform(1, 3, (N, d))


def test_the_correlation_is_numpys():
    a, b = patterns(0), patterns(1)
    b[:, 3] = 0  # never fires
    b[:, 4] = 2  # always fires alike
    with np.errstate(invalid="ignore"):
        want = np.nan_to_num(np.corrcoef(a.T, b.T)[:D, D:])
    got = firing_correlation(csc_array(a), csc_array(b))
    np.testing.assert_allclose(got, want, atol=1e-12)
    assert np.allclose(got[:, 3:5], 0)


def test_planted_partners_are_found_and_strangers_are_not():
    """Eight concepts in both, in another order and scale, with noise; four in one only."""
    a = patterns(0)
    order = np.random.default_rng(2).permutation(8)
    b = np.hstack([a[:, order] * 5 + patterns(3, 8) * 0.3, patterns(4, 4)])
    found = match_latents(csc_array(a), csc_array(b))
    same = found.correlation > found.same
    partners = dict(zip(found.first[same].tolist(), found.second[same].tolist(), strict=True))
    assert partners == {int(concept): place for place, concept in enumerate(order)}
    assert (found.nearest_first[:8] > 0.9).all()
    assert (found.nearest_first[8:] < found.same + 0.1).all()
    assert found.apart < found.same < 0.3


def test_the_null_is_the_nearest_other_of_the_same_run():
    a, b = patterns(0), patterns(1)
    nearest = []
    for x in (a, b):
        r = np.corrcoef(x.T)
        nearest += [max(r[i, j] for j in range(D) if j != i) for i in range(D)]
    found = match_latents(csc_array(a), csc_array(b))
    assert found.same == pytest.approx(np.quantile(nearest, 0.95))
    assert found.apart == pytest.approx(np.median(nearest))


def test_the_file_keeps_the_latents_and_the_images(tmp_path):
    latents = torch.rand(5, 4) * (torch.rand(5, 4) > 0.5)
    ids = torch.tensor([1, 3, 4, 7, 9])
    for identity in ({"name": "A"}, {"name": "B"}):
        save_image_latents(tmp_path, SparseLatents.from_dense(latents), ids, identity)
        found = load_image_latents(tmp_path)
        assert torch.equal(found.latents.to_dense(), latents)
        assert torch.equal(found.image_ids, ids)
    save_image_latents(tmp_path, SparseLatents.from_dense(latents), ids, {"name": "A"})
    assert load_image_latents(tmp_path).images != found.images
    assert [path.name for path in tmp_path.iterdir()] == ["image_latents.safetensors"]
    (tmp_path / "image_latents.safetensors").write_bytes(b"\x08")
    with pytest.raises(ValueError, match="damaged"):
        load_image_latents(tmp_path)


def test_the_same_images_are_chosen_in_every_run():
    chosen = choose_images(1000, 50)
    assert torch.equal(chosen, choose_images(1000, 50))
    assert len(chosen.unique()) == 50
    assert (chosen.diff() > 0).all()


def test_rows_are_kept_by_a_mask():
    dense = torch.rand(6, 5) * (torch.rand(6, 5) > 0.4)
    mask = torch.tensor([True, False, False, True, True, False])
    assert torch.equal(SparseLatents.from_dense(dense).keep(mask).to_dense(), dense[mask])
    view = SparseLatents.from_dense(dense).slice(1, 6)
    assert torch.equal(view.keep(mask[1:]).to_dense(), dense[1:][mask[1:]])


def table(labels, named=None):
    named = named or [True] * len(labels)
    columns = {"latent": range(len(labels)), "density": 0.1, "label": labels, "named": named}
    return {"latents": pd.DataFrame(columns)}


def variants_of(tmp_path):
    return find_variants(read_runs([tmp_path]), "clip", goal("val/fvu"))


def test_three_variants_share_what_was_planted(tmp_path):
    """All three have concepts 0..7, by other numbers; the rest is their own."""
    base = patterns(0)
    labels = [f"concept {i}" for i in range(8)]
    for name, shift in (("a", 0), ("b", 3), ("c", 5)):
        own = patterns(10 + shift, 4)
        latents = np.hstack([np.roll(base[:, :8], shift, axis=1), own]).astype(np.float32)
        words = [*np.roll(labels, shift).tolist(), *[f"{name} {i}" for i in range(4)]]
        named = [name != "c" and word in ("concept 0", "concept 5") for word in words]
        write_run(tmp_path / name, choices={"clip": name}, tables=table(words, named), latents=latents)
    found = compare_concepts(variants_of(tmp_path))
    assert not found.problems
    assert [(pair.first, pair.second) for pair in found.pairs] == [(0, 1), (0, 2), (1, 2)]
    for pair in found.pairs:
        assert len(pair.matched) == 8
        assert pair.images == N
        assert set(pair.alone(pair.first)) <= {8, 9, 10, 11}
        assert set(pair.alone(pair.second)) <= {8, 9, 10, 11}
    rows = found.table[found.table["label"].str.startswith("concept")]
    assert len(rows) == 24
    for name in "abc":
        others = rows[rows["variant"] != name]
        assert (others[f"label in {name}"] == others["label"]).all()
        named = others["label"].isin(["concept 0", "concept 5"]) & (name != "c")
        assert (others[f"named in {name}"] == named).all()
    own = found.table[~found.table["label"].str.startswith("concept")]
    assert own.filter(like="partner").isna().all(axis=None)


def test_what_cannot_be_compared_is_said(tmp_path):
    latents = patterns(0).astype(np.float32)
    words = table([str(i) for i in range(D)])
    write_run(tmp_path / "0", choices={"clip": "a"}, tables=words, latents=latents)
    write_run(tmp_path / "1", choices={"clip": "b"}, tables=words, latents=latents, images="others")
    write_run(tmp_path / "2", choices={"clip": "c"}, tables=words)
    longer = table([str(i) for i in range(D + 1)])
    write_run(tmp_path / "3", choices={"clip": "d"}, tables=longer, latents=latents)
    found = compare_concepts(variants_of(tmp_path))
    assert not found.pairs
    assert any(f"d: latents.csv lists latents beyond the {D} of image_lat" in text for text in found.problems)
    assert any("c: " in text and "callback image_latents" in text for text in found.problems)
    assert any("a and b were validated on different images" in text for text in found.problems)


def test_latents_that_hardly_fire_are_left_out(tmp_path):
    latents = patterns(0).astype(np.float32)
    latents[9:, 0] = 0  # on nine images at most
    for name in "ab":
        write_run(tmp_path / name, choices={"clip": name}, tables=table(["x"] * D), latents=latents)
    (pair,) = compare_concepts(variants_of(tmp_path)).pairs
    assert set(pair.nearest[0].index) == set(range(1, D))


def test_a_run_whose_latents_never_fire_is_no_error(tmp_path):
    latents = patterns(0).astype(np.float32)
    for name, values in {"a": latents, "b": latents * 0}.items():
        write_run(tmp_path / name, choices={"clip": name}, tables=table(["x"] * D), latents=values)
    found = compare_concepts(variants_of(tmp_path))
    assert not found.pairs
    assert "fewer than two latents" in found.problems[0]
