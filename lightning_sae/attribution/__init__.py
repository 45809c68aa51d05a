"""HOW: what each latent contributes to a score, and what happens without it."""
