"""A configuration, as trackers are told of it."""

import pytest

CLIP = {"_target_": "f", "model": "B", "pretrained": {"_target_": "g", "edition": "biased"}}
CONFIGS = {
    "clip": CLIP,
    "data": {"_target_": "h", "clip": CLIP, "n": 3},
    "callbacks": {"faithfulness": {"methods": {"random": {"_target_": "i"}}}},
    "logger": {"csv": {"_target_": "j"}},
    "seed": 0,
}


@pytest.fixture
def config():
    return CONFIGS
