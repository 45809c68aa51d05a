"""What is done on the pretend device and on the CPU, and whether both are the same."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from pretend import DEVICE, pretend

from lightning_sae.runs.folder import RunFolder, open_run

CPU = torch.device("cpu")
PROMPTS = {name: [f"a photo of a {name}"] for name in ("star", "heart", "anchor")}


def on_both(folder, act: Callable[[RunFolder], Any], *overrides: str) -> tuple[Any, Any]:
    """What is done with a run on the pretend device, and on the CPU."""
    expected = act(open_run(folder, overrides, CPU))
    with pretend():
        run = open_run(folder, overrides, DEVICE)
        found = act(run)
        assert run.sae.W_dec.device == run.data.clip.device == DEVICE
    return found, expected


def assert_near(found: Any, expected: Any) -> None:
    """Checks that numbers are close and everything else is the same, all the way down."""
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys()
        assert_near([*found.values()], [*expected.values()])
    elif isinstance(expected, Sequence) and not isinstance(expected, str):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            assert_near(*pair)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-4, nan_ok=True)
    else:
        assert found == expected
