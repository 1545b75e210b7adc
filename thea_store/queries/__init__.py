"""Reads SQL files into queries, and binds a call's arguments to them."""
