"""Recurrence rules (RFC 5545, section 3.3.10), read strictly into numbers.

A rule is read more strictly than the RFC asks: no frequency below DAILY, COUNT and INTERVAL up to 1000, up
to 24 times a day, up to 512 ASCII characters. The calendars of people need no more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import lru_cache
from math import prod
from types import MappingProxyType

__all__ = ["CLOCK", "WEEKDAYS", "Rule", "at_second", "parse", "refuse_blanks", "stamp", "weeks"]

_LONGEST, _MOST, _TIMES_A_DAY = 512, 1000, 24
_FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
CLOCK = ("BYHOUR", "BYMINUTE", "BYSECOND")
"""The parts that say at what time of the day."""

# The lowest number of a part, and the highest; where the lowest is negative, there is no 0.
_NUMBERS = {
    "BYMONTH": (1, 12),
    "BYWEEKNO": (-53, 53),
    "BYYEARDAY": (-366, 366),
    "BYMONTHDAY": (-31, 31),
    "BYHOUR": (0, 23),
    "BYMINUTE": (0, 59),
    "BYSECOND": (0, 59),
    "BYSETPOS": (-366, 366),
}
_DAY = re.compile(r"([+-]?(?!0+[A-Z])[0-9]{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
_NUMBER = re.compile(r"[+-]?[0-9]{1,3}")
_STAMP = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(?:T([0-9]{2})([0-9]{2})([0-9]{2})(Z?))?")


# FREQ first, as the RFC advises; the BY parts in the order in which the RFC applies them.
_ORDER = (
    *("FREQ", "INTERVAL", "COUNT", "UNTIL", "BYMONTH", "BYWEEKNO", "BYYEARDAY", "BYMONTHDAY", "BYDAY"),
    *("BYHOUR", "BYMINUTE", "BYSECOND", "BYSETPOS", "WKST"),
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule in numbers; `numbers` holds the BY parts, weekdays count from Monday, 0."""

    frequency: str
    interval: int
    count: int | None
    until: datetime | None
    """In UTC, or local and naive; the last microsecond where the rule gives a date."""
    week_start: int
    days: tuple[tuple[int, int], ...]
    """Which one of the period (0: all of them), and the weekday."""
    numbers: Mapping[str, tuple[int, ...]]

    def __str__(self) -> str:
        """The rule in its one spelling: what has a default is left out, the parts stand in a fixed order."""
        days = ",".join(f"{number or ''}{WEEKDAYS[day]}" for number, day in self.days)
        parts = {name: ",".join(map(str, numbers)) for name, numbers in self.numbers.items()} | {"BYDAY": days}
        parts |= {
            "FREQ": self.frequency,
            "INTERVAL": str(self.interval) if self.interval > 1 else "",
            "COUNT": str(self.count or ""),
            "UNTIL": _until_text(self.until) if self.until else "",
            "WKST": WEEKDAYS[self.week_start] if self.week_start else "",
        }
        return ";".join(f"{name}={parts[name]}" for name in _ORDER if parts.get(name))


@lru_cache(maxsize=1024)
def parse(text: str) -> Rule:
    """The rule in this text, which may begin with `RRULE:`; ValueError says what is wrong with it."""
    parts = _parts(text)
    if (frequency := parts.pop("FREQ", None)) not in _FREQUENCIES:
        raise ValueError("needs FREQ=DAILY, WEEKLY, MONTHLY or YEARLY")
    if "COUNT" in parts and "UNTIL" in parts:
        raise ValueError("has COUNT and UNTIL, of which a rule may have one")
    rule = Rule(
        frequency=frequency,
        interval=_amount(parts, "INTERVAL") or 1,
        count=_amount(parts, "COUNT"),
        until=_until(parts.pop("UNTIL", None)),
        week_start=_week_start(parts.pop("WKST", "MO")),
        days=_days(parts.pop("BYDAY", None)),
        numbers=MappingProxyType({name: _numbers(name, parts.pop(name)) for name in _NUMBERS if name in parts}),
    )
    if parts:
        raise ValueError("has a part that RFC 5545 does not know")
    _check_together(rule)
    return rule


def _parts(text: str) -> dict[str, str]:
    if len(text) > _LONGEST or not text.isascii():
        raise ValueError(f"must have up to {_LONGEST} characters, all of them ASCII")
    refuse_blanks(text)
    parts: dict[str, str] = {}
    # Some programs end the last part with a semicolon too.
    for part in text.upper().removeprefix("RRULE:").removesuffix(";").split(";"):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise ValueError("must be parts NAME=VALUE with a semicolon in between")
        if name in parts:
            raise ValueError("has a part twice")
        parts[name] = value
    return parts


def refuse_blanks(text: str) -> None:
    """ValueError for a blank, a tab or a line end, of which the RFC has none within a rule or a list of dates."""
    if "\r" in text:
        raise ValueError("has a line that ends with a carriage return alone, instead of with a line feed")
    if any(character.isspace() for character in text):
        raise ValueError("has a blank, of which there may be none")


def _amount(parts: dict[str, str], name: str) -> int | None:
    if (value := parts.pop(name, None)) is None:
        return None
    if not re.fullmatch(r"[0-9]{1,4}", value) or not 1 <= int(value) <= _MOST:
        raise ValueError(f"needs a number from 1 to {_MOST} in {name}")
    return int(value)


def _until(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        until = stamp(value)
    except ValueError:
        raise ValueError("needs a date or a time such as 20301231T225959Z in UNTIL") from None
    return until if isinstance(until, datetime) else datetime.combine(until, time.max)


def _until_text(until: datetime) -> str:
    return f"{until.year:04}{until:%m%d}" if until.time() == time.max else at_second(until)


def stamp(text: str) -> datetime | date:
    """A date, a local time (naive) or a time in UTC, as the RFC writes them; ValueError."""
    match = _STAMP.fullmatch(text)
    if not match:
        raise ValueError("needs dates such as 20301231 or times such as 20301231T225959Z")
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    if match[4] is None:
        return date(year, month, day)
    return datetime(
        year, month, day, int(match[4]), int(match[5]), int(match[6]), tzinfo=UTC if match[7] else None
    )  # fmt: skip


def at_second(moment: datetime) -> str:
    """The moment, in UTC or local and naive, as the RFC writes it."""
    return f"{moment.year:04}{moment:%m%dT%H%M%S}{'Z' if moment.tzinfo else ''}"


def _week_start(value: str) -> int:
    if value not in WEEKDAYS:
        raise ValueError("needs a weekday such as MO in WKST")
    return WEEKDAYS.index(value)


def _days(value: str | None) -> tuple[tuple[int, int], ...]:
    if value is None:
        return ()
    matches = [_DAY.fullmatch(item) for item in value.split(",")]
    if not all(matches):
        raise ValueError("needs weekdays such as MO or -1FR in BYDAY")
    return tuple(sorted({(int(match[1] or 0), WEEKDAYS.index(match[2])) for match in matches if match}))


def _numbers(name: str, value: str) -> tuple[int, ...]:
    low, high = _NUMBERS[name]
    items = value.split(",")
    if all(_NUMBER.fullmatch(item) for item in items):
        numbers = {int(item) for item in items}
        if all(low <= number <= high and (number or low == 0) for number in numbers):
            return tuple(sorted(numbers))
    raise ValueError(f"needs numbers from {low} to {high}{'' if low >= 0 else ' without 0'} in {name}")


def _check_together(rule: Rule) -> None:
    frequency, numbers = rule.frequency, rule.numbers
    for name in ("BYWEEKNO", "BYYEARDAY"):
        if name in numbers and frequency != "YEARLY":
            raise ValueError(f"may have {name} only with FREQ=YEARLY")
    if "BYMONTHDAY" in numbers and frequency == "WEEKLY":
        raise ValueError("may not have BYMONTHDAY with FREQ=WEEKLY")
    if "BYSETPOS" in numbers and not rule.days and len(numbers) == 1:
        raise ValueError("may have BYSETPOS only with another BY part")
    if prod(len(numbers.get(name, "1")) for name in CLOCK) > _TIMES_A_DAY:
        raise ValueError(f"may fire up to {_TIMES_A_DAY} times a day")
    if highest := max((abs(number) for number, _ in rule.days), default=0):
        if frequency not in {"MONTHLY", "YEARLY"} or "BYWEEKNO" in numbers:
            raise ValueError("may number the weekdays of BYDAY only with FREQ=MONTHLY, or with YEARLY without BYWEEKNO")
        if highest > weeks(rule):
            raise ValueError(f"may number the weekdays of BYDAY up to {weeks(rule)}")


def weeks(rule: Rule) -> int:
    """Up to which number BYDAY may count a weekday in the rule's period."""
    return 53 if rule.frequency == "YEARLY" and "BYMONTH" not in rule.numbers else 5
