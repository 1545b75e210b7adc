"""Each migration and its way back under squawk, the linter for migrations; an exception is one line, with a reason."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from thea_store.migrations import available

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / ".squawk.toml"
FILES = [path for migration in available() for path in (migration.path, migration.rollback_path)]

# File, rule, and what stands in the line; the reason.
EXCEPTIONS = {
    ("0005.messages.sql", "prefer-bigint-over-int", "processing_time_ms integer,"): (
        "the milliseconds of one answer: 24 days have room"
    ),
    (
        "0006.events.sql",
        "prefer-bigint-over-int",
        "reminder_minutes integer,",
    ): "checked to be at most a year's minutes",
    (
        "0007.notes.sql",
        "prefer-bigint-over-int",
        "priority integer not null default 0,",
    ): "a rank, which nothing counts up",
}
# A way back drops what its own way up created: `created_by_its_way_up` looks whether that is so.
DROPPING = {"ban-drop-function", "ban-drop-policy", "ban-drop-schema", "ban-drop-sequence", "ban-drop-table"}


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
    dropped = re.match(r"drop (function|policy|schema|sequence|table) ([\w.]+)", finding.line)
    stem, is_rollback, _ = finding.file.partition(".rollback.sql")
    if finding.rule not in DROPPING or not is_rollback or dropped is None:
        return False
    created = rf"^create {dropped[1]} {re.escape(dropped[2])}(?![\w.])"
    return re.search(created, (directory / f"{stem}.sql").read_text(), re.MULTILINE) is not None


def unexcused(paths: list[Path]) -> list[Finding]:
    return [
        each for each in lint(*paths) if each not in EXCEPTIONS and not created_by_its_way_up(each, paths[0].parent)
    ]


def test_every_migration_and_its_way_back_is_clean() -> None:
    assert len(FILES) >= 16
    assert unexcused(FILES) == []


def test_no_exception_is_more_than_is_needed(tmp_path: Path) -> None:
    excluded = tomllib.loads(CONFIG.read_text())["excluded_rules"]
    without = tmp_path / "squawk.toml"
    without.write_text("assume_in_transaction = true")
    found = lint(*FILES)

    assert EXCEPTIONS.keys() - set(found) == set()
    assert DROPPING - {each.rule for each in found} == set()
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
    file = tmp_path / "0009.next.sql"
    file.write_text(f"-- Why: to be found.\n\n{statement}\n")

    assert Finding(file.name, rule, statement) in unexcused([file])


def test_a_way_back_may_drop_what_its_own_way_up_created_and_nothing_else(tmp_path: Path) -> None:
    up, back = tmp_path / "0009.next.sql", tmp_path / "0009.next.rollback.sql"
    up.write_text("create table thea.more (id bigint);\n")
    back.write_text("drop table thea.more;\ndrop table thea.mo;\ndrop table thea.users;\n")

    assert [finding.line for finding in unexcused([up, back])] == ["drop table thea.mo;", "drop table thea.users;"]
