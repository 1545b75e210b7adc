"""Lines RRULE, EXDATE and RDATE as other programs print them: what is read, what is refused, and what is stored."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.assistant.test_recurrence import rules, text_of
from tests.support.profiles import scaled
from thea_store.assistant.recurrence.lines import Lines, read_lines
from thea_store.assistant.recurrence.rule import parse

# What Google, Apple, Outlook, Thunderbird, Evolution, Nextcloud and dateutil print, each in its own way.
PRINTED = [
    ("RRULE:FREQ=WEEKLY;BYDAY=MO", "FREQ=WEEKLY;BYDAY=MO"),
    ("rrule:freq=weekly;byday=mo", "FREQ=WEEKLY;BYDAY=MO"),
    ("FREQ=WEEKLY;BYDAY=MO;", "FREQ=WEEKLY;BYDAY=MO"),
    ("FREQ=WEEKLY;BYDAY=MO\n", "FREQ=WEEKLY;BYDAY=MO"),
    ("RRULE:FREQ=WEEKLY;BYDAY=MO\r\n", "FREQ=WEEKLY;BYDAY=MO"),
    ("\r\nRRULE:FREQ=DAILY\r\n\r\n", "FREQ=DAILY"),
    ("RRULE:FREQ=WEEKLY;WKST=MO;INTERVAL=1;BYDAY=FR,MO,MO", "FREQ=WEEKLY;BYDAY=MO,FR"),
    ("COUNT=3;FREQ=DAILY;WKST=SU", "FREQ=DAILY;COUNT=3;WKST=SU"),
    ("FREQ=DAILY;UNTIL=20300101t100000z", "FREQ=DAILY;UNTIL=20300101T100000Z"),
    ("FREQ=DAILY;UNTIL=20300101", "FREQ=DAILY;UNTIL=20300101"),
    ("FREQ=MONTHLY;BYDAY=+1MO,-1FR", "FREQ=MONTHLY;BYDAY=-1FR,1MO"),
    ("RRULE;X-EVOLUTION-ENDDATE=20300101T000000Z:FREQ=DAILY;COUNT=3", "FREQ=DAILY;COUNT=3"),
    ("RRULE:FREQ=WEEKLY;BYDAY=MO,\r\n TU,WE\r\n", "FREQ=WEEKLY;BYDAY=MO,TU,WE"),
    ("RRULE:FREQ=WEE\n\tKLY", "FREQ=WEEKLY"),
    ("RRULE:FREQ=DAILY\nEXDATE:20300102T090000Z", "RRULE:FREQ=DAILY\nEXDATE:20300102T090000Z"),
    ("FREQ=DAILY\nexdate:20300102t090000z", "RRULE:FREQ=DAILY\nEXDATE:20300102T090000Z"),
    ("EXDATE:20300102T090000Z\r\nRRULE:FREQ=DAILY\r\n", "RRULE:FREQ=DAILY\nEXDATE:20300102T090000Z"),
    (
        "RRULE:FREQ=DAILY\nEXDATE:20300103T090000Z\nEXDATE:20300102T090000Z,20300103T090000Z",
        "RRULE:FREQ=DAILY\nEXDATE:20300102T090000Z,20300103T090000Z",
    ),
    (
        "RRULE:FREQ=DAILY\r\nEXDATE;TZID=Europe/Madrid:20300102T100000\r\n",
        "RRULE:FREQ=DAILY\nEXDATE:20300102T090000Z",
    ),
    (
        'RRULE:FREQ=DAILY\nEXDATE;VALUE=DATE-TIME;TZID="Europe/Madrid":20300702T100000',
        "RRULE:FREQ=DAILY\nEXDATE:20300702T080000Z",
    ),
    ("rrule:freq=daily\nexdate;tzid=europe/madrid:20300102t100000", "RRULE:FREQ=DAILY\nEXDATE:20300102T090000Z"),
    (
        "rrule:freq=daily\nexdate;tzid=america/port-au-prince:20300102t100000",
        "RRULE:FREQ=DAILY\nEXDATE:20300102T150000Z",
    ),
    ("FREQ=DAILY\nEXDATE:20300102T100000", "RRULE:FREQ=DAILY\nEXDATE:20300102T100000"),
    ("FREQ=DAILY\nEXDATE;VALUE=DATE:20300102", "RRULE:FREQ=DAILY\nEXDATE;VALUE=DATE:20300102"),
    ("FREQ=DAILY\nEXDATE:20300102", "RRULE:FREQ=DAILY\nEXDATE;VALUE=DATE:20300102"),
    ("FREQ=DAILY\nRDATE:20300102T100000Z", "RRULE:FREQ=DAILY\nRDATE:20300102T100000Z"),
    ("RDATE;VALUE=DATE:20300103,20300102", "RDATE;VALUE=DATE:20300102,20300103"),
    ("DTSTART:20300101T090000Z\nRRULE:FREQ=DAILY", "FREQ=DAILY"),
    ("DTSTART;TZID=Europe/Madrid:20300101T100000\r\nRRULE:FREQ=DAILY\r\n", "FREQ=DAILY"),
]


@pytest.mark.parametrize(("printed", "stored"), PRINTED)
def test_what_others_print_is_read_and_has_one_spelling(printed: str, stored: str) -> None:
    lines = read_lines(printed)

    assert str(lines) == stored
    again = read_lines(stored)
    assert (again.rule, again.excluded, again.added) == (lines.rule, lines.excluded, lines.added)
    assert str(again) == stored


REFUSED = [
    ("", "needs a rule"),
    ("\n", "needs a rule"),
    ("EXDATE:20300102T090000Z", "needs a rule"),
    ("DTSTART:20300102T090000Z", "needs a rule"),
    ("FREQ=DAILY\nRRULE:FREQ=WEEKLY", "two rules"),
    ("RRULE:FREQ=DAILY\nRRULE:FREQ=DAILY", "two rules"),
    ("RRULE:RRULE:FREQ=DAILY", "does not know|NAME=VALUE|needs FREQ"),
    ("FREQ=DAILY;;", "NAME=VALUE"),
    (" FREQ=DAILY", "has a blank"),
    ("RRULE:FREQ=DAILY; COUNT=3", "has a blank"),
    ("FREQ=WEEKLY;BYDAY=MO, WE", "has a blank"),
    ("FREQ=DAILY\t", "has a blank"),
    ("FREQ=DAILY\nEXDATE:20300102, 20300103", "has a blank"),
    ("FREQ=DAILY\rEXDATE:20300102", "carriage return alone"),
    ("DTSTART:20300101T090000Z\rRRULE:FREQ=DAILY", "carriage return alone"),
    ("RRULE:FREQ=HOURLY", "needs FREQ"),
    ("RRULE:FREQ=DAILY\nEXRULE:FREQ=WEEKLY", "a line EXRULE"),
    ("RRULE:FREQ=DAILY\nDTEND:20300102T090000Z", "a line DTEND"),
    ("RRULE:FREQ=DAILY\nDURATION:PT1H", "a line DURATION"),
    ("RECURRENCE-ID:20300102T090000Z\nRRULE:FREQ=DAILY", "a line RECURRENCE-ID"),
    ("BEGIN:VEVENT\nRRULE:FREQ=DAILY\nEND:VEVENT", "a line BEGIN"),
    ("X-SECRET:me\nRRULE:FREQ=DAILY", "a line of another name"),
    ("RRULE:FREQ=DAILY\nEXDATE:", "in EXDATE"),
    ("RRULE:FREQ=DAILY\nEXDATE:2030-01-02", "in EXDATE"),
    ("RRULE:FREQ=DAILY\nEXDATE:20300230", "in EXDATE"),
    ("RRULE:FREQ=DAILY\nEXDATE:20300102T250000", "in EXDATE"),
    ("RRULE:FREQ=DAILY\nEXDATE:00010101", "years 2"),
    ("RRULE:FREQ=DAILY\nEXDATE:99991231T000000Z", "years 2"),
    ("RRULE:FREQ=DAILY\nEXDATE;VALUE=DATE:20300102T090000Z", "VALUE=DATE"),
    ("RRULE:FREQ=DAILY\nRDATE;VALUE=PERIOD:20300102T090000Z/PT1H", "periods in RDATE"),
    ("RRULE:FREQ=DAILY\nRDATE;VALUE=TEXT:x", "another kind in RDATE"),
    ("RRULE:FREQ=DAILY\nEXDATE;TZID=Romance Standard Time:20300102T090000", "TZID in EXDATE"),
    ("RRULE:FREQ=DAILY\nEXDATE;TZID=../../etc/passwd:20300102T090000", "TZID in EXDATE"),
    ("RRULE:FREQ=DAILY\nEXDATE;TZID=:20300102T090000", "TZID in EXDATE"),
    ("DTSTART:20300101\nDTSTART:20300101\nRRULE:FREQ=DAILY", "more than one DTSTART"),
    ("DTSTART:20300101,20300102\nRRULE:FREQ=DAILY", "more than one DTSTART"),
    ("FREQ=DAILY\nEXDATE:" + ",".join(f"{2000 + n}0101" for n in range(1001)), "1000 dates"),
    ("FREQ=DAILY" + "\n" * 40_000, "40000 characters"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_cannot_be_kept_is_refused_by_its_name_and_without_its_value(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        read_lines(text)

    assert str(refused.value).split()[0] in {"must", "needs", "has", "may"}
    assert "SECRET" not in str(refused.value)
    assert len(str(refused.value)) < 120


def test_a_local_time_that_comes_twice_is_the_first_one() -> None:
    lines = read_lines("FREQ=DAILY\nEXDATE;TZID=Europe/Madrid:20261025T023000")

    assert lines.excluded.moments == {datetime(2026, 10, 25, 0, 30, tzinfo=UTC)}


def test_for_whole_days_all_becomes_days_of_the_timezone() -> None:
    lines = read_lines(
        "FREQ=DAILY;UNTIL=20300109T230000Z\nEXDATE:20300101T230000Z,20300105T120000\nRDATE:20300302T000000Z"
    )
    days = lines.on_days(ZoneInfo("Europe/Madrid"))

    assert str(days) == (
        "RRULE:FREQ=DAILY;UNTIL=20300110\nEXDATE;VALUE=DATE:20300102,20300105\nRDATE;VALUE=DATE:20300302"
    )
    assert str(read_lines("FREQ=DAILY;UNTIL=99991231T235959Z").on_days(ZoneInfo("Pacific/Kiritimati")))


@settings(max_examples=scaled(200))
@given(rules())
def test_the_one_spelling_of_a_rule_means_the_same(rule: dict[str, object]) -> None:
    text = text_of(rule)
    spelled = str(parse(text))

    assert parse(spelled) == parse(text)
    assert str(parse(spelled)) == spelled
    parts = text.split(";")
    assert str(parse(";".join(reversed(parts)).lower() + ";")) == spelled


_dates = st.lists(st.dates(date(2000, 1, 1), date(2060, 1, 1)).map(lambda day: f"{day:%Y%m%d}"), max_size=5)


@settings(max_examples=scaled(200))
@given(_dates, _dates, st.sampled_from(["", "T100000", "T100000Z"]), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_the_order_of_lines_and_dates_and_their_ends_change_nothing(
    excluded: list[str], added: list[str], time: str, end: str, small: bool
) -> None:
    lines = ["RRULE:FREQ=DAILY;COUNT=5"]
    lines += [f"EXDATE:{day}{time}" for day in excluded] + [f"RDATE:{day}{time}" for day in added]
    text = end.join(reversed(lines)) + end
    stored = str(read_lines("\n".join(lines)))

    assert str(read_lines(text.lower() if small else text)) == stored
    assert str(read_lines(stored)) == stored


@given(st.text(max_size=80) | st.text('RULEXDATFQ=YSTZ;VP:0123,\r\n \t"', max_size=80))
def test_any_text_is_lines_or_refused(text: str) -> None:
    try:
        lines = read_lines(text)
    except ValueError:
        return

    assert isinstance(lines, Lines)
