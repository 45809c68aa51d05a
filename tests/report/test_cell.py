"""What shows in a notebook: nothing of a stranger's is markup, and nothing outside the cell changes."""

from html.parser import HTMLParser

import pandas as pd
import pytest
import torch
from PIL import Image

from lightning_sae.report.cell import within
from lightning_sae.report.overlay import colour_scale, overlay
from lightning_sae.report.palette import LOWERS, RAISES
from lightning_sae.runs.latent import Latent

EVIL = '</style></div><script>alert(1)</script><img src=x onerror="alert(2)">{{ 7 * 7 }}\u202e'


class Tags(HTMLParser):
    """The tags of a page with their attributes, and what is written between them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


def test_texts_of_strangers_are_texts():
    row = pd.Series(
        {"label": EVIL, "named": True, "density": 0.5, "attribution_class": EVIL, "attribution": 1}
    )
    page = Latent(3, row, [Image.new("RGB", (9, 9)), EVIL])._repr_html_()
    read = Tags(page)
    assert {tag for tag, _ in read.tags} == {"div", "style", "p", "bdi", "img", "ul", "li"}
    assert not any("onerror" in attributes for _, attributes in read.tags)
    said = EVIL.replace("\u202e", "\N{REPLACEMENT CHARACTER}")
    assert sum(said in text for text in read.texts) == 3  # as name, as class and as example


def test_a_style_holds_within_the_cell_alone():
    style = ":root { --ink: red } body { margin: 0 }\n.body { x: y } tbody { z: 0 }"
    assert within(f"{style} @media print {{ html {{ a: b }} }}") == (
        ".lightning-sae {\n& { --ink: red } & { margin: 0 }\n.body { x: y } tbody { z: 0 } "
        "@media print { & { a: b } }\n}"
    )


def test_colours_and_their_scale_are_the_same():
    scale = colour_scale(101, 4)
    values = torch.linspace(-1, 1, 101)
    for place in (0, 20, 50, 75, 100):
        shown = overlay(Image.new("RGB", (4, 4), "white"), values[place].view(1, 1), 4).getpixel((1, 1))
        assert shown == pytest.approx(scale.getpixel((place, 1)), abs=3)
    assert scale.getpixel((50, 0)) == (255, 255, 255)
    ends = ["#{:02x}{:02x}{:02x}".format(*scale.getpixel((x, 0))) for x in (0, 100)]
    assert ends == [LOWERS, RAISES]
