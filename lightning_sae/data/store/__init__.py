"""The store of activations on the disk."""
