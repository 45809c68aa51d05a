"""Texts as data: what they say, their tokens without padding, and both modalities in one store."""

import copy

import pytest
import torch

from lightning_sae.attribution.gradient import attribute, gradient
from lightning_sae.classifiers.scores import make_score
from lightning_sae.clip import HookPoint, TextClip, activations_at, capture_context, make_tail
from lightning_sae.data import JointDataModule, JointExamples, SplitTexts, TextDataModule, Texts, TrainLoader
from lightning_sae.data.sources.texts import mentioned, read_texts
from lightning_sae.data.sources.world import said
from lightning_sae.data.store.text_tokens import real_tokens
from lightning_sae.data.text_datamodule import class_means
from lightning_sae.metrics import Modality, modality_score
from lightning_sae.types import SparseLatents

LINES = [
    "cat",
    "a small dog",
    "an owl and a cat",
    "red",
    "the dog sleeps",
    "a cat",
    "owl",
    "two dogs",
    "an owl",
]
POINT = HookPoint("transformer.resblocks.0", "all")
SETTINGS = {"batch_size": 4, "eval_batch_size": 40, "n_probe": 2, "num_workers": 0, "capture_batch_size": 4}


@pytest.fixture
def texts():
    return SplitTexts("lines", LINES, ["cat", "dog", "owl"], val_fraction=0.3, test_fraction=0)


def test_what_texts_name():
    assert mentioned(LINES, ["cat", "dog", "owl"]).tolist() == [0, 1, -1, -1, 1, 0, 2, -1, 2]


def test_what_captions_of_the_world_say():
    captions = ["a photo of a red star on a brown background", "a star with the word flag", "red"]
    named = {
        factor: [values[i] if i >= 0 else "" for i in index.tolist()]
        for factor, (values, index) in said(captions).items()
    }
    assert named["class"] == ["star", "star", ""]
    assert named["colour"] == ["red", "", "red"]
    assert named["background"] == ["brown", "", ""]
    assert named["word"] == ["", "flag", ""]


def test_splits_share_no_text_and_do_not_depend_on_the_order(texts):
    again = SplitTexts("lines", [*reversed(LINES), "cat"], ["cat", "dog", "owl"], 0.3, 0)
    train, val = (texts.split(split).texts for split in ("train", "val"))
    assert sorted(train + val) == sorted(LINES)
    assert (again.split("train").texts, again.split("val").texts) == (train, val)
    with pytest.raises(ValueError, match="the test split of lines is empty"):
        texts.split("test")


def test_files_of_texts(tmp_path):
    (tmp_path / "texts.txt").write_text("a cat\n\n  a dog \n")
    assert read_texts(tmp_path / "texts.txt") == ["a cat", "a dog"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match="holds no text"):
        read_texts(tmp_path / "empty.txt")
    with pytest.raises(ValueError, match="no blank one"):
        Texts("t", ["a", " "], ["cat"], torch.tensor([0, 0]))


def test_a_text_clip_encodes_texts_and_shares_the_weights(clip):
    reader = TextClip(clip)
    ids = torch.stack([reader.preprocess(text) for text in LINES])
    torch.testing.assert_close(reader.encode(ids), clip.encode_text(LINES))
    assert reader.model is clip.model
    assert reader.identity()["weights"] == clip.identity()["weights"]
    assert reader.identity()["preprocess"] != clip.identity()["preprocess"]


def test_tokens_behind_the_pooled_one_have_no_say(clip):
    """Padding is what the embedding does not depend on."""
    reader = TextClip(clip)
    ids = reader.tokenizer(LINES)
    x, context = capture_context(reader, POINT, make_tail(reader, POINT), ids)
    g = gradient(make_tail(reader, POINT), x, make_score(torch.randn(clip.embed_dim)), context)
    real = real_tokens(reader, ids, x.shape[1])
    assert (g[~real] == 0).all()
    assert (g[real].abs().sum(1) > 0).sum() == len(LINES)  # one block is left: only the pooled token is read
    assert real.sum(1).tolist() == [int((row != 0).sum()) for row in ids]


def test_a_store_of_real_tokens(texts, make_noise, clip, tmp_path):
    data = TextDataModule(texts, make_noise(), clip, *POINT, store_dir=str(tmp_path), **SETTINGS)
    with pytest.warns(UserWarning, match="also judges"):
        data.prepare_data()
    data.setup("fit")
    reader, train = TextClip(clip), texts.split("train").texts
    ids = reader.tokenizer(train)
    x = activations_at(reader, [POINT], ids)[POINT].detach()
    real = real_tokens(reader, ids, x.shape[1])
    torch.testing.assert_close(torch.cat([*data.train_batches()]), x[real])
    torch.testing.assert_close(data.statistics.mean, x[real].mean(0))
    owner = real.nonzero()[:, 0]
    loader = TrainLoader(data.store, texts.split("train").targets, 4, seed=0)
    for batch in loader:
        for row, text, target in zip(batch.x, batch.image_ids, batch.targets, strict=True):
            assert (x[real][owner == text] - row).abs().amax(1).min() < 1e-5
            assert target == texts.split("train").targets[text]
    val = texts.split("val").texts
    batches = [*data.val_dataloader()]
    seen = torch.cat([batch.image_ids for batch in batches])
    counts = real_tokens(reader, reader.tokenizer(val), x.shape[1]).sum(1)
    assert torch.bincount(seen).tolist() == counts.tolist()


def test_the_score_of_a_text_is_its_mean_over_images(clip, make_noise):
    """Attribution to a class's mean embedding is the mean of the attributions to its images."""
    noise, reader = make_noise(), TextClip(clip)
    images = clip.encode_image(torch.stack([clip.preprocess(noise[i]) for i in range(len(noise))])).double()
    means = class_means(images, noise.targets, noise.class_names)
    double = TextClip(copy.deepcopy(clip)).double()
    point = HookPoint("text", "pooled")
    tail = make_tail(double, point)
    x, _ = capture_context(double, point, tail, reader.tokenizer(LINES[:3]))
    latents = SparseLatents.from_dense(torch.rand(3, 5, dtype=torch.float64))
    W_dec = torch.randn(5, x.shape[2], dtype=torch.float64)

    def attributed(direction):
        return attribute(latents, W_dec, gradient(tail, x.double(), make_score(direction))[:, 0])

    of_images = torch.stack([attributed(image) for image in images[noise.targets == 1]])
    torch.testing.assert_close(attributed(means[1]), of_images.mean(0))
    with pytest.raises(ValueError, match=r"2 classes have no val images.*dog, owl"):
        class_means(images[:1], noise.targets[:1], noise.class_names)


def test_both_in_one_store(texts, make_noise, clip, judge, tmp_path):
    data = JointDataModule(make_noise(), texts, clip, judge, store_dir=str(tmp_path), **SETTINGS)
    data.prepare_data()
    data.setup("fit")
    train, noise = texts.split("train"), make_noise().split("train")
    pixels = torch.stack([clip.preprocess(noise[i]) for i in range(len(noise))])
    ids = clip.tokenizer(train.texts)
    expected = torch.cat([clip.model.encode_image(pixels), clip.model.encode_text(ids)]).detach()
    torch.testing.assert_close(torch.cat([*data.train_batches()]), expected)
    centred = expected.double() - expected.double().mean(0)
    scale = (expected.shape[1] * len(expected) / centred.square().sum()).sqrt()
    torch.testing.assert_close(data.statistics.mean, expected.mean(0), rtol=1e-4, atol=1e-5)
    assert data.statistics.scale == pytest.approx(float(scale), rel=1e-4)
    examples = data.images("val")
    batch = torch.cat([batch.embeddings for batch in data.val_dataloader()])
    own = [text for text in (examples[i] for i in range(len(examples))) if isinstance(text, str)]
    torch.testing.assert_close(batch[examples.n_images :], clip.encode_text(own))
    torch.testing.assert_close(data.judge_embeddings[examples.n_images :], judge.encode_text(own))


def test_factors_of_both_are_joined(make_noise):
    images, texts = make_noise(3), Texts("t", ["red", "blue"], ["cat", "dog", "owl"], torch.tensor([-1, -1]))
    texts.factors = {"colour": (["red", "blue"], torch.tensor([0, 1]))}
    joint = JointExamples(images, texts)
    assert joint.factors["colour"][1].tolist() == [-1, -1, -1, 0, 1]
    assert joint.targets.tolist() == [0, 1, 2, -1, -1]
    assert joint[3] == "red"
    assert joint.identity() != JointExamples(make_noise(4), texts).identity()


def test_modality_by_hand_and_in_any_batches():
    dense = torch.tensor([[2.0, 0.0, 1.0, 0.0], [4.0, 0.0, 1.0, 0.0], [0.0, 5.0, 3.0, 0.0]])
    is_text = torch.tensor([False, False, True])
    whole, parts = Modality(4), Modality(4)
    whole.update(SparseLatents.from_dense(dense), is_text)
    for i in range(3):
        parts.update(SparseLatents.from_dense(dense[i : i + 1]), is_text[i : i + 1])
    assert whole.compute().tolist() == parts.compute().tolist() == [[3, 0, 1, 0], [0, 5, 3, 0]]
    score = modality_score(*whole.compute())
    assert score[:3].tolist() == [1.0, 0.0, 0.25]
    assert score[3].isnan()
