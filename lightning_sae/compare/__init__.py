"""Runs side by side, from their folders alone."""

from lightning_sae.compare.comparison import Comparison, compare
from lightning_sae.compare.files import write

__all__ = ["Comparison", "compare", "write"]
