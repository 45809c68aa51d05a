"""What trackers and tables are told of a run."""
