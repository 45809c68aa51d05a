"""Where culprits come from: the latents of earlier hook points that make them."""
