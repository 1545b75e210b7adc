"""Compares a live database with what the library needs: when a store opens, and for its health."""
