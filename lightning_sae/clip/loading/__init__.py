"""Where the weights of a CLIP come from, and how they were trained."""
