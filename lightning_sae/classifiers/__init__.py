"""WHOSE SCORE: classifiers on CLIP's embeddings, and their scores."""
