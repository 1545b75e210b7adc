"""THEA's own tables: users, conversations, messages, notes and events, built on the kit as a service's own would be."""

from __future__ import annotations

from thea_store.assistant.conversations import Conversations
from thea_store.assistant.events.repository import Events
from thea_store.assistant.messages import Messages
from thea_store.assistant.notes import Notes
from thea_store.assistant.users import Users
from thea_store.extensions import Aggregate

__all__ = ["AGGREGATES"]

AGGREGATES = (
    Aggregate(Users, table="thea.users"),
    Aggregate(Conversations, table="thea.conversations"),
    Aggregate(Messages, table="thea.message_history"),
    Aggregate(Events, table="thea.events"),
    Aggregate(Notes, table="thea.notes"),
)
"""The registry of the library's own aggregates, which the store and every guard read."""
