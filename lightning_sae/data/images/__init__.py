"""Images: what a set of them offers, their files, and how these are decoded."""
