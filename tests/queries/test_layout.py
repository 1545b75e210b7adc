"""SQL is laid out as people read it: no long lines, no tabs, keywords in lower case."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from thea_store.queries.lexer import SqlText, spelling, tokenize
from thea_store.resources import migrations_dir, sql_dir

LONGEST = 120
FILES = [*sorted(sql_dir().glob("*.sql")), *sorted(migrations_dir().glob("*.sql"))]
KEYWORDS = {
    "select",
    "from",
    "where",
    "and",
    "or",
    "join",
    "insert",
    "update",
    "delete",
    "create",
    "alter",
    "order",
    "by",
}


def every_file() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


@every_file()
def test_lines_are_short_and_end_where_they_seem_to(path: Path) -> None:
    lines = enumerate(path.read_text().splitlines(), 1)
    wrong = [
        number for number, line in lines if len(line) > LONGEST or "\t" in line or re.search(r" $", line) is not None
    ]

    assert wrong == []


@every_file()
def test_keywords_are_in_lower_case(path: Path) -> None:
    # A parameter by number is the business of functions, and no token of a query.
    text = SqlText(path, re.sub(r"\$\d", ":p", path.read_text()))
    words = [spelling(token) for token in tokenize(text) if token.lastgroup == "word"]

    assert [word for word in words if word.lower() in KEYWORDS and not word.islower()] == []
