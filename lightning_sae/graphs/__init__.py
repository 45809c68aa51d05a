"""Graphs between layers for people: the layers of a CLIP as columns, the latents shown by their images."""
