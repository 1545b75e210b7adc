"""The data layer of a multi-tenant assistant on PostgreSQL: SQL in files, records in Pydantic, no ORM."""

from thea_store.assistant.conversations import Conversation
from thea_store.assistant.events.repository import Event, EventOccurrence
from thea_store.assistant.messages import Message, MessageStatistics, PerformanceReport
from thea_store.assistant.notes import Note, NoteHit
from thea_store.assistant.users import User, UserOverview
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
    "AuditEntry",
    "ConflictError",
    "Conversation",
    "DuplicateError",
    "EmbeddedServerError",
    "Event",
    "EventOccurrence",
    "ExportFileError",
    "Health",
    "InvalidArgumentError",
    "InvalidReferenceError",
    "InvalidTenantError",
    "Message",
    "MessageStatistics",
    "MigrationError",
    "MigrationRequiredError",
    "NotFoundError",
    "Note",
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
    "UserOverview",
    "__version__",
]

__version__ = "0.1.0"
