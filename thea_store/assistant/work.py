"""The assistant's own kinds of work: reminders that are due, and conversations that nobody goes on with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias, TypeVar

from typing_extensions import TypedDict, Unpack

from thea_store.assistant.conversations import Conversations
from thea_store.assistant.events.records import EventOccurrence
from thea_store.assistant.events.repository import Events
from thea_store.assistant.notes import Note, Notes
from thea_store.tenancy.work import Work
from thea_store.tenancy.worker import Worker

__all__ = [
    "AssistantWork",
    "Reminder",
    "WorkerOptions",
    "inactivity_worker",
    "reminder_worker",
    "retention_worker",
    "statistics_worker",
]

# As the migration 0013.work offers them.
_DUE_REMINDERS, _DUE_NOTE_REMINDERS, _INACTIVE = "due_reminders", "due_note_reminders", "inactive_conversations"

Reminder: TypeAlias = EventOccurrence | Note
"""What somebody is to be reminded of."""


class AssistantWork(Work):
    """The tenants that have something to do now, by the server's clock. For a login in the group `thea_worker`.

    Each call returns names alone, in one order, and skips tenants that are suspended or have ended. Pages follow each
    other by `after`, the last name of the page before. Another login gets `InsufficientPrivilegeError`.
    """

    async def tenants_with_due_reminders(self, *, limit: int = 100, after: str | None = None) -> list[str]:
        """The tenants that `events.claim_due_reminders` has to look at; empty when there are none."""
        return await self.tenants_with(_DUE_REMINDERS, limit=limit, after=after)

    async def tenants_with_due_note_reminders(self, *, limit: int = 100, after: str | None = None) -> list[str]:
        """The tenants for which `notes.claim_due_reminders` finds notes; empty when there are none."""
        return await self.tenants_with(_DUE_NOTE_REMINDERS, limit=limit, after=after)

    async def tenants_with_inactive_conversations(self, *, limit: int = 100, after: str | None = None) -> list[str]:
        """The tenants in which `conversations.close_inactive_by_policy` finds something; empty when there are none."""
        return await self.tenants_with(_INACTIVE, limit=limit, after=after)


class WorkerOptions(TypedDict, total=False):
    """How a worker works; `thea_store.Worker` says what each option means."""

    concurrency: int
    pause: float
    on_error: Callable[[str | None, Exception], None] | None


class _Claims(Protocol):
    """What a transaction of a store offers to a reminders' worker."""

    @property
    def events(self) -> Events: ...
    @property
    def notes(self) -> Notes: ...


class _Closes(Protocol):
    """What a store offers to the worker that closes conversations."""

    @property
    def conversations(self) -> Conversations: ...


Tx = TypeVar("Tx", bound=_Claims)
Tx_co = TypeVar("Tx_co", bound=_Claims, covariant=True)


class _Begins(Protocol[Tx_co]):
    """A store: what begins a transaction of a tenant."""

    def transaction(self, tenant_id: str, *, actor: str | None = None) -> AbstractAsyncContextManager[Tx_co]: ...


def reminder_worker(
    work: AssistantWork,
    store: _Begins[Tx],
    handle: Callable[[Tx, Reminder], Awaitable[None]],
    **options: Unpack[WorkerOptions],
) -> Worker:
    """A worker that hands each due reminder, of events and of notes, to `handle(tx, reminder)`.

    `work` is that of a store with a worker's login, `store` one with a service's. A reminder is claimed in the
    transaction in which it is handled. When `handle` raises an error, the claim is undone, so that no reminder is
    lost: the tenant is left alone for a while, and the reminder then comes again. So `handle` should not raise for a
    reminder that can never be delivered. A reminder comes twice only if the transaction fails after `handle`.
    """

    async def find(*, limit: int, after: str | None) -> list[str]:
        return await work.tenants_with(_DUE_REMINDERS, _DUE_NOTE_REMINDERS, limit=limit, after=after)

    async def do(tenant_id: str) -> bool:
        async with store.transaction(tenant_id, actor="reminders") as tx:
            reminders: list[Reminder] = [*await tx.events.claim_due_reminders(tenant_id, limit=1)]
            reminders = reminders or [*await tx.notes.claim_due_reminders(tenant_id, limit=1)]
            for reminder in reminders:
                await handle(tx, reminder)
        return bool(reminders)

    return Worker(find, do, **options)


def inactivity_worker(work: AssistantWork, store: _Closes, **options: Unpack[WorkerOptions]) -> Worker:
    """A worker that closes conversations which were inactive for as long as their tenant's policy says.

    `work` is that of a store with a worker's login, `store` one with a service's. A piece is up to 500 conversations.
    """

    async def do(tenant_id: str) -> bool:
        return await store.conversations.close_inactive_by_policy(tenant_id) > 0

    return Worker(work.tenants_with_inactive_conversations, do, **options)


def retention_worker(work: Work, **options: Unpack[WorkerOptions]) -> Worker:
    """A worker that removes rows, and entries of the audit log, whose time is over by the policies of retention."""
    return Worker(work.tenants_with_expired_rows, work.expire, **options)


def statistics_worker(work: Work, **options: Unpack[WorkerOptions]) -> Worker:
    """A worker that counts the messages of tenants that have many, so that statistics need not read all of them."""
    return Worker(work.tenants_with_uncounted_messages, work.fold_messages, **options)
