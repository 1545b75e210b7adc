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
    from thea_store.assistant.work import (
        Reminder,
        inactivity_worker,
        reminder_worker,
        retention_worker,
        statistics_worker,
    )
    from thea_store.encryption import KeyProvider
    from thea_store.errors import (
        ArchiveError,
        ConflictError,
        DuplicateError,
        EmbeddedServerError,
        EncryptionKeyError,
        ErasureRefusedError,
        ExportFileError,
        ExtensionError,
        InsufficientPrivilegeError,
        InvalidArgumentError,
        InvalidReferenceError,
        InvalidTenantError,
        IsolationError,
        MigrationError,
        MigrationRequiredError,
        NotFoundError,
        OutcomeUnknownError,
        PoolTimeoutError,
        QueryFileError,
        QueryMismatchError,
        QueryTimeoutError,
        QuotaExceededError,
        SealedTextError,
        SearchUnavailableError,
        SettingsError,
        StoreError,
        StoreUnavailableError,
        TenantEndedError,
        TenantMismatchError,
        TenantSuspendedError,
        UnknownTenantError,
        UnsafeRoleError,
        UnsafeSchemaError,
    )
    from thea_store.extensions import Aggregate, Extension
    from thea_store.postgres.values import Range, Vector
    from thea_store.queries.arguments import (
        BigInteger,
        Confidence,
        Count,
        Id,
        Integer,
        JsonContainer,
        JsonObject,
        Key,
        Limit,
        LongText,
        Milliseconds,
        Moment,
        Name,
        Number,
        Timezone,
    )
    from thea_store.queries.file import Query, SqlFile
    from thea_store.repositories.audit import AuditEntry
    from thea_store.repositories.base import Batches, Common, Page, Paging, Record, Repository, Stored, common
    from thea_store.settings import Settings
    from thea_store.store import Store, StoreTransaction
    from thea_store.telemetry import Call, JsonFormatter
    from thea_store.tenancy.directory import Tenant, TenantChanges, TenantLimits, TenantUsage
    from thea_store.tenancy.erasure import Erasure
    from thea_store.tenancy.retention import RetentionPolicy
    from thea_store.tenancy.worker import Worker, WorkReport
    from thea_store.verification.health import Health

__all__ = [
    "MARK_END",
    "MARK_START",
    "Aggregate",
    "ArchiveError",
    "AuditEntry",
    "Batches",
    "BigInteger",
    "Call",
    "Common",
    "Confidence",
    "ConflictError",
    "Conversation",
    "ConversationChanges",
    "Count",
    "DuplicateError",
    "EmbeddedServerError",
    "EncryptionKeyError",
    "Erasure",
    "ErasureRefusedError",
    "Event",
    "EventChanges",
    "EventOccurrence",
    "ExportFileError",
    "Extension",
    "ExtensionError",
    "Health",
    "Id",
    "InsufficientPrivilegeError",
    "Integer",
    "InvalidArgumentError",
    "InvalidReferenceError",
    "InvalidTenantError",
    "IsolationError",
    "JsonContainer",
    "JsonFormatter",
    "JsonObject",
    "Key",
    "KeyProvider",
    "Limit",
    "LongText",
    "Message",
    "MessageChanges",
    "MessageStatistics",
    "MigrationError",
    "MigrationRequiredError",
    "Milliseconds",
    "Moment",
    "Name",
    "NotFoundError",
    "Note",
    "NoteChanges",
    "NoteHit",
    "Number",
    "OutcomeUnknownError",
    "Page",
    "Paging",
    "PerformanceReport",
    "PoolTimeoutError",
    "Query",
    "QueryFileError",
    "QueryMismatchError",
    "QueryTimeoutError",
    "QuotaExceededError",
    "Range",
    "Record",
    "Reminder",
    "Repository",
    "RetentionPolicy",
    "SealedTextError",
    "SearchUnavailableError",
    "Settings",
    "SettingsError",
    "SqlFile",
    "Store",
    "StoreError",
    "StoreTransaction",
    "StoreUnavailableError",
    "Stored",
    "Tenant",
    "TenantChanges",
    "TenantEndedError",
    "TenantLimits",
    "TenantMismatchError",
    "TenantSuspendedError",
    "TenantUsage",
    "Timezone",
    "UnknownTenantError",
    "UnsafeRoleError",
    "UnsafeSchemaError",
    "User",
    "UserChanges",
    "UserOverview",
    "Vector",
    "WorkReport",
    "Worker",
    "__version__",
    "common",
    "inactivity_worker",
    "reminder_worker",
    "retention_worker",
    "statistics_worker",
]

__version__ = "0.1.0"

_EXPORTS = {
    "thea_store.assistant.conversations": ("Conversation", "ConversationChanges"),
    "thea_store.assistant.events.repository": ("Event", "EventChanges", "EventOccurrence"),
    "thea_store.assistant.messages": ("Message", "MessageChanges", "MessageStatistics", "PerformanceReport"),
    "thea_store.assistant.notes": ("MARK_END", "MARK_START", "Note", "NoteChanges", "NoteHit"),
    "thea_store.assistant.users": ("User", "UserChanges", "UserOverview"),
    "thea_store.assistant.work": (
        "Reminder",
        "inactivity_worker",
        "reminder_worker",
        "retention_worker",
        "statistics_worker",
    ),
    "thea_store.encryption": ("KeyProvider",),
    "thea_store.errors": (
        "ArchiveError",
        "ConflictError",
        "DuplicateError",
        "EmbeddedServerError",
        "EncryptionKeyError",
        "ErasureRefusedError",
        "ExportFileError",
        "ExtensionError",
        "InsufficientPrivilegeError",
        "InvalidArgumentError",
        "InvalidReferenceError",
        "InvalidTenantError",
        "IsolationError",
        "MigrationError",
        "MigrationRequiredError",
        "NotFoundError",
        "OutcomeUnknownError",
        "PoolTimeoutError",
        "QueryFileError",
        "QueryMismatchError",
        "QueryTimeoutError",
        "QuotaExceededError",
        "SealedTextError",
        "SearchUnavailableError",
        "SettingsError",
        "StoreError",
        "StoreUnavailableError",
        "TenantEndedError",
        "TenantMismatchError",
        "TenantSuspendedError",
        "UnknownTenantError",
        "UnsafeRoleError",
        "UnsafeSchemaError",
    ),
    "thea_store.repositories.audit": ("AuditEntry",),
    "thea_store.extensions": ("Aggregate", "Extension"),
    "thea_store.postgres.values": ("Range", "Vector"),
    "thea_store.queries.arguments": (
        "BigInteger",
        "Confidence",
        "Count",
        "Id",
        "Integer",
        "JsonContainer",
        "JsonObject",
        "Key",
        "Limit",
        "LongText",
        "Milliseconds",
        "Moment",
        "Name",
        "Number",
        "Timezone",
    ),
    "thea_store.queries.file": ("Query", "SqlFile"),
    "thea_store.repositories.base": ("Batches", "Common", "Page", "Paging", "Record", "Repository", "Stored", "common"),
    "thea_store.settings": ("Settings",),
    "thea_store.store": ("Store", "StoreTransaction"),
    "thea_store.telemetry": ("Call", "JsonFormatter"),
    "thea_store.tenancy.directory": ("Tenant", "TenantChanges", "TenantLimits", "TenantUsage"),
    "thea_store.tenancy.erasure": ("Erasure",),
    "thea_store.tenancy.retention": ("RetentionPolicy",),
    "thea_store.tenancy.worker": ("WorkReport", "Worker"),
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
