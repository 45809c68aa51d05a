"""Runs side by side, from their folders alone."""

from lightning_sae.compare.report import Comparison, compare, write

__all__ = ["Comparison", "compare", "write"]
