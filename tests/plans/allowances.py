"""The queries that may read much, with the reasons: what `test_plans` found and somebody thought about."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

__all__ = ["ALLOWED", "Allowance"]


@dataclass(frozen=True, slots=True)
class Allowance:
    """Queries that may read much, and why; each of them must need it in each of the cases."""

    queries: str
    """Patterns of names, with blanks between."""
    cases: str
    """The options with which they may (see `plan_arguments.cases`), with blanks between, or `*`: whatever is given."""
    upto: Literal["tenant", "user", "sums"]
    """All rows of the tenant, or of one user; or sums of them, for a year, and the rows of some days."""
    reason: str

    def names(self, query: str) -> bool:
        """Whether it is about this query."""
        return any(fnmatchcase(query, pattern) for pattern in self.queries.split())

    def unneeded(self, cases: Collection[str]) -> list[str]:
        """The cases of it that are not among these."""
        return [pattern for pattern in self.cases.split() if not any(fnmatchcase(case, pattern) for case in cases)]

    def covers(self, query: str, case: str) -> bool:
        """Whether it is about this query, asked so."""
        return self.names(query) and any(fnmatchcase(case, pattern) for pattern in self.cases.split())


_COUNTED = "It counts or sums up what it reads."
_FILTERED = (
    "Pages are in the order of time, so a filter without an index reads on until the page is full: where few rows "
    "of the tenant pass it, all of them. An index for each would cost every write; ask for a user, whose rows are few."
)
_FILTERED_OF_USER = (
    "As the pages of the tenant, within the rows of one user: a filter reads on until the page is full, at worst all."
)

ALLOWED: tuple[Allowance, ...] = (
    Allowance(
        "people.row_ids",
        "nothing",
        "user",
        "It reads the entries of one person once, and is asked for tables alone whose rows name no person themselves.",
    ),
    Allowance(
        "*.count messages.count+intent* messages.count+created_* notes.count+category* notes.count+created_* "
        "users.count+active_since",
        "*",
        "tenant",
        _COUNTED,
    ),
    Allowance(
        "conversations.count+user_id events.count+user_id notes.count+user_id* messages.count+user_id* "
        "messages.count+conversation_id* notes.tag_counts",
        "*",
        "user",
        _COUNTED,
    ),
    Allowance("messages.count_by_day* messages.get_statistics", "*", "sums", _COUNTED),
    Allowance("messages.analyze_performance", "*", "tenant", _COUNTED),
    Allowance("messages.get_statistics_of_user", "*", "user", _COUNTED),
    Allowance("users.get_all*", "language_code everything", "tenant", _FILTERED),
    Allowance(
        "conversations.get_all conversations.get_all+after_at* conversations.get_all+newest_first",
        "current_state everything",
        "tenant",
        _FILTERED,
    ),
    Allowance("conversations.get_all+user_id*", "current_state is_active everything", "user", _FILTERED_OF_USER),
    Allowance(
        "messages.get_all+user_id+*intent* messages.get_all+conversation_id+intent*", "*", "user", _FILTERED_OF_USER
    ),
    Allowance(
        "messages.get_all+user_id+conversation_id messages.get_all+user_id+conversation_id+created_* "
        "messages.get_all+user_id+conversation_id+newest_first",
        "*",
        "user",
        "A conversation is its user's, so it may be picked out of the user's rows.",
    ),
    Allowance(
        "messages.get_all messages.get_all+created_* messages.get_all+newest_first messages.get_all+intent*",
        "message_id everything",
        "tenant",
        _FILTERED,
    ),
    Allowance(
        "messages.get_all+user_id messages.get_all+user_id+created_* messages.get_all+user_id+newest_first "
        "messages.get_all+conversation_id messages.get_all+conversation_id+created_* "
        "messages.get_all+conversation_id+newest_first",
        "message_id everything",
        "user",
        _FILTERED_OF_USER,
    ),
    Allowance(
        "events.get_all events.get_all+after_at* events.get_all+newest_first",
        "event_type category everything",
        "tenant",
        _FILTERED,
    ),
    Allowance("events.get_all events.get_all+after_at*", "starts_from", "tenant", _FILTERED),
    Allowance("events.get_all+user_id*", "event_type category everything", "user", _FILTERED_OF_USER),
    Allowance("events.get_all+user_id events.get_all+user_id+after_at*", "starts_from", "user", _FILTERED_OF_USER),
    Allowance(
        "notes.get_all notes.get_all+created_* notes.get_all+newest_first", "tags everything", "tenant", _FILTERED
    ),
    Allowance("notes.get_all+category*", "*", "tenant", _FILTERED),
    Allowance(
        "notes.get_all+user_id notes.get_all+user_id+created_* notes.get_all+user_id+newest_first",
        "tags everything",
        "user",
        _FILTERED_OF_USER,
    ),
    Allowance(
        "notes.get_all+user_id notes.get_all+user_id+newest_first notes.get_all+user_id+created_from "
        "notes.get_all+user_id+created_from+newest_first notes.get_all+user_id+created_before "
        "notes.get_all+user_id+created_before+newest_first",
        "is_pinned",
        "user",
        _FILTERED_OF_USER,
    ),
    Allowance("audit.get_all audit.get_all+after_at", "table", "tenant", _FILTERED),
    Allowance(
        "users.update",
        "nothing",
        "user",
        "Another timezone moves the user's events of whole days, so all of their events are looked at.",
    ),
    Allowance(
        "users.purge users.delete",
        "nothing",
        "user",
        "Messages hang on a user twice, also through conversations: what one key removed or hid the other meets again.",
    ),
    Allowance(
        "messages.prune",
        "nothing",
        "user",
        "It counts off the newest messages, as many as are to stay, and returns none of them.",
    ),
    Allowance(
        "messages.find_answers",
        "nothing",
        "user",
        "Asked once for each chat of an export: the messages of the chat are looked through, for no index has answers.",
    ),
    Allowance(
        "events.get_by_location",
        "nothing",
        "user",
        "A part of a text, whatever its case, is looked for in all events of the user: no index serves that under row "
        "security.",
    ),
    Allowance(
        "notes.search",
        "nothing",
        "user",
        "All notes of the user that answer are ranked to find the best; the index leads to no others.",
    ),
)
