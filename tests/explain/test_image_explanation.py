"""An explanation as a notebook gets it: the numbers of `explain`, as rows, and to be looked at."""

import pandas as pd
import pytest
from PIL import Image

import lightning_sae as ls
from lightning_sae.explain.explanation import explain
from lightning_sae.world import World

PROMPTS = ["a photo of a star", "<b>umbrella</b>"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def image():
    return World("biased", "test", 10).image(3)


@pytest.fixture(params=["small_run", "small_patch_run"])
def run(request):
    return ls.open_run(request.getfixturevalue(request.param))


def test_it_has_the_numbers_of_explain(run, image, tmp_path):
    found = ls.explain_image(run, image, PROMPTS, "cosine", top=3)
    image.save(tmp_path / "image.png")
    for path in (tmp_path / "image.png", str(tmp_path / "image.png")):
        assert ls.explain_image(run, path, PROMPTS, "cosine", top=3)[0].score == found[0].score
    expected = explain(run, image, PROMPTS, "cosine", top=3)
    assert [each.prompt for each in found] == PROMPTS
    for mine, theirs in zip(found, expected, strict=True):
        pd.testing.assert_frame_equal(mine.drivers, theirs.drivers)
    table = found.to_frame()
    assert table.columns[0] == "prompt"
    assert len(table) == sum(len(each.drivers) for each in expected)
    assert table["attribution"].tolist() == [a for each in expected for a in each.drivers["attribution"]]
    assert repr(found).startswith("ImageExplanation('a photo of a star': cosine ")


def test_transparent_places_are_those_of_the_data(run, image):
    over = image.convert("RGBA")
    over.putalpha(Image.new("L", image.size, 0))
    white = Image.new("RGB", image.size, "white")
    scores = [ls.explain_image(run, each, "a star")[0].score for each in (over, white)]
    assert scores[0] == scores[1]


def test_it_shows_itself(run, image):
    page = ls.explain_image(run, image, PROMPTS, top=2)._repr_html_()
    assert "&lt;b&gt;umbrella&lt;/b&gt;" in page
    assert "<b>umbrella" not in page
    maps = page.count("where it drives the score")
    assert maps == (4 if run.data.hook.tokens == "patch" else 0)
    assert page.count("scale of the colours") == 2
    assert page.count('alt="top image"') > 0
