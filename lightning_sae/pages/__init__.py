"""What the HTML pages have in common: one file each, nothing is fetched, every text is escaped."""

from lightning_sae.pages.page import render
from lightning_sae.pages.uris import data_uri, picture_uri, png_uri
from lightning_sae.pages.words import compact, percent, plain

__all__ = ["compact", "data_uri", "percent", "picture_uri", "plain", "png_uri", "render"]
