"""A few tokens of each image: the same rows as in a capture of all of them."""

import json

import pytest
import torch

from lightning_sae.clip import HookPoint
from lightning_sae.data import ActivationDataModule, ActivationStore, capture_store, hook_folder
from lightning_sae.data.capture.kept_tokens import kept_tokens

PATCH = HookPoint("visual.transformer.resblocks.0", "patch")


def rows(noise, clip, store, n, **settings):
    settings = {"batch_size": 4, "shard_images": 8} | settings
    folder = capture_store(noise, clip, [PATCH], store_dir=store, tokens_per_image=n, **settings)
    return ActivationStore(hook_folder(folder, PATCH, n))


@pytest.mark.parametrize("n", [1, 3, 4])
def test_they_are_rows_of_a_capture_of_all_tokens(noise, clip, tmp_path, n):
    everything = rows(noise, clip, tmp_path, None).rows(0, 88).view(22, 4, -1)
    store = rows(noise, clip, tmp_path, n)
    assert store.layout == (22, n, 16)
    for image in range(22):
        chosen = kept_tokens(torch.tensor([image]), 4, n)[0]
        assert store.images(torch.tensor([image]))[0].equal(everything[image, chosen])
    assert store.statistics.n_tokens == 22 * n
    torch.testing.assert_close(store.statistics.mean, store.rows(0, len(store)).mean(0))


@pytest.mark.parametrize("settings", [{"batch_size": 5}, {"shard_images": 3}, {"num_workers": 2}])
def test_batches_shards_and_workers_do_not_matter(noise, clip, tmp_path, settings):
    plain, other = (
        rows(noise, clip, tmp_path / name, 2, **extra) for name, extra in (("a", {}), ("b", settings))
    )
    torch.testing.assert_close(other.rows(0, 44), plain.rows(0, 44), atol=1e-5, rtol=1e-4)


def test_the_number_is_part_of_the_fingerprint_and_stores_lie_side_by_side(noise, clip, tmp_path):
    folders = {n: rows(noise, clip, tmp_path, n).folder for n in (None, 1, 2)}
    assert len({*folders.values()}) == 3
    assert len({folder.parent for folder in folders.values()}) == 1
    prints = {n: json.loads((f / "manifest.json").read_text())["fingerprint"] for n, f in folders.items()}
    assert [prints[n].get("tokens_per_image") for n in folders] == [None, 1, 2]


@pytest.mark.parametrize("n", [0, 5])
def test_more_tokens_than_there_are(noise, clip, tmp_path, n):
    with pytest.raises(ValueError, match=rf"tokens_per_image must be in 1\.\.4.*got {n}"):
        rows(noise, clip, tmp_path, n)


def test_every_token_is_as_likely_and_none_comes_twice():
    chosen = kept_tokens(torch.arange(20_000), 16, 4)
    assert (chosen.diff(dim=1) > 0).all()
    share = torch.bincount(chosen.flatten(), minlength=16) / 20_000
    torch.testing.assert_close(share, torch.full((16,), 0.25), atol=0.015, rtol=0)  # five standard errors
    pairs = torch.bincount(chosen[:, 0] * 16 + chosen[:, 1], minlength=256).view(16, 16)
    assert (pairs.triu(1)[:12] > 0).any(1).all()


def test_an_image_keeps_the_same_tokens_whatever_else_is_asked_for():
    ids = torch.tensor([7, 400_000_000, 3])
    chosen = kept_tokens(ids, 49, 5)
    for image, tokens in zip(ids, chosen, strict=True):
        assert kept_tokens(image[None], 49, 5)[0].equal(tokens)
        assert {*kept_tokens(image[None], 49, 3)[0].tolist()} < {*tokens.tolist()}


def test_training_is_on_the_kept_tokens_and_validation_on_whole_images(noise, clip, judge, tmp_path):
    data = ActivationDataModule(
        noise,
        clip,
        PATCH.module,
        "patch",
        judge,
        store_dir=str(tmp_path),
        batch_size=8,
        n_probe=5,
        tokens_per_image=2,
    )
    data.prepare_data()
    data.setup("fit")
    assert data.store.layout == (22, 2, 16)
    assert (data.shape.tokens, data.probe.x.shape[1]) == (4, 4)
    (batch,) = data.val_dataloader()
    assert batch.image_ids.bincount().tolist() == [4] * 22
    for batch in data.train_dataloader():
        assert batch.targets.equal(noise.targets[batch.image_ids])
        for x, image in zip(batch.x, batch.image_ids, strict=True):
            assert (data.store.images(image[None])[0] == x).all(1).any()
