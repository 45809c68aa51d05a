"""Names for latents that the vocabulary has no word for: proposals with evidence, and names carried over."""
