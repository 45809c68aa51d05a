"""What comes from others, and from users: read without running it, with faults named, shown without obeying it."""
