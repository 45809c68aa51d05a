"""Graphs from layer to layer for people: several layers of a CLIP in columns, latents by their images."""
