"""The devices that models run on, and their memory."""
