"""One image and a few prompts: which latents drive the score."""
