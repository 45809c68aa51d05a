"""What a number is where nothing was learned: dictionaries beside the trained one, and the difference."""
