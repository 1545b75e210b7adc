"""What is worked out of an event's row before it is stored.

Its rule in the one spelling, where its series ends, the end of an event of whole days, and the key of its location.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from thea_store.assistant.events.schedule import charge, plus
from thea_store.assistant.recurrence.budget import TooMuchWork, WorkBudget, within
from thea_store.assistant.recurrence.lines import Lines, read_lines
from thea_store.assistant.recurrence.recurrence_set import midnight, reach_of
from thea_store.assistant.recurrence.rule import CLOCK
from thea_store.assistant.recurrence.series import MARGIN
from thea_store.errors import InvalidArgumentError
from thea_store.queries.arguments import folded

__all__ = ["is_floating", "naming", "with_location_key", "worked_out"]

# Units of work (thea_store.assistant.recurrence.budget) that one call may do: about a second.
_WRITING = 20_000_000


async def worked_out(
    rows: Sequence[Mapping[str, Any]], zones: Mapping[int, str], argument: str
) -> list[dict[str, Any]]:
    """The rows as they are stored, with what follows from them; the users' timezones are needed by floating ones.

    `InvalidArgumentError` names `argument` where the rules of all rows take too long to work out.
    """

    def work_out(work: WorkBudget) -> list[dict[str, Any]]:
        ready = []
        for place, row in enumerate(rows):
            zone = zones.get(row.get("user_id", 0))
            with naming("", f"rows[{place}]."):
                row = _with_series_end(_placed_in(ZoneInfo(zone) if zone else None, row), work)  # noqa: PLW2901
            ready.append(with_location_key(row))
        return ready

    try:
        return await within(_WRITING, work_out)
    except TooMuchWork:
        reason = "the recurrence rules take too long to work out: write fewer events at once, or simpler rules"
    raise InvalidArgumentError(argument, reason)


def is_floating(row: Mapping[str, Any]) -> bool:
    """Whether what the row says of time can be understood in its user's timezone alone."""
    if row.get("all_day"):
        return True
    text = row.get("recurrence_rule")
    start = read_lines(text).start if text is not None else None
    return start is not None and (not isinstance(start, datetime) or start.tzinfo is None)


def _placed_in(zone: ZoneInfo | None, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its rule in the one spelling, and the end of an event of whole days; InvalidArgumentError.

    `zone` is `None` where it is not known; then the row is not floating, or its user does not exist.
    """
    lines = read_lines(row["recurrence_rule"]) if row.get("recurrence_rule") is not None else None
    if lines and lines.start is not None:
        _check_start(lines, row["start_datetime"], zone)
    if not row.get("all_day"):
        return dict(row) | ({"recurrence_rule": str(lines)} if lines else {})
    if zone is None:
        return dict(row)
    whole = dict(row) | {"end_datetime": _end_of_days(row, zone)}
    if lines:
        if lines.rule and lines.rule.numbers.keys() & set(CLOCK):
            reason = "may not have BYHOUR, BYMINUTE or BYSECOND, as the event is all-day"
            raise InvalidArgumentError("recurrence_rule", reason)
        whole["recurrence_rule"] = str(lines.on_days(zone))
    return whole


def _check_start(lines: Lines, start: datetime, zone: ZoneInfo | None) -> None:
    said, at = lines.start, start.replace(microsecond=0)
    if isinstance(said, datetime) and said.tzinfo:
        same = said == at
    elif zone is None:
        return
    elif isinstance(said, datetime):
        same = said.replace(tzinfo=zone).astimezone(UTC) == at
    else:
        same = said is not None and midnight(said, zone) == at
    if not same:
        raise InvalidArgumentError("recurrence_rule", "has a DTSTART that is not start_datetime")


def _end_of_days(row: Mapping[str, Any], zone: ZoneInfo) -> datetime:
    start: datetime = row["start_datetime"]
    end: datetime | None = row.get("end_datetime")
    for name, moment in (("start_datetime", start), ("end_datetime", end)):
        if moment is not None and midnight(moment.astimezone(zone).date(), zone) != moment:
            raise InvalidArgumentError(name, "must be a midnight of the user's timezone, as the event is all-day")
    if end is None:
        return midnight(start.astimezone(zone).date() + timedelta(days=1), zone)
    if end == start:
        raise InvalidArgumentError("end_datetime", "must be a later midnight than start_datetime")
    return end


def _with_series_end(row: Mapping[str, Any], work: WorkBudget) -> dict[str, Any]:
    """The row with a moment after its last occurrence; TooMuchWork, and InvalidArgumentError when it never happens."""
    text, start, end = row.get("recurrence_rule"), row["start_datetime"], row.get("end_datetime")
    charge(text, work)
    if text is None:
        return {**row, "series_end": None}
    try:
        last = reach_of(read_lines(text), start, work)
    except ValueError as error:
        raise InvalidArgumentError("recurrence_rule", str(error)) from None
    return {**row, "series_end": plus(last, end - start + MARGIN if end else timedelta()) if last else None}


def with_location_key(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row, with the key by which its location is looked for; the same row where it has no location."""
    if "location" not in row:
        return dict(row)
    location = row["location"]
    return {**row, "location_key": None if location is None else folded(location)}


@contextmanager
def naming(prefix: str, instead: str = "") -> Iterator[None]:
    """Name the caller's argument, not the parameter that it is sent in."""
    try:
        yield
    except InvalidArgumentError as error:
        name = error.argument.removeprefix(f"{prefix}.")
        raise InvalidArgumentError(f"{instead}{name}", error.reason) from error.__cause__
