"""`thea-store new` writes an extension that passes everything as it stands, and refuses to lose what is there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.commands import Run
from thea_store.testing import TestDatabase

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent
TASKS = ["--column", "title:text", "--column", "due_at:timestamptz?", "--column", "done:boolean", "--hangs-on", "users"]


@pytest.fixture
def planner(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with an extension and its aggregate."""
    monkeypatch.syspath_prepend(tmp_path)  # the example of this name may be installed beside
    assert run("new", "extension", "planner").exit_code == 0
    assert run("new", "aggregate", "tasks", "--extension", "planner", *TASKS).exit_code == 0
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "planner"]:
        del sys.modules[name]


def files(directory: Path) -> set[str]:
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != ".gitkeep"
    }


def program(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program of the virtual environment, run where a service's author would."""
    command = [str(PROGRAM / arguments[0]), *arguments[1:]]
    inherited = {"PATH": f"{PROGRAM}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/")}
    # Before the example, which has the same name and may be installed.
    variables = {**inherited, "PYTHONPATH": str(directory), "THEA_TEST_SERVER": "embedded", **environment}
    return subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, check=False)


def test_it_writes_the_packages_files(planner: Path) -> None:
    assert files(planner) == {
        "conftest.py",
        "pytest.ini",
        "planner/__init__.py",
        "planner/py.typed",
        "planner/tasks.py",
        "planner/sql/tasks.sql",
        "planner/migrations/planner.0001.schema.sql",
        "planner/migrations/planner.0001.schema.rollback.sql",
        "planner/migrations/planner.0002.tasks.sql",
        "planner/migrations/planner.0002.tasks.rollback.sql",
        "tests/test_planner_isolation.py",
        "tests/test_tasks.py",
    }


@pytest.mark.parametrize("name", ["pyproject.toml", "pytest.ini", "tox.ini"])
def test_a_configuration_that_is_there_is_left_alone(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    assert run("new", "extension", "planner").exit_code == 0

    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {name, "conftest.py"}
    assert (tmp_path / name).read_text() == ""


def follow_the_page(planner: Path, run: Run) -> None:
    """Do what the page says of ranges and vectors, and make a test of the call that it shows."""
    page = (ROOT / "docs" / "your-own-tables.md").read_text()
    [text] = re.findall(r"^## Ranges and vectors\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    [commands], [call, near], [statement] = [
        re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE) for kind in ("sh", "python", "sql")
    ]
    for command in commands.splitlines():
        assert run(*shlex.split(command)[1:]).exit_code == 0
    queries, module, tests = planner / "planner/sql/trips.sql", planner / "planner/trips.py", planner / "tests"
    queries.write_text(queries.read_text().partition("-- name: near")[0] + statement)
    claim, method = near.split("\n\n\n")
    written = module.read_text()
    written = re.sub(r"^NEAR = .*\n", claim + "\n", written, flags=re.MULTILINE)
    written = written.partition("    async def near(")[0] + textwrap.indent(method, "    ")
    module.write_text(written)
    of_trips = tests / "test_trips.py"
    of_trips.write_text(re.sub(r"\.near\((.*?)\) ==", r".near(\1, [0.5] * 3) ==", of_trips.read_text()))
    (tests / "test_page.py").write_text(
        f"""from datetime import date

import pytest
from thea_store import Range, Store

from planner.trips import Trips

pytestmark = pytest.mark.asyncio


async def test_the_page(thea_store: Store) -> None:
    store = thea_store
    user = await store.users.create("acme", telegram_id=1)
{textwrap.indent(call, "    ")}
    other = await Trips(store).create("acme", user_id=user.id, title="", days=Range(), meaning=[9, 9, 9])
    near = await Trips(store).near("acme", [0.1, 0.7, 0.3])
    assert [each.id for each in near] == [trip.id, other.id]
"""
    )
    program(planner, "ruff", "format", "--isolated", str(module), "tests")  # of what the page has beside


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_it_writes_passes_tests_proof_linter_and_type_checkers_unedited(planner: Path, run: Run) -> None:
    more = ["--column", "name:text", "--column", "tags:text[]", "--column", "data:jsonb", "--column", "key:uuid?"]
    columns = [*more, "--column", "rank:integer", "--column", "weight:float?", "--column", "day:date?"]
    columns += ["--column", "during:tstzrange", "--column", "span:int4range?", "--column", "price:numeric?"]
    assert (
        run(
            "new", "aggregate", "appointment_requests", "--extension", "planner", *columns, "--hangs-on", "tasks"
        ).exit_code
        == 0
    )
    assert run("new", "aggregate", "categories", "--extension", "planner", "--column", "name:text").exit_code == 0
    assert run("new", "query", "overdue", "--extension", "planner", "--aggregate", "tasks").exit_code == 0
    assert run("new", "migration", "add_color", "--extension", "planner").exit_code == 0
    follow_the_page(planner, run)
    setting = {"DATABASE_EXTENSIONS": "planner:PLANNER", "DATABASE_URL": "embedded:"}

    for arguments in (
        ["ruff", "check", "--isolated", "."],
        ["ruff", "format", "--isolated", "--check", "."],
        ["mypy", "--strict", "planner", "tests", "conftest.py"],
        ["pyright", "planner"],
        ["pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        ["thea-store", "check", "--citus"],
        ["thea-store", "doctor"],
        ["thea-store", "prove", "--extension", "planner"],
        ["thea-store", "manifest"],
        ["thea-store", "check", "--offline"],
        ["thea-store", "check", "--against", "planner/manifest.json"],
    ):
        done = program(planner, *arguments, **setting)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)


@pytest.mark.slow
def test_a_statement_that_a_cluster_would_refuse_is_named_where_that_is_asked_for(
    planner: Path, run: Run, thea_new_database: Callable[..., TestDatabase]
) -> None:
    queries = planner / "planner/sql/tasks.sql"
    kept = "set deleted_at = now()"
    assert kept in queries.read_text()
    queries.write_text(queries.read_text().replace(kept, "set deleted_at = coalesce(deleted_at, now())", 1))
    database = thea_new_database(migrated=False)
    setting = {"DATABASE_EXTENSIONS": "planner:PLANNER", "DATABASE_URL": database.app_url}
    assert run("migrate", DATABASE_MIGRATOR_URL=database.migrator_url, **setting).exit_code == 0

    assert run("check", **setting).exit_code == 0
    result = run("check", "--citus", "--json", **setting)

    assert result.exit_code == 1
    [found] = json.loads(result.stdout)["mismatches"]
    assert re.fullmatch(r".*sql/tasks\.sql:\d+: tasks\.delete: a cluster takes no function of the clock in .*", found)
    assert run("check", "--citus", "--offline").exit_code == 2


@pytest.mark.slow
def test_the_proof_finds_a_condition_that_was_taken_out(planner: Path, run: Run) -> None:
    queries = planner / "planner" / "sql" / "tasks.sql"
    whole = "where tenant_id = :tenant_id\n  and id = :id\n  and deleted_at is null;"
    text = queries.read_text().replace(whole, "where (tenant_id = :tenant_id or true)\n  and id = :id;", 1)
    queries.write_text(text)

    result = run("prove", "--extension", "planner", "--json")
    [proof] = json.loads(result.stdout)["proofs"]

    assert result.exit_code == 1
    assert {fault["name"] for fault in proof["faults"]} == {"tasks.get_by_id"}
    assert "a condition for each table" in {fault["rule"] for fault in proof["faults"]}
    assert "sql/tasks.sql:" in proof["faults"][0]["found"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["extension", "planner"], "is there already"),
        (["extension", "Planner"], "write lower-case letters"),
        (["extension", "thea"], "cannot be an extension's name"),
        (["extension", "select"], "no word of SQL"),
        (["aggregate", "tasks", "--extension", "planner", "--column", "title:text"], "is there already"),
        (["aggregate", "more", "--extension", "nowhere", "--column", "title:text"], "run `thea-store new extension"),
        (["aggregate", "more", "--extension", "planner", "--column", "title"], "write name:type"),
        (["aggregate", "more", "--extension", "planner", "--column", "title:money"], "is no type that this knows"),
        (["aggregate", "more", "--extension", "planner", "--column", "tenant_id:text"], "that every table has"),
        (["aggregate", "more", "--extension", "planner", "--column", "order:text"], "a word of SQL"),
        (["aggregate", "more", "--extension", "planner", "--column", "a:text", "--column", "a:text"], "is there twice"),
        (["aggregate", "more", "--extension", "planner", "--column", "a:text", "--hangs-on", "trees"], "test_trees.py"),
        (["query", "get_by_id", "--extension", "planner", "--aggregate", "tasks"], "choose another name"),
        (["query", "more", "--extension", "planner", "--aggregate", "trees"], "has no record"),
        (["migration", "Add Color", "--extension", "planner"], "write lower-case letters"),
    ],
)
def test_what_it_cannot_write_is_refused_and_nothing_changes(
    planner: Path, run: Run, arguments: list[str], complaint: str
) -> None:
    before = {name: (planner / name).read_bytes() for name in files(planner)}

    result = run("new", *arguments)

    assert result.exit_code == 2
    assert complaint in result.output
    assert {name: (planner / name).read_bytes() for name in files(planner)} == before


def test_offline_the_code_is_compared_with_what_was_written_down(planner: Path, run: Run) -> None:
    setting = {"DATABASE_EXTENSIONS": "planner:PLANNER"}
    missing = run("check", "--offline", **setting)
    assert run("manifest", **setting).exit_code == 0
    same = run("check", "--offline", **setting)
    migration = planner / "planner" / "migrations" / "planner.0002.tasks.sql"
    migration.write_text(migration.read_text() + "\n-- More.\n")
    edited = run("check", "--offline", **setting)

    assert (missing.exit_code, same.exit_code, edited.exit_code) == (1, 0, 1)
    assert "write one with `thea-store manifest`" in missing.output
    assert "the migration planner.0002.tasks was edited" in edited.output


@pytest.mark.usefixtures("planner")
def test_one_extension_is_compared_by_its_name(run: Run) -> None:
    unwritten = run("check", "--offline", "--extension", "planner")
    assert run("manifest", "--extension", "planner").exit_code == 0
    same = run("check", "--offline", "--extension", "planner")
    misused = run("check", "--extension", "planner")
    unknown = run("prove", "--extension", "trees")

    assert (unwritten.exit_code, same.exit_code, misused.exit_code, unknown.exit_code) == (1, 0, 2, 2)
    assert "there is no extension trees" in unknown.output
    assert same.stdout == "all fit\n"


def test_the_example_is_what_its_manifest_says() -> None:
    done = program(ROOT / "examples" / "planner", "thea-store", "check", "--offline", "--extension", "planner")

    assert (done.returncode, done.stdout) == (0, "all fit\n"), done.stderr


@pytest.mark.slow
def test_a_column_that_must_have_a_value_and_gets_none_is_told(planner: Path, run: Run) -> None:
    migration = planner / "planner" / "migrations" / "planner.0002.tasks.sql"
    migration.write_text(
        migration.read_text().replace("title text not null,", "title text not null, kind text not null,")
    )

    proven = run("prove", "--extension", "planner", "--json")
    checked = run("check", DATABASE_URL="embedded:", DATABASE_EXTENSIONS="planner:PLANNER")
    [proof] = json.loads(proven.stdout)["proofs"]

    sentence = "tasks.create_many: its insert gives planner.tasks.kind no value"
    assert (proven.exit_code, checked.exit_code) == (1, 1)
    assert [(fault["name"], fault["rule"]) for fault in proof["faults"]] == [
        ("tasks.create_many", "gives what it must")
    ]
    assert sentence in proof["faults"][0]["found"]
    assert sentence in checked.stdout


@pytest.mark.slow
def test_a_column_that_a_trigger_gives_its_value_is_no_fault(planner: Path, run: Run) -> None:
    migration = planner / "planner" / "migrations" / "planner.0002.tasks.sql"
    migration.write_text(
        migration.read_text().replace("title text not null,", "title text not null, kind text not null,")
        + "\ncreate function planner.name_kind() returns trigger language plpgsql as"
        " $$ begin new.kind := 'any'; return new; end $$;\n"
        "create trigger kind before insert on planner.tasks for each row execute function planner.name_kind();\n"
    )

    result = run("prove", "--extension", "planner")

    assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("planner")
def test_an_extension_that_is_not_named_is_found_to_go_back_and_told_by_check(
    run: Run, thea_new_database: Callable[..., TestDatabase]
) -> None:
    database = thea_new_database()
    there = run("migrate", DATABASE_URL=database.migrator_url, DATABASE_EXTENSIONS="planner:PLANNER")
    checked = run("check", DATABASE_URL=database.app_url, DATABASE_EXTENSIONS="")
    shown = run("schema", "--json", DATABASE_URL=database.app_url, DATABASE_EXTENSIONS="planner:PLANNER")
    back = run("migrate", "--rollback", "--extension", "planner", "--json", DATABASE_URL=database.migrator_url)

    assert there.stdout.count("applied planner.") == 2
    assert json.loads(shown.stdout)["tables"][-1]["name"] == "planner.tasks"
    assert checked.exit_code == 0
    assert "the database has the tables of planner, which is not looked at" in checked.stderr
    assert json.loads(back.stdout)["migrations"] == ["planner.0002.tasks"]
