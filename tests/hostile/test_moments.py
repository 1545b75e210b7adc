"""Every time that a public call takes has bounds, and may be of a subclass of datetime with a mind of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, NoReturn

import pytest

from tests.support.calls import CALLS, Call, prepare
from thea_store import InvalidArgumentError, Store
from thea_store.queries.arguments import FIRST_MOMENT, LAST_MOMENT, Moment, check


class Peculiar(datetime):
    """A datetime whose arithmetic is not that of its class, as those of pendulum and freezegun."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("not with this one")

    __add__ = __radd__ = __sub__ = __rsub__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    astimezone = replace = isoformat = _refuse


def peculiar(moment: datetime) -> Peculiar:
    at = moment.astimezone(timezone(timedelta(hours=-5)))
    return Peculiar(
        at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond, tzinfo=at.tzinfo
    )  # fmt: skip


class Broken(tzinfo):
    """A timezone that does not work."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        raise LookupError("secret")

    tzname = dst = utcoffset  # type: ignore[assignment]


def moments(arguments: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Where the arguments have a time: the mapping that it is in, its name, and what an error calls it."""
    for place, row in enumerate(arguments.get("rows", ())):
        yield from ((row, name, f"rows[{place}].{name}") for name in row if isinstance(row[name], datetime))
    yield from ((arguments, name, name) for name in arguments if isinstance(arguments[name], datetime))


@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_a_time_at_the_ends_of_the_calendar_is_refused_by_name(store: Store, tenant: str, call: Call) -> None:
    ground = await prepare(store, tenant)
    for beyond in (
        datetime.max.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
        LAST_MOMENT.astimezone(UTC) + timedelta(microseconds=1),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    ):
        arguments = call.arguments(ground)
        for mapping, name, named in moments(arguments):
            kept, mapping[name] = mapping[name], beyond
            with pytest.raises(InvalidArgumentError) as refused:
                await call.run(store, tenant, arguments)
            mapping[name] = kept

            assert refused.value.argument == named
            assert refused.value.reason == "must be between the years 2 and 9997 in UTC"


# freezegun lists each module's names with its own class in the place of datetime.
def test_what_is_not_loaded_yet_is_not_listed() -> None:
    script = (
        "import sys, thea_store; [getattr(thea_store, name) for name in dir(thea_store)];"
        "sys.exit('thea_store.repositories.base' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_a_time_of_any_subclass_is_taken(store: Store, tenant: str, call: Call) -> None:
    ground = await prepare(store, tenant)
    arguments = call.arguments(ground)
    places = list(moments(arguments))
    if not places:
        return
    for mapping, name, _ in places:
        mapping[name] = peculiar(mapping[name])
    await call.run(store, tenant, arguments)


def test_the_ends_themselves_are_taken_and_a_moment_is_a_plain_one_in_utc() -> None:
    for moment in (FIRST_MOMENT, LAST_MOMENT, datetime(2026, 10, 25, 1, 30, 0, 5, tzinfo=UTC)):
        taken = check("at", peculiar(moment), Moment)

        assert type(taken) is datetime
        assert (taken, taken.tzinfo) == (moment, UTC)


def test_a_timezone_that_does_not_work_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="^at: ") as refused:
        check("at", datetime(2026, 1, 1, tzinfo=Broken()), Moment)

    assert "secret" not in str(refused.value)
