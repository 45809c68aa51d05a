"""A text of a user never steers a terminal: it is seen there."""

from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from callbacks.summary import culprit_table
from lightning_sae.compare.runs import Run
from lightning_sae.compare.table import run_table, terminal
from lightning_sae.data.images.class_names import readable
from lightning_sae.data.images.image_set import listed
from lightning_sae.errors import one_line_errors
from lightning_sae.explain.explanation import PromptExplanation
from lightning_sae.explain.terminal import driver_table
from lightning_sae.progress import progress
from lightning_sae.tracking.values import goal
from lightning_sae.trust.control_characters import escape, visible

EVIL = "cat\x1b[2J\x9b31m\r\x07\t\n\u202edog\u2028"
INVISIBLE = [
    *(0xAD, 0x34F, 0x61C, 0x180E, 0x200B, 0x200C, 0x200D, 0x200E, 0x202E, 0x2060, 0x2066, 0x3164, 0xFE0F),
    0xFEFF,
]
SEEN = r"cat\x1b[2J\x9b31m\r\x07\t\n\u202edog\u2028"


def printed(renderable):
    file = StringIO()
    Console(file=file, width=200, force_terminal=False).print(renderable)
    return file.getvalue()


def check(said):
    assert SEEN in said
    assert visible(said, keep="\n") == said


def test_what_steers_is_written_out_and_all_else_stays():
    assert visible(EVIL) == SEEN
    assert visible("\udcff.png") == r"\udcff.png"  # a file name that is no UTF-8
    assert escape(f"[red]{EVIL}") == r"\[red]" + SEEN
    plain = "Füße, 日本, 👩‍🚀, ❤️‍🔥, שלום, a\\b, [red]"
    assert visible(plain) == plain
    assert visible("a\n\tb", keep="\n") == "a\n\\tb"


@pytest.mark.parametrize("code", INVISIBLE)
def test_what_nobody_sees_is_written_out_and_is_no_part_of_a_name(code):
    assert visible(f"st{chr(code)}ar") == rf"st\u{code:04x}ar".replace(r"\u00", r"\x")
    assert readable(f"st{chr(code)}ar") == readable(f"star{chr(code)}") == "star"


def test_what_joins_emoji_is_a_part_of_a_name():
    assert readable("👩‍🚀") == "👩‍🚀"


def test_errors_of_commands():
    with pytest.raises(SystemExit) as caught, one_line_errors():
        raise ValueError(f"no image {EVIL}\nsecond line")
    assert visible(EVIL).replace(r"\n", "\n") in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "\nsecond line\n" in str(caught.value)


def test_lists_in_errors_and_warnings():
    check(listed([EVIL, "b.png"]))


def test_drivers_of_a_prompt():
    row = {"latent": 1, "label": EVIL, "named": True, "alignment": 0.1, "prompt_alignment": 0.1}
    row |= {"activation": 1.0, "attribution": 0.1, "effect": -0.1, "unexpected": True}
    frame = pd.DataFrame([row])
    found = PromptExplanation(EVIL, 1.0, 0.1, -0.1, frame, None)  # type: ignore[arg-type]
    check(printed(driver_table(found, "logit")))


def test_culprits_of_a_training():
    row = {"class": EVIL, "label": EVIL, "named": False, "share": 0.5, "class_share": 0.5}
    check(printed(culprit_table(pd.DataFrame([row]), 5)))


def test_runs_that_are_compared():
    runs = [Run(Path(), name) for name in ("0", EVIL)]
    for run, k in zip(runs, ("4", EVIL), strict=True):
        run.recipe, run.metrics, run.missing = {"sae.k": k}, {"val/fvu": 0.5}, []
    check(printed(terminal(run_table(runs, goal("val/fvu")), goal("val/fvu"))))


def test_titles_of_progress(capsys):
    with progress(EVIL, 1, "images") as advance:
        advance(1)
    check(capsys.readouterr().out)
