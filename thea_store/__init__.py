"""The data layer of a multi-tenant assistant on PostgreSQL: SQL in files, records in Pydantic, no ORM.

What is exported here is loaded when it is first asked for: every run of pytest imports the package, for its plugin.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thea_store.assistant.conversations import Conversation, ConversationChanges
    from thea_store.assistant.events.repository import Event, EventChanges, EventOccurrence
    from thea_store.assistant.messages import Message, MessageChanges, MessageStatistics, PerformanceReport
    from thea_store.assistant.notes import MARK_END, MARK_START, Note, NoteChanges, NoteHit
    from thea_store.assistant.users import User, UserChanges, UserOverview
    from thea_store.errors import (
        ConflictError,
        DuplicateError,
        EmbeddedServerError,
        ExportFileError,
        InvalidArgumentError,
        InvalidReferenceError,
        InvalidTenantError,
        MigrationError,
        MigrationRequiredError,
        NotFoundError,
        OutcomeUnknownError,
        PoolTimeoutError,
        QueryFileError,
        QueryMismatchError,
        QueryTimeoutError,
        SettingsError,
        StoreError,
        StoreUnavailableError,
        TenantMismatchError,
        UnsafeRoleError,
    )
    from thea_store.repositories.audit import AuditEntry
    from thea_store.repositories.base import Page
    from thea_store.settings import Settings
    from thea_store.store import Store, StoreTransaction
    from thea_store.verification.health import Health

__all__ = [
    "MARK_END",
    "MARK_START",
    "AuditEntry",
    "ConflictError",
    "Conversation",
    "ConversationChanges",
    "DuplicateError",
    "EmbeddedServerError",
    "Event",
    "EventChanges",
    "EventOccurrence",
    "ExportFileError",
    "Health",
    "InvalidArgumentError",
    "InvalidReferenceError",
    "InvalidTenantError",
    "Message",
    "MessageChanges",
    "MessageStatistics",
    "MigrationError",
    "MigrationRequiredError",
    "NotFoundError",
    "Note",
    "NoteChanges",
    "NoteHit",
    "OutcomeUnknownError",
    "Page",
    "PerformanceReport",
    "PoolTimeoutError",
    "QueryFileError",
    "QueryMismatchError",
    "QueryTimeoutError",
    "Settings",
    "SettingsError",
    "Store",
    "StoreError",
    "StoreTransaction",
    "StoreUnavailableError",
    "TenantMismatchError",
    "UnsafeRoleError",
    "User",
    "UserChanges",
    "UserOverview",
    "__version__",
]

__version__ = "0.1.0"

_EXPORTS = {
    "thea_store.assistant.conversations": ("Conversation", "ConversationChanges"),
    "thea_store.assistant.events.repository": ("Event", "EventChanges", "EventOccurrence"),
    "thea_store.assistant.messages": ("Message", "MessageChanges", "MessageStatistics", "PerformanceReport"),
    "thea_store.assistant.notes": ("MARK_END", "MARK_START", "Note", "NoteChanges", "NoteHit"),
    "thea_store.assistant.users": ("User", "UserChanges", "UserOverview"),
    "thea_store.errors": (
        "ConflictError",
        "DuplicateError",
        "EmbeddedServerError",
        "ExportFileError",
        "InvalidArgumentError",
        "InvalidReferenceError",
        "InvalidTenantError",
        "MigrationError",
        "MigrationRequiredError",
        "NotFoundError",
        "OutcomeUnknownError",
        "PoolTimeoutError",
        "QueryFileError",
        "QueryMismatchError",
        "QueryTimeoutError",
        "SettingsError",
        "StoreError",
        "StoreUnavailableError",
        "TenantMismatchError",
        "UnsafeRoleError",
    ),
    "thea_store.repositories.audit": ("AuditEntry",),
    "thea_store.repositories.base": ("Page",),
    "thea_store.settings": ("Settings",),
    "thea_store.store": ("Store", "StoreTransaction"),
    "thea_store.verification.health": ("Health",),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}

if not TYPE_CHECKING:  # else type checkers would take any name for an export

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value

    # There is no `__dir__` that lists what is not loaded yet. freezegun loads all that a module lists, with a class of
    # its own in the place of datetime, of which pydantic cannot make records.
