"""Several hook points in one datamodule: the same tokens of each, from one pass of CLIP."""

import pytest
import torch

from lightning_sae.clip import Clip, HookPoint, check_same_tokens
from lightning_sae.data import ActivationDataModule, JointDataModule, SplitTexts, TextDataModule

FIRST, LAST = "visual.transformer.resblocks.0", "visual.transformer.resblocks.1"
TEXTS = [
    f"{word} and {other}" for word in ("a cat", "a dog", "an owl") for other in ("red", "a blue star", "x")
]
pytestmark = pytest.mark.filterwarnings("ignore:the audited CLIP also judges")


@pytest.fixture
def make(noise, clip, tmp_path):
    def make(*modules, tokens="all", **settings):
        settings = {
            "store_dir": str(tmp_path),
            "batch_size": 8,
            "eval_batch_size": 12,
            "n_probe": 3,
        } | settings
        one = {"hook_point": modules[0]} if len(modules) == 1 else {"hook_point": "", "hook_points": modules}
        return ActivationDataModule(noise, clip, tokens=tokens, **one, **settings)

    return make


def ready(data):
    data.prepare_data()
    data.setup("fit")
    return data


def same(batches, alone, activations):
    for together, one in zip(batches, alone, strict=True):
        assert torch.equal(activations(together), one.x)
        assert torch.equal(together.image_ids, one.image_ids)


@pytest.mark.parametrize("settings", [{}, {"tokens_per_image": 2}, {"dtype": "float16"}, {"tokens": "cls"}])
def test_batches_hold_the_same_tokens_as_those_of_each_alone(make, settings):
    data, first, last = (
        ready(make(FIRST, LAST, **settings)),
        *(ready(make(one, **settings)) for one in (FIRST, LAST)),
    )
    assert (data.hook, [*data.earlier]) == (last.hook, ["resblocks.0"])
    assert data.modules == [FIRST, LAST]
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        together = [*getattr(data, loader)()]
        assert len(together) > 1
        same(together, getattr(first, loader)(), lambda batch: batch.earlier[0])
        same(together, getattr(last, loader)(), lambda batch: batch.x)
    (earlier,) = data.earlier.values()
    assert earlier.d_in == first.d_in
    assert torch.equal(earlier.sample(7), first.sample(7))
    assert torch.equal(torch.cat([*earlier.train_batches()]), torch.cat([*first.train_batches()]))
    assert torch.equal(earlier.statistics.mean, first.statistics.mean)
    assert earlier.provenance() == first.provenance()


def test_clip_sees_each_image_once(make, clip, monkeypatch):
    seen, encode = [], Clip.encode_image
    data = make(FIRST, LAST)
    _ = clip.embed_dim  # which is learnt from an image
    data.check()
    monkeypatch.setattr(
        Clip, "encode_image", lambda self, pixels: seen.append(len(pixels)) or encode(self, pixels)
    )
    data.fill()
    assert [n for n in seen if n > 1] == [22, 22, 3]  # train and val, and the probe; one to learn a shape


def test_a_text_tower(clip, make_noise, tmp_path):
    texts = SplitTexts("lines", TEXTS, ["cat", "dog", "owl"], val_fraction=0.3, test_fraction=0)
    block = "transformer.resblocks.0"

    def of(hook_point, hook_points=None):
        settings = {"store_dir": str(tmp_path), "batch_size": 4, "eval_batch_size": 40, "n_probe": 2}
        return ready(
            TextDataModule(
                texts,
                make_noise(),
                clip,
                hook_point,
                "all",
                hook_points=hook_points,
                num_workers=0,
                **settings,
            )
        )

    data, first, last = of("", [f"{block}.ln_2", block]), of(f"{block}.ln_2"), of(block)
    assert len(data.store) < data.store.layout.n_images * data.store.layout.tokens  # no padding
    for loader in ("train_dataloader", "val_dataloader"):
        together = [*getattr(data, loader)()]
        same(together, getattr(first, loader)(), lambda batch: batch.earlier[0])
        same(together, getattr(last, loader)(), lambda batch: batch.x)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (
            (LAST, FIRST),
            r"from the first to the last: got .*resblocks\.1:all, .*; use .*resblocks\.0:all, ",
        ),
        ((f"{FIRST}.mlp", f"{FIRST}.attn"), "from the first to the last: got "),
        ((FIRST, "visual.transformer.resblocks.7"), "has no module 'visual.transformer.resblocks.7'"),
    ],
)
def test_hook_points_that_do_not_lie_one_behind_the_other(make, tmp_path, modules, message):
    with pytest.raises(ValueError, match=message):
        make(*modules).prepare_data()
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ((FIRST, LAST, FIRST), "must be different ones, got"),
        (("transformer.resblocks.0", LAST), "the data are images, which never reach transformer.resblocks.0"),
        ((), r"hook_points must be a list, as \[FIRST,LAST\], got \(\)"),
    ],
)
def test_hook_points_that_are_no_path(make, modules, message):
    with pytest.raises(ValueError, match=message):
        make(*modules)


def test_a_text_in_the_place_of_a_list(noise, clip):
    with pytest.raises(ValueError, match=r"hook_points must be a list, as \[FIRST,LAST\], got 'visual'"):
        ActivationDataModule(noise, clip, "visual", hook_points="visual")


def test_images_and_texts_together_have_one_hook_point(noise, clip):
    with pytest.raises(ValueError, match="leave hook_points out"):
        JointDataModule(noise, noise, clip, hook_points=["visual"])


def test_hook_points_with_other_tokens(clip):
    points = [HookPoint("visual.conv1", "patch"), HookPoint(LAST, "all")]
    with pytest.raises(ValueError, match=r"visual.conv1:patch has 4, .*:all has 5; train them in runs"):
        check_same_tokens(clip, points)


def test_a_checkpoint_of_other_hook_points(make):
    both, alone = make(FIRST, LAST), make(LAST)
    both.check_checkpoint(both.state_dict(), goes_on=True)
    for then, now in ((both, alone), (alone, both)):
        with pytest.raises(ValueError, match=r"these changed: hook_points .*visual"):
            now.check_checkpoint(then.state_dict(), goes_on=False)
