"""Sparse autoencoders on CLIP, with interpretability tracked during training like a loss."""

__version__ = "0.1.0"
