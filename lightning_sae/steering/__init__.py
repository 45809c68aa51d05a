"""Steering: latents set or scaled while CLIP runs, what that moves as asked, and what it damages."""
