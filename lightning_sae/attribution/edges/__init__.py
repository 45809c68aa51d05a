"""From layer to layer: which latents of an earlier layer make those of a later one, and through them a score."""
