"""The schema as the live database has it, and the copy of it in the documentation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.support.commands import Run
from thea_store import MigrationRequiredError
from thea_store.admin.schema import Schema, Table, read, to_markdown, to_mermaid
from thea_store.migrator import available
from thea_store.postgres.operator import UnreachableError
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase, TestServer

pytestmark = pytest.mark.usefixtures("no_settings")

DOCUMENT = Path(__file__).parents[2] / "docs" / "schema.md"
NewDatabase = Callable[[], TestDatabase]
SECRET = "hunter2"
DEAD = f"postgresql://service:{SECRET}@127.0.0.1:1/thea"


def schema_of(url: str) -> Schema:
    return read(DatabaseUrl.parse(url))


def table_of(schema: Schema, name: str) -> Table:
    return next(table for table in schema.tables if table.name == name)


def test_the_document_is_what_the_migrations_make(run: Run, thea_database: TestDatabase) -> None:
    live = run("schema", DATABASE_URL=thea_database.app_url).stdout

    assert DOCUMENT.read_text() == live, "docs/schema.md is stale: run `make schema-docs`"


def test_every_login_sees_the_same_schema(thea_database: TestDatabase) -> None:
    seen = schema_of(thea_database.app_url)

    assert seen == schema_of(thea_database.superuser_url) == schema_of(thea_database.migrator_url)
    assert seen.migration == available()[-1].id


def test_tables_of_extensions_come_last_under_their_full_names(thea_new_database: NewDatabase) -> None:
    database = thea_new_database()
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute(
            "create schema planner; create table planner.tasks (tenant_id text, id bigint, user_id bigint,"
            " primary key (tenant_id, id), foreign key (tenant_id, user_id) references thea.users (tenant_id, id));"
            " create table planner.steps (tenant_id text, task_id bigint,"
            " foreign key (tenant_id, task_id) references planner.tasks (tenant_id, id))"
        )
    own = schema_of(database.app_url)
    both = read(DatabaseUrl.parse(database.app_url), ["planner"])

    assert both.tables[: len(own.tables)] == own.tables
    assert [table.name for table in both.tables[len(own.tables) :]] == ["planner.steps", "planner.tasks"]
    assert [reference.table for table in both.tables[-2:] for reference in table.references] == [
        "planner.tasks",
        "users",
    ]
    assert "planner_tasks {" in to_mermaid(both)
    assert "[planner.tasks](#plannertasks)" in to_markdown(both)


def test_tables_have_their_columns_keys_and_row_security(thea_database: TestDatabase) -> None:
    notes = table_of(schema_of(thea_database.app_url), "notes")
    columns = {column.name: column for column in notes.columns}
    [reference] = notes.references
    primary = next(index for index in notes.indexes if index.primary)

    assert (columns["tags"].type, columns["tags"].nullable, columns["tags"].default) == (
        "text[]",
        False,
        "'{}'::text[]",
    )
    assert (columns["id"].default, columns["title"].nullable) == ("identity", True)
    assert (reference.columns, reference.table, reference.on_delete) == (("tenant_id", "user_id"), "users", "cascade")
    assert primary.columns == ("tenant_id", "id")
    assert notes.row_security == "forced"
    assert {policy.name: policy.kind for policy in notes.policies}["tenant_guard"] == "restrictive"


def test_the_diagram_has_every_table_and_every_relation(run: Run, thea_database: TestDatabase) -> None:
    lines = run("schema", "--mermaid", DATABASE_URL=thea_database.app_url).stdout.splitlines()
    schema = schema_of(thea_database.app_url)

    assert lines[0] == "erDiagram"
    assert {line.strip(" {") for line in lines if line.endswith("{")} == {table.name for table in schema.tables}
    assert '    conversations ||--o{ message_history : "conversation_id"' in lines
    assert sum("--" in line for line in lines) == sum(len(table.references) for table in schema.tables) > 4
    assert "        bigint telegram_id UK" in lines
    assert '        timestamptz deleted_at "null"' in lines


@pytest.fixture
def odd(thea_server: TestServer) -> Iterator[TestDatabase]:
    """A schema with names and types that no migration of ours has."""
    with ExitStack() as resources:
        database = thea_server.new_database(resources, migrated=False)
        with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
            superuser.execute("create schema thea")
            superuser.execute("grant usage on schema thea to public")
            superuser.execute('create table thea."Odd one" (id int primary key, "price | in €" numeric(10, 2))')
            superuser.execute(
                'create table thea.two (id int unique references thea."Odd one", "one" text default \'`|\')'
            )
            superuser.execute("create table thea.parted (id int) partition by range (id)")
            superuser.execute("create table thea.part partition of thea.parted for values from (1) to (2)")
        yield database


def test_odd_names_and_types_keep_the_diagram_and_the_tables_whole(odd: TestDatabase) -> None:
    schema = schema_of(odd.app_url)
    diagram, document = to_mermaid(schema), to_markdown(schema)

    assert '    Odd_one |o--o| two : "id"\n' in diagram
    assert '        numeric(10_2) price___in__ "null"\n' in diagram
    assert "| `price \\| in €` | numeric(10,2) | yes |  |" in document
    assert "| `one` | text | yes | `` '`\\|'::text `` |" in document
    assert [table.name for table in schema.tables] == ["Odd one", "parted", "two"]
    assert "As of migration" not in document


def test_the_schema_is_json_for_a_machine(run: Run, thea_database: TestDatabase) -> None:
    found = json.loads(run("schema", "--json", DATABASE_URL=thea_database.app_url).stdout)
    users = next(table for table in found["tables"] if table["name"] == "users")

    assert found["migration"] == available()[-1].id
    assert users["columns"][0] == {"name": "tenant_id", "type": "text", "nullable": False, "default": None}
    assert set(users) == {"name", "row_security", "columns", "indexes", "references", "checks", "policies"}


def test_a_database_without_the_schema_says_what_to_do(
    run: Run, thea_new_database: Callable[..., TestDatabase]
) -> None:
    database = thea_new_database(migrated=False)
    result = run("schema", DATABASE_URL=database.app_url)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("run `thea-store migrate`\n")
    with pytest.raises(MigrationRequiredError):
        schema_of(database.app_url)


@pytest.mark.parametrize("options", [[], ["--json"], ["--mermaid"]])
def test_a_server_that_does_not_answer_is_told_in_a_sentence_without_the_password(run: Run, options: list[str]) -> None:
    result = run("schema", *options, DATABASE_URL=DEAD)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "thea-store: 127.0.0.1:1/thea: no PostgreSQL answers: start it, or correct the URL\n"
    with pytest.raises(UnreachableError):
        schema_of(DEAD)


def test_a_diagram_is_no_json(run: Run) -> None:
    assert run("schema", "--json", "--mermaid", DATABASE_URL=DEAD).exit_code == 2


def test_without_a_url_the_schema_is_that_of_the_migrations(run: Run) -> None:
    result = run("schema", "--json")

    assert result.exit_code == 0
    assert len(json.loads(result.stdout)["tables"]) >= 6
    assert "DATABASE_URL is not set" in result.stderr
