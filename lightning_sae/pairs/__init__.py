"""Pairs of images that differ in one thing: where they come from, and which latents respond to what."""
