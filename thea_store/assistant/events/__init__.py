"""A user's calendar."""
