"""CLIP over images, into the store."""
