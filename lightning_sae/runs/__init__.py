"""What a training left in its folder, read again."""
