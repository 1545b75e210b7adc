"""What is worked out of an event's row before it is stored: where its series ends, and the key of its location."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from zoneinfo import ZoneInfo

from thea_store.assistant.events.schedule import placed_in, with_series_end
from thea_store.assistant.recurrence.budget import TooMuchWork, WorkBudget, within
from thea_store.errors import InvalidArgumentError
from thea_store.queries.arguments import folded

__all__ = ["naming", "with_location_key", "worked_out"]

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
                row = with_series_end(placed_in(ZoneInfo(zone) if zone else None, row), work)  # noqa: PLW2901
            ready.append(with_location_key(row))
        return ready

    try:
        return await within(_WRITING, work_out)
    except TooMuchWork:
        reason = "the recurrence rules take too long to work out: write fewer events at once, or simpler rules"
    raise InvalidArgumentError(argument, reason)


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
