"""Saved autoencoders: folders, cards, the Hub."""
