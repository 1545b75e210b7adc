"""Imports what Telegram Desktop exports: reads the file, folds messages into turns, writes them."""
