"""The common parts of HTML pages and notebook cells: nothing is fetched, and every text is escaped."""

from lightning_sae.report.cell import render_cell
from lightning_sae.report.page import render
from lightning_sae.report.text import compact, percent, plain
from lightning_sae.report.uris import data_uri, picture_uri, png_uri, webp_uri

__all__ = [
    "compact",
    "data_uri",
    "percent",
    "picture_uri",
    "plain",
    "png_uri",
    "render",
    "render_cell",
    "webp_uri",
]
