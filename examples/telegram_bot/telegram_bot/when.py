"""Moments as one says them in Spanish, read and told.

What is understood, whatever the accents and capitals:

- `en 20 minutos`, `en 2 horas`, `en 3 días`: up to 999;
- a day and an hour: `hoy`, `mañana`, `pasado mañana`, `el lunes` (the next one after today), `el 24/12` (the next
  one), `el 24/12/2026`, each with `a las 10`, `a la 1`, `a las 18:30`, `a las 8 de la tarde`;
- an hour alone: the next time that it is that late.

Nothing else is. An hour that a clock change leaves out is the one that the clock then shows.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from telegram_bot.spelling import plain

__all__ = ["Found", "NoSuchMomentError", "find", "tell"]

_WEEKDAYS = ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo")
_DAYS = {"hoy": 0, "manana": 1, "pasado manana": 2}

_WHEN = rf"""(?x:
    en\ (?P<count>[1-9]\d{{0,2}})\ (?P<unit>minuto|hora|dia)s?
  | (?:
      (?: (?P<day>{"|".join(_DAYS).replace(" ", r"[ ]")})
        | el\ (?P<weekday>{"|".join(map(plain, _WEEKDAYS))})
        | el\ (?P<date>\d{{1,2}})/(?P<month>\d{{1,2}})(?:/(?P<year>20\d\d))?
      ),?\ )?
    a\ las?\ (?P<hour>\d{{1,2}})(?::(?P<minute>\d\d))?(?:\ de\ la\ (?P<part>manana|tarde|noche))?
)"""
_FIRST = re.compile(rf"{_WHEN}(?=\s|[,.:](?!\d)|$)")
_LAST = re.compile(rf"(?:^|(?<=\s)){_WHEN}[.!]?$")


class NoSuchMomentError(ValueError):
    """What was said has the form of a moment, but there is none, or it is over; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Found:
    """A moment, in UTC, and the text around it."""

    moment: datetime
    rest: str


def find(text: str, now: datetime) -> Found | None:
    """The moment with which the text begins or ends, in the timezone of `now`; `None` when there is none."""
    typed = " ".join(text.split())
    folded = plain(typed)
    match = _FIRST.match(folded) or _LAST.search(folded)
    if match is None:
        return None
    rest = typed[: match.start()] + typed[match.end() :]
    return Found(_moment(match.groupdict(), now), rest.strip(" ,.:"))


def tell(moment: datetime, now: datetime) -> str:
    """The moment as one says it, in the timezone of `now`."""
    local = moment.astimezone(now.tzinfo)
    if (near := (local.date() - now.date()).days) in (0, 1):
        return f"{('hoy', 'mañana')[near]} a las {local:%H:%M}"
    year = f"/{local.year}" if local.year != now.year else ""
    return f"el {_WEEKDAYS[local.weekday()]} {local.day}/{local.month}{year} a las {local:%H:%M}"


def _moment(said: dict[str, str | None], now: datetime) -> datetime:
    if said["count"]:
        return _after(int(said["count"]), said["unit"], now)
    at = _time(int(said["hour"] or 0), int(said["minute"] or 0), said["part"])
    for day in _candidates(said, now.date()):
        moment = datetime.combine(day, at, now.tzinfo).astimezone(UTC)
        if moment > now:
            return moment
    raise NoSuchMomentError("Eso ya ha pasado.")


def _after(count: int, unit: str | None, now: datetime) -> datetime:
    if unit == "dia":
        return (now + timedelta(days=count)).astimezone(UTC)  # at the same hour, whatever the clocks do
    return now.astimezone(UTC) + (timedelta(hours=count) if unit == "hora" else timedelta(minutes=count))


def _time(hour: int, minute: int, part: str | None) -> time:
    hours = {None: range(24), "manana": range(1, 13), "tarde": (*range(1, 9), 12), "noche": range(8, 12)}
    if hour not in hours[part] or minute not in range(60):
        raise NoSuchMomentError("No entiendo esa hora.")
    return time(hour % 12 + 12 if part in ("tarde", "noche") else hour, minute)


def _candidates(said: dict[str, str | None], today: date) -> list[date]:
    """The days that may be meant, of which the first on which the hour is still to come is."""
    if said["day"]:
        return [today + timedelta(days=_DAYS[said["day"]])]
    if said["weekday"]:
        away = [plain(name) for name in _WEEKDAYS].index(said["weekday"]) - today.weekday()
        return [today + timedelta(days=away % 7 or 7)]
    if said["date"] and said["month"]:
        years = [int(said["year"])] if said["year"] else [today.year, today.year + 1]
        return _dates(years, int(said["month"]), int(said["date"]))
    return [today, today + timedelta(days=1)]


def _dates(years: list[int], month: int, day: int) -> list[date]:
    existing = []
    for year in years:
        with suppress(ValueError):
            existing.append(date(year, month, day))
    if not existing:
        raise NoSuchMomentError("Esa fecha no existe.")
    return existing
