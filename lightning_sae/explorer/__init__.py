"""The explorer of a run: one page, `report.html`, or the same with a server that answers it."""

from lightning_sae.explorer.page import FILE, write_page
from lightning_sae.explorer.terminal import print_page

__all__ = ["FILE", "print_page", "write_page"]
