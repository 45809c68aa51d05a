"""Batches from the store."""
