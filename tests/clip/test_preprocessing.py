"""Preprocessing in two parts has the bits of open_clip's transform; what it does not know is left whole."""

import copy
import pickle

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform, image_transform_v2
from PIL import Image
from torchvision import transforms

from lightning_sae.clip import TextClip
from lightning_sae.clip.preprocessing import Pictures, in_two_parts, unchanged

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]
SETTINGS = {
    "bicubic": {},
    "bilinear": {"interpolation": "bilinear"},
    "squash": {"resize_mode": "squash"},
    "longest edge, filled": {"resize_mode": "longest", "fill_color": 127},
    "longest edge, bilinear": {"resize_mode": "longest", "interpolation": "bilinear"},
    "not square": {"size": (24, 40)},
    "another mean": {"mean": (0.5, 0.4, 0.3), "std": (0.5, 0.21, 0.7)},
}
MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
END = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]


def picture(width, height, mode="RGB", seed=0):
    """Smooth noise that uses the whole range."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


SIZES = [(32, 32), (90, 61), (20, 140), (300, 200), (5, 5)]
PICTURES = [picture(*size, seed=i) for i, size in enumerate(SIZES)]


def both_ways(preprocess, pictures, device="cpu"):
    prepare, finish = in_two_parts(preprocess)
    batch = torch.stack([prepare(each) for each in pictures])
    assert batch.dtype == torch.uint8
    return finish(batch.to(device)).cpu(), torch.stack([preprocess(each) for each in pictures])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_bits_are_those_of_open_clip(settings, device):
    preprocess = image_transform_v2(PreprocessCfg(**{"size": 32} | settings), is_train=False)
    found, wanted = both_ways(preprocess, PICTURES, device)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    assert found.equal(wanted)


def test_so_they_are_for_its_other_door_and_its_default_size():
    preprocess = image_transform(224, is_train=False)
    found, wanted = both_ways(preprocess, PICTURES)
    assert found.shape == (len(PICTURES), 3, 224, 224)
    assert found.equal(wanted)


@pytest.mark.parametrize("device", DEVICES)
def test_every_byte_has_the_bits_of_open_clip(device):
    """256 values of each channel: all that there are."""
    shades = [Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3))]
    preprocess = image_transform(16, is_train=False)
    found, wanted = both_ways(preprocess, shades, device)
    assert len(found[0, 0].unique()) == 256
    assert found.equal(wanted)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK"])
def test_pictures_of_another_mode(mode):
    found, wanted = both_ways(image_transform(32, is_train=False), [picture(50, 40, mode)])
    assert found.equal(wanted)


def test_a_plain_torchvision_transform_is_split_as_well():
    found, wanted = both_ways(transforms.Compose([transforms.Resize((8, 8)), *END]), PICTURES)
    assert found.equal(wanted)


@pytest.mark.parametrize(
    "preprocess",
    [
        lambda image: torch.zeros(3, 8, 8),
        transforms.Compose([transforms.Resize((8, 8)), transforms.ToTensor()]),
        transforms.Compose([*END, transforms.Resize((8, 8))]),
        transforms.Compose([transforms.Grayscale(1), transforms.ToTensor(), transforms.Normalize(0.5, 0.5)]),
    ],
    ids=["a function", "no Normalize", "a step after it", "one channel"],
)
def test_what_cannot_be_split_is_left_whole(preprocess):
    assert in_two_parts(preprocess) == (preprocess, unchanged)
    inputs = torch.rand(2, 3, 8, 8)
    assert unchanged(inputs) is inputs


def test_the_part_on_pictures_goes_to_another_process():
    prepare, _ = in_two_parts(image_transform(32, is_train=False))
    again = pickle.loads(pickle.dumps(prepare))
    assert isinstance(again, Pictures)
    assert again(PICTURES[1]).equal(prepare(PICTURES[1]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_cast_of_the_model_changes_no_pixel(clip, dtype):
    batch = clip.prepare(PICTURES[1])[None]
    assert copy.deepcopy(clip).to(dtype).finish(batch).equal(clip.preprocess(PICTURES[1])[None])


def test_texts_are_whole_before_and_after(clip):
    reader = TextClip(clip)
    ids = reader.prepare("a photo of a cat")
    assert ids.equal(clip.tokenizer(["a photo of a cat"])[0])
    assert reader.finish(ids) is ids
    assert reader.prepare(reader.blank).shape == ids.shape
    assert clip.prepare(clip.blank).shape == (*clip.image_size, 3)
