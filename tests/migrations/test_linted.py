"""Each migration and its way back under squawk, the linter for migrations; an exception is one line, with a reason."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from thea_store.migrator import Migration, available

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / ".squawk.toml"
FILES = [path for migration in available() for path in (migration.path, migration.rollback_path)]

# File, rule, and what stands in the line; the reason.
EXCEPTIONS = {
    ("0006.messages.sql", "prefer-bigint-over-int", "processing_time_ms integer,"): (
        "the milliseconds of one answer: 24 days have room"
    ),
    (
        "0007.events.sql",
        "prefer-bigint-over-int",
        "reminder_minutes integer,",
    ): "checked to be at most a year's minutes",
    (
        "0008.notes.sql",
        "prefer-bigint-over-int",
        "priority integer not null default 0,",
    ): "a rank, which nothing counts up",
    (
        "0018.encryption.sql",
        "prefer-bigint-over-int",
        "version integer not null,",
    ): "checked to be below 2**24, as it stands in each sealed text",
}
# A way back drops what its own way up created: `created_by_its_way_up` looks whether that is so.
DROPPING = {
    "ban-drop-column",
    "ban-drop-function",
    "ban-drop-policy",
    "ban-drop-schema",
    "ban-drop-sequence",
    "ban-drop-table",
    "require-concurrent-index-deletion",
}

DROPPED = re.compile(
    r"(alter table [\w.]+ )?drop (column|function|index|policy|procedure|schema|sequence|table) ([\w.]+(?: on [\w.]+)?)"
)

UP = """
create schema more;
create table thea.more (id bigint);
create sequence thea.keys;
create policy tenant on thea.more using (true);
create function thea.one() returns bigint return 1;
create procedure thea.go() begin atomic select 1; end;
alter table thea.users add column color text;
create index if not exists users_color_idx on thea.users (tenant_id, color);
"""
# What a way back of these may drop, and what it may not.
BACK = [
    ("drop schema more;", "drop schema thea;"),
    ("drop table thea.more;", "drop table thea.mo;"),
    ("drop sequence thea.keys;", "drop sequence thea.keystone;"),
    ("drop policy tenant on thea.more;", "drop policy tenant on thea.users;"),
    ("drop function thea.one();", "drop function thea.tenant();"),
    ("drop procedure thea.go();", "drop procedure thea.stay();"),
    ("alter table thea.users drop column color;", "alter table thea.notes drop column color;"),
    ("drop index thea.users_color_idx;", "drop index thea.users_created_at_idx;"),
]


class Finding(NamedTuple):
    file: str
    rule: str
    line: str
    """The text of the line."""


def lint(*paths: Path, config: Path = CONFIG) -> list[Finding]:
    """What squawk finds in these files."""
    squawk = Path(sys.executable).with_name("squawk")
    command = [str(squawk), "--config", str(config), "--reporter", "json", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert done.returncode == (1 if found else 0), done.stderr
    texts = {str(path): path.read_text().splitlines() for path in paths}
    return [
        Finding(Path(each["file"]).name, each["rule_name"], texts[each["file"]][each["line"]].strip()) for each in found
    ]


def created_by_its_way_up(finding: Finding, directory: Path) -> bool:
    dropped = DROPPED.match(finding.line)
    stem, is_rollback, _ = finding.file.partition(".rollback.sql")
    if finding.rule not in DROPPING or not is_rollback or dropped is None:
        return False
    table, kind, name = dropped.groups()
    if kind == "index":  # created without its schema
        kind, name = "index if not exists", name.removeprefix("thea.")
    made = f"{table}add column {name}" if table else f"create {kind} {name}"
    return re.search(rf"^{re.escape(made)}(?![\w.])", (directory / f"{stem}.sql").read_text(), re.MULTILINE) is not None


def built_by_hand_first(finding: Finding) -> bool:
    """An index that may be there already, as docs/operations.md wants it on large tables."""
    return finding.rule == "require-concurrent-index-creation" and "index if not exists " in finding.line


def unexcused(paths: list[Path]) -> list[Finding]:
    return [
        each
        for each in lint(*paths)
        if each not in EXCEPTIONS and not created_by_its_way_up(each, paths[0].parent) and not built_by_hand_first(each)
    ]


def test_every_migration_and_its_way_back_is_clean() -> None:
    found = unexcused(FILES)

    assert len(FILES) >= 16
    assert not found, "\n".join(f"{each.file}: {each.rule}: {each.line}" for each in found)


@pytest.mark.parametrize(("before", "migration"), list(pairwise([None, *available()])), ids=str)
def test_each_says_why_and_comes_after_the_one_before(before: Migration | None, migration: Migration) -> None:
    depends, *_ = text = migration.path.read_text().splitlines()

    assert before is None or depends == f"-- depends: {before.id}"
    assert any(line.startswith("-- Why: ") for line in text[:3]), f"{migration.path.name} does not say `-- Why: …`"


def test_no_exception_is_more_than_is_needed(tmp_path: Path) -> None:
    excluded = tomllib.loads(CONFIG.read_text())["excluded_rules"]
    without = tmp_path / "squawk.toml"
    without.write_text("assume_in_transaction = true")
    found = lint(*FILES)

    assert EXCEPTIONS.keys() - set(found) == set()
    assert set(excluded) - {each.rule for each in lint(*FILES, config=without)} == set()
    assert all(EXCEPTIONS.values())


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("create table mine (id bigint);", "require-table-schema"),
        ("create table thea.mine (id integer);", "prefer-bigint-over-int"),
        ("create table thea.mine (at timestamp);", "prefer-timestamp-tz"),
        ("create index users_username_idx on thea.users (tenant_id, username);", "require-concurrent-index-creation"),
        ("alter table thea.users add column age bigint not null;", "adding-required-field"),
        ("alter table thea.users alter column username set not null;", "adding-not-nullable-field"),
        ("alter table thea.users alter column telegram_id type text;", "changing-column-type"),
        ("alter table thea.users rename column username to nickname;", "renaming-column"),
        ("alter table thea.users rename to people;", "renaming-table"),
        ("alter table thea.users drop column username;", "ban-drop-column"),
        ("alter table thea.users add constraint users_age_check check (age > 0);", "constraint-missing-not-valid"),
        ("alter policy tenant on thea.users using (true);", "ban-alter-policy-condition"),
        ("drop policy tenant on thea.users;", "ban-drop-policy"),
        ("drop table thea.users;", "ban-drop-table"),
        ("truncate thea.users cascade;", "ban-truncate-cascade"),
        ("commit;", "transaction-nesting"),
        ("select from where;", "syntax-error"),
    ],
)
def test_a_dangerous_statement_is_found(tmp_path: Path, statement: str, rule: str) -> None:
    file = tmp_path / "0010.next.sql"
    file.write_text(f"-- Why: to be found.\n\n{statement}\n")

    assert Finding(file.name, rule, statement) in unexcused([file])


def test_an_index_that_may_have_been_built_by_hand_is_excused(tmp_path: Path) -> None:
    file = tmp_path / "0010.next.sql"
    file.write_text("create index if not exists users_username_idx on thea.users (tenant_id, username);\n")

    assert [each.rule for each in lint(file)] == ["require-concurrent-index-creation"]
    assert unexcused([file]) == []


def test_a_way_back_may_drop_what_its_own_way_up_created_and_nothing_else(tmp_path: Path) -> None:
    up, back = tmp_path / "0010.next.sql", tmp_path / "0010.next.rollback.sql"
    up.write_text(UP)
    back.write_text("".join(f"{line}\n" for pair in BACK for line in pair))

    assert {finding.rule for finding in lint(back)} == DROPPING
    assert [finding.line for finding in unexcused([up, back])] == [other for _, other in BACK]
