"""From layer to layer: which latents make those of a later layer, and through them a score."""
