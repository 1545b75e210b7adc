"""Every error of the library, each of which says what is wrong and what to do.

No message carries row data, a parameter's value or a password. The driver's error, where there is
one, is the `__cause__`, without what of it may quote a value, such as the server's DETAIL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
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
]


_LONGEST_NAME = 100


class StoreError(Exception):
    """The base of all errors of this library."""

    repeatable = False
    """Whether surely nothing was written and the same work, all of it, may succeed at once: after a
    serialization failure, a deadlock or a connection lost before the commit."""
    refused = False
    """Whether the work was declined without having been begun, as by a full pool or beyond a limit."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Its class, sentence and attributes: some make the sentence of other arguments than itself."""
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[StoreError], arguments: tuple[object, ...]) -> StoreError:
    return kind.__new__(kind, *arguments)


class InvalidTenantError(StoreError):
    """The tenant id is not 1 to 50 characters without control characters and outer blanks."""


class UnknownTenantError(InvalidTenantError):
    """The directory has no such tenant, and `DATABASE_TENANTS=registered` lets no other one in."""


class TenantSuspendedError(StoreError):
    """The tenant is suspended, so the server refused the statement; nothing of it was done."""

    refused = True


class TenantEndedError(TenantSuspendedError):
    """The tenant has ended, so the server refused the statement; nothing of it was done."""


class QuotaExceededError(StoreError):
    """The tenant would have, or do, more than its limit allows; nothing of the statement was done.

    `limit` is the name of the limit, `allowed` its figure, and `table` the table that a limit of rows is about.
    """

    refused = True

    def __init__(self, message: str, limit: str, allowed: int, table: str | None = None) -> None:
        super().__init__(message)
        self.limit, self.allowed, self.table = limit, allowed, table


class TenantMismatchError(StoreError):
    """A call inside a transaction names another tenant than the transaction's."""


class InvalidArgumentError(StoreError):
    """An argument has a wrong type or is out of bounds; raised before any input or output."""

    def __init__(self, argument: str, reason: str) -> None:
        super().__init__(f"{_legible(argument)}: {reason}")
        self.argument = argument
        self.reason = reason


def _legible(name: str) -> str:
    """A name that a caller made up, as one short line of a log."""
    return name if name.isprintable() and len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]!a}…"


class SettingsError(InvalidArgumentError):
    """A setting is missing or malformed; the message names its environment variable."""


class NotFoundError(StoreError):
    """This tenant has no such row, or it was deleted."""


class DuplicateError(StoreError):
    """A row with the same key exists; `fields` are the columns of that key, without the tenant."""

    def __init__(self, message: str, fields: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.fields = tuple(fields)


class InvalidReferenceError(StoreError):
    """A parent row does not exist for this tenant, or was deleted."""


class ConflictError(StoreError):
    """Another writer was first: the state is no longer the expected one."""


class ErasureRefusedError(StoreError):
    """Rows of other people would go with a person's; nothing was removed."""


class EncryptionKeyError(StoreError):
    """A tenant's texts are encrypted, and the key for them is missing or a wrong one; nothing was written."""


class SealedTextError(StoreError):
    """A sealed text does not open: it was altered, or moved there from another row, column, table or tenant."""


class SearchUnavailableError(StoreError):
    """The tenant's notes are encrypted, so nobody can search their words."""


class PoolTimeoutError(StoreError):
    """No connection became free within `DATABASE_POOL_TIMEOUT` seconds."""

    refused = True


class QueryTimeoutError(StoreError):
    """A statement ran into `DATABASE_COMMAND_TIMEOUT`; the server cancelled it, nothing was written."""


class StoreUnavailableError(StoreError):
    """The server cannot be reached, after the bounded retries; surely nothing was written."""


class OutcomeUnknownError(StoreError):
    """The connection broke or timed out while a write was being committed; it may or may not be there."""


class InsufficientPrivilegeError(StoreError):
    """The login is not in the group that may do this; the message says which one may."""


class MigrationRequiredError(StoreError):
    """The database's schema lacks migrations; `pending` are their names."""

    def __init__(self, message: str, pending: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.pending = tuple(pending)


class MigrationError(StoreError):
    """A migration was refused or failed; nothing of it was applied."""


class UnsafeRoleError(StoreError):
    """The login could bypass row security."""


class UnsafeSchemaError(StoreError):
    """A table of an extension does not keep tenants apart; `lacks` has one sentence for each lack, with its fix."""

    def __init__(self, lacks: Sequence[str]) -> None:
        lines = "\n".join(f"  {lack}" for lack in lacks)
        super().__init__(f"{len(lacks)} lack(s) of tables that must keep tenants apart:\n{lines}")
        self.lacks = tuple(lacks)


class IsolationError(StoreError):
    """An extension does not keep tenants apart; `report` says where, and what to do."""

    def __init__(self, report: Any) -> None:
        lines = "\n".join(f"  {sentence}" for sentence in report.sentences())
        super().__init__(f"{len(report.faults)} fault(s) of isolation:\n{lines}")
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        """Made anew of its report, which is the only argument."""
        return type(self), (self.report,)


class ExtensionError(StoreError):
    """An extension is not what it must be, cannot be imported, or has the name of another one."""


class QueryFileError(StoreError):
    """An SQL file is malformed, or its queries and the code that claims them differ (`file:line`)."""


class QueryMismatchError(StoreError):
    """Queries do not fit the live schema; `mismatches` has one `file:line: sentence` for each."""

    def __init__(self, mismatches: Sequence[str]) -> None:
        lines = "\n".join(f"  {mismatch}" for mismatch in mismatches)
        super().__init__(
            f"{len(mismatches)} mismatch(es) between the SQL files and this database:\n{lines}\n"
            "Run `thea-store migrate` with the version of the library that the service uses."
        )
        self.mismatches = tuple(mismatches)


class EmbeddedServerError(StoreError):
    """The embedded PostgreSQL could not be installed, started or stopped."""


class ExportFileError(StoreError):
    """A chat export cannot be read (any further); the message names the place."""


class ArchiveError(StoreError):
    """A tenant's archive was cut off or altered, or is of another version or another tenant than it should be."""
