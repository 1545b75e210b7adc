"""Notes and reminders over HTTP, kept in thea_store."""

from notes_service.app import create_app

__all__ = ["create_app"]
