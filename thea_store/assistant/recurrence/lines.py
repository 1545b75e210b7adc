"""The lines that describe when an event repeats (RFC 5545, section 3.8.5): RRULE, EXDATE and RDATE.

Other programs print them in many ways. All that the RFC allows is read here, and some of what it does not: small
letters, lines that end with a line feed alone, a rule without its name. What cannot be kept is refused by its name.
What was read has one spelling, which is what is stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from thea_store.assistant.recurrence.rule import Rule, at_second, parse, refuse_blanks, stamp

__all__ = ["Dates", "Lines", "read_lines"]

_LONGEST, _MOST_DATES = 40_000, 1000
_FOLD = re.compile(r"\r?\n[ \t]")
_LINE_END = re.compile(r"\r?\n")
# The name, its parameters, and what follows the colon; a colon may stand within quotes.
_CONTENT = re.compile(
    r"(?P<name>[A-Z-]+)(?P<parameters>(?:;[A-Z0-9-]+=(?:\"[^\"]*\"|[^\":;]*))*):(?P<value>.*)", re.IGNORECASE
)
_PARAMETER = re.compile(r';(?P<name>[A-Z0-9-]+)=(?:"(?P<quoted>[^"]*)"|(?P<plain>[^":;]*))', re.IGNORECASE)
_KNOWN = ("EXRULE", "DTEND", "DURATION", "RECURRENCE-ID", "BEGIN", "END", "SUMMARY", "UID", "DTSTAMP")
_VALUES = {"DATE": "dates", "DATE-TIME": "times", "PERIOD": "periods"}


@dataclass(frozen=True, slots=True)
class Dates:
    """The values of EXDATE or RDATE lines."""

    moments: frozenset[datetime] = frozenset()
    """Times in UTC."""
    local: frozenset[datetime] = frozenset()
    """Times on the wall clock of the series' timezone, naive."""
    days: frozenset[date] = frozenset()
    """Whole days of the series' timezone."""

    def __bool__(self) -> bool:
        return bool(self.moments or self.local or self.days)

    def on_days(self, zone: tzinfo) -> Dates:
        """The days, in this timezone, of all of them."""
        moments = (moment.astimezone(zone).date() for moment in self.moments)
        return Dates(days=frozenset({*self.days, *(at.date() for at in self.local), *moments}))

    def lines(self, name: str) -> Iterable[str]:
        """One line for each kind of value there is."""
        if times := [at_second(moment) for moment in (*sorted(self.local), *sorted(self.moments))]:
            yield f"{name}:{','.join(times)}"
        if self.days:
            yield f"{name};VALUE=DATE:{','.join(f'{day.year:04}{day:%m%d}' for day in sorted(self.days))}"


@dataclass(frozen=True, slots=True)
class Lines:
    """What the lines say. Without a rule, the start of the event is the first occurrence."""

    rule: Rule | None
    excluded: Dates = Dates()
    added: Dates = Dates()
    start: datetime | date | None = None
    """What a DTSTART line says: a time in UTC, a local time, or a day. It is not kept."""

    def __str__(self) -> str:
        """The one spelling: the rule alone where there are no dates, else lines with a line feed in between."""
        if self.rule and not self.excluded and not self.added:
            return str(self.rule)
        rule = [f"RRULE:{self.rule}"] if self.rule else []
        return "\n".join([*rule, *self.excluded.lines("EXDATE"), *self.added.lines("RDATE")])

    def on_days(self, zone: tzinfo) -> Lines:
        """The same for an event that lasts whole days of this timezone: with days alone."""
        rule = self.rule
        if rule and rule.until:
            is_far = rule.until.year == date.max.year
            until = rule.until.astimezone(zone) if rule.until.tzinfo and not is_far else rule.until
            rule = replace(rule, until=datetime.combine(until.date(), time.max))
        return Lines(rule, self.excluded.on_days(zone), self.added.on_days(zone))


@lru_cache(maxsize=256)
def read_lines(text: str) -> Lines:
    """What these lines say; ValueError says what is wrong with them."""
    if len(text) > _LONGEST:
        raise ValueError(f"must have up to {_LONGEST} characters")
    reader = _Reader()
    for line in _LINE_END.split(_FOLD.sub("", text)):
        if line:
            reader.read(line)
    return reader.lines()


class _Reader:
    """Collects what the lines say, one by one."""

    def __init__(self) -> None:
        self._rule: Rule | None = None
        self._start: datetime | date | None = None
        self._dates: dict[str, set[datetime | date]] = {"EXDATE": set(), "RDATE": set()}

    def read(self, line: str) -> None:
        match = _CONTENT.fullmatch(line)
        name = match["name"].upper() if match else "RRULE"
        if name == "RRULE":
            if self._rule:
                raise ValueError("has two rules, of which an event may have one")
            self._rule = parse(f"RRULE:{match['value']}" if match else line)
        elif match and name in self._dates:
            self._dates[name] |= set(_values(match, name))
            if sum(map(len, self._dates.values())) > _MOST_DATES:
                raise ValueError(f"may have up to {_MOST_DATES} dates in EXDATE and RDATE")
        elif match and name == "DTSTART":
            (start, *more) = _values(match, name)
            if more or self._start is not None:
                raise ValueError("has more than one DTSTART")
            self._start = start
        else:
            named = f"a line {name}" if name in _KNOWN else "a line of another name"
            raise ValueError(f"has {named}: it may have RRULE, EXDATE and RDATE, and a DTSTART that is start_datetime")

    def lines(self) -> Lines:
        excluded, added = _sorted_out(self._dates["EXDATE"]), _sorted_out(self._dates["RDATE"])
        if self._rule is None and not added:
            raise ValueError("needs a rule (RRULE) or dates (RDATE)")
        return Lines(self._rule, excluded, added, self._start)


def _sorted_out(values: Iterable[datetime | date]) -> Dates:
    times = [value for value in values if isinstance(value, datetime)]
    return Dates(
        moments=frozenset(time for time in times if time.tzinfo),
        local=frozenset(time for time in times if not time.tzinfo),
        days=frozenset(value for value in values if not isinstance(value, datetime)),
    )


def _values(match: re.Match[str], name: str) -> list[datetime | date]:
    parameters = {
        parameter["name"].upper(): parameter["quoted"] or parameter["plain"] or ""
        for parameter in _PARAMETER.finditer(match["parameters"])
    }
    kind = parameters.get("VALUE", "").upper()
    if kind == "PERIOD" or kind not in {"", *_VALUES}:
        raise ValueError(f"has {_VALUES.get(kind, 'values of another kind')} in {name}, which takes dates and times")
    zone = _timezone(parameters["TZID"], name) if "TZID" in parameters else None
    refuse_blanks(match["value"])
    try:
        values = [stamp(value.upper()) for value in match["value"].split(",")]
    except ValueError:
        raise ValueError(f"needs dates such as 20301231 or times such as 20301231T225959Z in {name}") from None
    if not all(1 < value.year < date.max.year for value in values):
        raise ValueError(f"has a date in {name} that is not between the years 2 and 9998")
    if kind == "DATE" and any(isinstance(value, datetime) for value in values):
        raise ValueError(f"has a time in {name}, which says VALUE=DATE")
    return [_placed(value, zone) for value in values]


def _placed(value: datetime | date, zone: tzinfo | None) -> datetime | date:
    if zone is None or not isinstance(value, datetime) or value.tzinfo:
        return value
    return value.replace(tzinfo=zone).astimezone(UTC)


def _timezone(name: str, line: str) -> tzinfo:
    zone = _zone(name) or _zone(_by_small_letters().get(name.lower(), ""))
    if zone:
        return zone
    raise ValueError(f"has a TZID in {line} that is no timezone of the IANA database, such as Europe/Madrid")


def _zone(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # a directory's name, a path, no such timezone
        return None


@lru_cache(maxsize=1)
def _by_small_letters() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones()}
