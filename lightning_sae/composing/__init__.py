"""A training from Python: composed from `conf/` and run as `train.py` does."""
