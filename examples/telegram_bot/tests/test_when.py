from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from telegram_bot.when import NoSuchMomentError, find, tell

MADRID = ZoneInfo("Europe/Madrid")
NOW = datetime(2026, 11, 23, 18, 0, tzinfo=MADRID)  # a Monday


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("en 20 minutos", "2026-11-23T17:20Z"),
        ("en 1 hora", "2026-11-23T18:00Z"),
        ("en 3 días", "2026-11-26T17:00Z"),
        ("hoy a las 18:30", "2026-11-23T17:30Z"),
        ("mañana a las 10", "2026-11-24T09:00Z"),
        ("MANANA A LAS 10", "2026-11-24T09:00Z"),
        ("pasado mañana a la 1", "2026-11-25T00:00Z"),
        ("mañana a las 8 de la tarde", "2026-11-24T19:00Z"),
        ("mañana a las 12 de la tarde", "2026-11-24T11:00Z"),
        ("mañana a las 10 de la noche", "2026-11-24T21:00Z"),
        ("mañana a las 8 de la mañana", "2026-11-24T07:00Z"),
        ("el lunes a las 10", "2026-11-30T09:00Z"),
        ("el martes, a las 10", "2026-11-24T09:00Z"),
        ("el miercoles a las 10", "2026-11-25T09:00Z"),
        ("el domingo a las 23:59", "2026-11-29T22:59Z"),
        ("el 24/12 a las 10", "2026-12-24T09:00Z"),
        ("el 22/11 a las 10", "2027-11-22T09:00Z"),
        ("el 1/7/2027 a las 10", "2027-07-01T08:00Z"),
        ("a las 18:30", "2026-11-23T17:30Z"),
        ("a las 10", "2026-11-24T09:00Z"),
    ],
)
def test_the_documented_forms_are_moments_in_the_users_timezone(text: str, moment: str) -> None:
    found = find(text, NOW)

    assert found is not None
    assert found.moment == datetime.fromisoformat(moment)
    assert found.rest == ""


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("mañana a las 10 llamar al dentista", "llamar al dentista"),
        ("mañana a las 10: llamar al dentista", "llamar al dentista"),
        ("llamar al dentista mañana a las 10", "llamar al dentista"),
        ("llamar al  dentista, mañana a las 10.", "llamar al dentista"),
        ("mañana a las 10:30 hablar de las 11", "hablar de las 11"),
        ("Ñandú y camión en 2 horas", "Ñandú y camión"),
        ("de mañana a las 10", "de"),
    ],
)
def test_what_stands_around_a_moment_is_left(text: str, rest: str) -> None:
    found = find(text, NOW)

    assert found is not None
    assert found.rest == rest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mañana",
        "llamar a las 3 hermanas",
        "a las 10.30",
        "a las diez",
        "en 0 minutos",
        "en 1000 días",
    ],
)
def test_nothing_else_is_a_moment(text: str) -> None:
    assert find(text, NOW) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hoy a las 8", "Eso ya ha pasado."),
        ("hoy a las 18", "Eso ya ha pasado."),
        ("el 1/7/2020 a las 10", "Eso ya ha pasado."),
        ("el 31/2 a las 10", "Esa fecha no existe."),
        ("mañana a las 25", "No entiendo esa hora."),
        ("mañana a las 10:75", "No entiendo esa hora."),
        ("mañana a las 10 de la tarde", "No entiendo esa hora."),
    ],
)
def test_what_cannot_be_is_said_to_be_so(text: str, reason: str) -> None:
    with pytest.raises(NoSuchMomentError, match=reason):
        find(text, NOW)


def test_a_day_that_this_year_lacks_is_that_of_the_next() -> None:
    found = find("el 29/2 a las 10", datetime(2027, 6, 1, tzinfo=MADRID))

    assert found is not None
    assert found.moment.date().isoformat() == "2028-02-29"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mañana a las 10", "mañana a las 10:00"),  # 23 hours long, that night
        ("mañana a las 2:30", "mañana a las 03:30"),  # left out by the clocks
        ("en 12 horas", "mañana a las 07:00"),  # 12 hours, whatever the clocks say
        ("en 1 día", "mañana a las 18:00"),
    ],
)
def test_across_a_clock_change_a_moment_is_where_the_clock_shows_it(text: str, told: str) -> None:
    now = datetime(2027, 3, 27, 18, 0, tzinfo=MADRID)
    found = find(text, now)

    assert found is not None
    assert tell(found.moment, now) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hoy a las 18:05", "hoy a las 18:05"),
        ("el sábado a las 9", "el sábado 28/11 a las 09:00"),
        ("el 3/2 a las 9", "el miércoles 3/2/2027 a las 09:00"),
    ],
)
def test_a_moment_is_told_with_as_much_as_is_needed(text: str, told: str) -> None:
    found = find(text, NOW)

    assert found is not None
    assert tell(found.moment, NOW) == told
