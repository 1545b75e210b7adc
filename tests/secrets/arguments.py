"""Arguments that no call takes, each with marked values in it."""

from __future__ import annotations

from datetime import datetime

from tests.secrets.caught import Marks


class Alien:
    """What no argument may be."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def unfit(value: object, marks: Marks) -> list[object]:
    """Values that have no place where `value` has one, each with a mark in it."""
    text = marks.text
    wrong: list[object] = [Alien(text), {text: Alien(text)}, [text, {Alien(text): text}], text.encode()]
    match value:
        case str():
            wrong += [f"{text}\0", f"{text}\ud800", text * 40_000, marks.first_number]
        case bool():
            wrong += [text, marks.first_number]
        case int():
            wrong += [text, marks.first_number << 64, marks.first_number + 0.5]
        case float():
            wrong += [text, float(marks.first_number), -float(marks.first_number)]
        case datetime():
            wrong += [text, value.replace(tzinfo=None), marks.first_number]
        case dict():
            wrong += [text, {marks.first_number: text}, {text: float("nan")}, {text: f"{text}\0"}, {text: {text, 1}}]
        case list():
            wrong += [text, [*value, f"{text}\0"], [*value, marks.first_number]]
            wrong += [[row | {marks.first_number: text}] for row in value if isinstance(row, dict)]
    return wrong
