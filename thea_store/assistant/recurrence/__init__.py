"""Recurrence rules (RFC 5545), read and expanded; nothing here knows a database."""
