"""WHAT: what a latent encodes, how sure that is, and what it is called."""
