from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.commands import Run
from tests.support.exports import ANA, BEN, BOT, NOON, account, brought_in, chat, said, written
from thea_store import Store
from thea_store.cli import commands
from thea_store.database import connector
from thea_store.migrator import available
from thea_store.resources import sample_export
from thea_store.testing import TestDatabase

pytestmark = pytest.mark.usefixtures("no_settings")

SAMPLE = str(sample_export())
DEAD = "postgresql://service:hunter2@127.0.0.1:1/thea"
IDS = [migration.id for migration in available()]


def executed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as its own process."""
    command = [sys.executable, "-m", "thea_store", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


# --- import -------------------------------------------------------------------------------------


def test_an_import_says_what_came_in(run: Run, thea_database: TestDatabase, tenant: str) -> None:
    first = run("import", "telegram", SAMPLE, "--tenant", tenant, DATABASE_URL=thea_database.app_url)
    second = run("import", "telegram", SAMPLE, "--tenant", tenant, DATABASE_URL=thea_database.app_url)

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "51, 26 of them by the assistant" in first.stdout
    assert "25 new, 0 completed, 0 already there" in first.stdout
    assert "service messages (1)" in first.stdout
    assert "0 new, 0 completed, 25 already there" in second.stdout
    assert first.stderr == ""


def test_an_import_is_json_for_a_machine(run: Run, thea_database: TestDatabase, tenant: str) -> None:
    result = run("import", "telegram", SAMPLE, "--tenant", tenant, "--json", DATABASE_URL=thea_database.app_url)

    assert json.loads(result.stdout) == {
        "tenant": tenant,
        "file": SAMPLE,
        "messages": 51,
        "answers": 26,
        "exchanges": {"new": 25, "completed": 0, "unchanged": 0, "deleted": 0},
        "new_users": 1,
        "new_conversations": 1,
        "skipped": {"service": 1},
        "first_skipped": {"service": [{"chat_type": "bot_chat", "chat_id": 7700700700, "message_id": 113}]},
        "notes": {},
        "broken_chats": [],
        "error": None,
    }


@pytest.mark.parametrize("as_json", [True, False])
def test_a_file_that_is_cut_off_fails_and_says_where(
    run: Run, thea_database: TestDatabase, tenant: str, tmp_path: Path, *, as_json: bool
) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(sample_export().read_bytes()[:9000])
    options = ["--json"] if as_json else []
    result = run("import", "telegram", str(path), "--tenant", tenant, *options, DATABASE_URL=thea_database.app_url)

    assert result.exit_code == 1
    assert "it ends too early, at byte 9,000. Everything up to its message number 21 was read" in result.stderr
    assert "Traceback" not in result.output
    if as_json:
        found = json.loads(result.stdout)
        assert (found["exchanges"]["new"], "byte 9,000" in found["error"]) == (10, True)
    else:
        assert "10 new" in result.stdout


def test_a_file_that_is_none_fails_before_a_server_is_asked(run: Run, tmp_path: Path) -> None:
    missing = run("import", "telegram", "none.json", "--tenant", "acme", DATABASE_URL=DEAD)
    directory = run("import", "telegram", str(tmp_path), "--tenant", "acme", DATABASE_URL=DEAD)

    assert (missing.exit_code, directory.exit_code) == (1, 1)
    assert missing.stderr.startswith("thea-store: none.json: cannot be read")
    assert missing.stderr.count("\n") == directory.stderr.count("\n") == 1


def test_what_is_no_export_fails(run: Run, thea_database: TestDatabase, tenant: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("<html>")
    result = run("import", "telegram", str(path), "--tenant", tenant, DATABASE_URL=thea_database.app_url)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "it is an HTML export" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", "telegram", SAMPLE],
        ["import", "telegram", SAMPLE, "--tenant", ""],
        ["import", "telegram", SAMPLE, "--tenant", "acme", "--assistant", "bob"],
        ["import", "telegram", SAMPLE, "--tenant", "acme", "--zone", "Madrid"],
        ["import", "telegram", SAMPLE, "--tenant", "acme", "--zone", "../etc/passwd"],
        ["import", "telegram", SAMPLE, "--tenant", "acme", "--chat", "THEA"],
        ["import"],
        ["migrate", "--to", "0001"],
        ["nonsense"],
        [],
    ],
)
def test_misuse_has_a_status_of_its_own(run: Run, arguments: list[str]) -> None:
    assert run(*arguments, DATABASE_URL=DEAD).exit_code == 2


def test_the_assistant_of_a_chat_with_a_person_is_named(
    run: Run, thea_database: TestDatabase, tenant: str, tmp_path: Path
) -> None:
    talk = chat(said(1, ANA, "hola"), said(2, BEN, "buenas"), id_=BEN, kind="personal_chat")
    path = str(written(tmp_path / "result.json", talk))
    command = ("import", "telegram", path, "--tenant", tenant, "--json", "--assistant")
    result = run(*command, f"user{BEN}", DATABASE_URL=thea_database.app_url)

    assert json.loads(result.stdout)["answers"] == 1
    assert result.stderr == ""


def test_an_assistant_who_never_writes_is_pointed_out(
    run: Run, thea_database: TestDatabase, tenant: str, tmp_path: Path
) -> None:
    path = str(written(tmp_path / "result.json", chat(said(1, ANA, "hola"), id_=ANA, kind="personal_chat")))
    result = run(
        "import", "telegram", path, "--tenant", tenant, "--assistant", str(BOT), DATABASE_URL=thea_database.app_url
    )

    assert result.exit_code == 0
    assert f"no message of user{BOT}" in result.stderr


def test_some_chats_alone_are_imported(run: Run, thea_database: TestDatabase, tenant: str, tmp_path: Path) -> None:
    chats = [
        chat(said(1, ANA, "uno")),
        chat(said(1, ANA, "dos"), kind="private_group"),
        chat(said(1, ANA, "tres"), id_=8),
    ]
    path = str(written(tmp_path / "result.json", account(*chats)))
    command = ("import", "telegram", path, "--tenant", tenant, "--json")
    first = run(*command, "--chat", f"private_group:{BOT}", "--chat", "8", DATABASE_URL=thea_database.app_url)
    absent = run(*command, "--chat", "9", DATABASE_URL=thea_database.app_url)

    assert (first.exit_code, json.loads(first.stdout)["messages"]) == (0, 2)
    assert (absent.exit_code, json.loads(absent.stdout)["messages"]) == (1, 0)
    assert f"has no chat:9. Choose among its chats: bot_chat:{BOT}, private_group:{BOT}, bot_chat:8." in absent.stderr


def test_the_clock_of_an_old_export_is_named(
    run: Run, thea_database: TestDatabase, tenant: str, other_tenant: str, *, superuser: Any, tmp_path: Path
) -> None:
    old = said(1, ANA, "hola")
    del old["date_unixtime"]
    command = ("import", "telegram", str(written(tmp_path / "result.json", chat(old))))
    of_madrid = run(*command, "--tenant", tenant, "--zone", "Europe/Madrid", DATABASE_URL=thea_database.app_url)
    of_nowhere = run(*command, "--tenant", other_tenant, DATABASE_URL=thea_database.app_url)

    assert "1 without a timezone, taken for Europe/Madrid" in of_madrid.stdout
    assert "1 without a timezone, taken for UTC: see --zone" in of_nowhere.stdout
    assert brought_in(superuser, tenant)[0][-1] == NOON + timedelta(minutes=1) - timedelta(hours=1)
    assert brought_in(superuser, other_tenant)[0][-1] == NOON + timedelta(minutes=1)


def test_a_broken_chat_fails_after_the_others_are_imported(
    run: Run, thea_database: TestDatabase, tenant: str, tmp_path: Path
) -> None:
    chats = [{"type": "bot_chat", "id": 5, "messages": "PIN"}, chat(said(1, ANA, "hola"), said(2, "channel7", "PIN"))]
    path = str(written(tmp_path / "result.json", account(*chats)))
    result = run("import", "telegram", path, "--tenant", tenant, DATABASE_URL=thea_database.app_url)

    assert result.exit_code == 1
    assert "bot_chat:5 has `messages` that are not a list. All other chats were read." in result.stderr
    assert "1 new" in result.stdout
    assert f"not by a person (1): message 2 in bot_chat:{BOT}" in result.stdout
    assert "PIN" not in result.output


# --- migrate and check --------------------------------------------------------------------------


def test_migrations_are_told_one_by_one(run: Run, thea_new_database: Callable[..., TestDatabase]) -> None:
    url = thea_new_database(migrated=False).migrator_url
    trial = run("migrate", "--dry-run", DATABASE_URL=url)
    done = run("migrate", DATABASE_URL=url)
    again = run("migrate", DATABASE_URL=url)

    assert trial.stdout.splitlines() == [f"would be applied: {id_}" for id_ in IDS]
    assert [line.rpartition(" (")[0] for line in done.stdout.splitlines()] == [f"applied {id_}" for id_ in IDS]
    assert again.stdout == "the schema is up to date\n"
    assert {trial.exit_code, done.exit_code, again.exit_code} == {0}


def test_migrations_are_taken_back(run: Run, thea_new_database: Callable[..., TestDatabase]) -> None:
    url = thea_new_database().migrator_url
    trial = run("migrate", "--rollback", "--dry-run", "--json", DATABASE_URL=url)
    some = run("migrate", "--rollback", "--to", "0003", "--json", DATABASE_URL=url)
    wrong = run("migrate", "--rollback", "--to", "0099", DATABASE_URL=url)
    rest = run("migrate", "--rollback", "--to", "0000", DATABASE_URL=url)

    assert json.loads(trial.stdout) == {"rollback": True, "dry_run": True, "migrations": IDS[:-4:-1][:1]}
    assert json.loads(some.stdout)["migrations"] == IDS[:2:-1]
    assert wrong.exit_code == 2
    assert rest.stdout.count("rolled back") == 3


def test_the_migrators_login_is_another(
    run: Run, thea_new_database: Callable[..., TestDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_MIGRATOR_URL", thea_new_database(migrated=False).migrator_url)
    with_url = run("migrate", "--json", DATABASE_URL=DEAD)
    monkeypatch.delenv("DATABASE_URL")
    without_url = run("migrate", "--json")

    assert json.loads(with_url.stdout)["migrations"] == IDS
    assert json.loads(without_url.stdout)["migrations"] == []
    assert without_url.stderr == ""


def test_every_query_is_checked(run: Run, thea_database: TestDatabase) -> None:
    shown = run("check", DATABASE_URL=thea_database.app_url)
    found = json.loads(run("check", "--json", DATABASE_URL=thea_database.app_url).stdout)
    queries = {query["name"]: query for query in found["queries"]}

    assert shown.exit_code == 0
    assert f"{len(queries)} queries" in shown.stdout
    assert found["mismatches"] == []
    assert found["schema"] == IDS[-1]
    assert queries["users.get_by_telegram_id"]["parameters"] == {"tenant_id": "text", "telegram_id": "bigint"}
    assert queries["users.exists"]["columns"] == {"found": "boolean"}
    assert queries["users.exists"]["record"] == "bool"


def test_a_query_that_does_not_fit_the_schema_is_named(
    run: Run, thea_new_database: Callable[..., TestDatabase]
) -> None:
    database = thea_new_database()
    with psycopg.connect(database.superuser_url) as superuser:
        superuser.execute("alter table thea.message_history drop column entities_extracted")
    shown = run("check", DATABASE_URL=database.app_url)
    found = json.loads(run("check", "--json", DATABASE_URL=database.app_url).stdout)

    assert shown.exit_code == 1
    assert "messages.get_context_window: the server refuses it" in shown.stdout
    assert any(problem.startswith("sql/messages.sql:") for problem in found["mismatches"])


def test_a_schema_that_lacks_migrations_is_not_checked(
    run: Run, thea_new_database: Callable[..., TestDatabase]
) -> None:
    result = run("check", DATABASE_URL=thea_new_database(migrated=False).migrator_url)

    assert result.exit_code == 1
    assert f"the schema lacks {', '.join(IDS)}: run `thea-store migrate`" in result.stderr


def test_an_embedded_server_keeps_what_was_imported(run: Run, tmp_path: Path) -> None:
    url = f"embedded:{tmp_path / 'data'}"
    migrated = run("migrate", "--json", DATABASE_URL=url)
    first = run("import", "telegram", SAMPLE, "--tenant", "acme", "--json", DATABASE_URL=url)
    second = run("import", "telegram", SAMPLE, "--tenant", "acme", "--json", DATABASE_URL=url)

    assert json.loads(migrated.stdout)["migrations"] == IDS
    assert json.loads(first.stdout)["exchanges"]["new"] == 25
    assert json.loads(second.stdout)["exchanges"]["unchanged"] == 25


def test_an_embedded_server_is_worked_on_by_a_login_of_the_group_that_a_command_needs(run: Run, tmp_path: Path) -> None:
    setting, file = {"DATABASE_URL": f"embedded:{tmp_path / 'data'}"}, str(tmp_path / "acme.zip")
    run("import", "telegram", SAMPLE, "--tenant", "acme", **setting)

    commands = [
        ("export", "tenant", "acme", "--file", file),
        ("import", "tenant", file, "--as", "otra"),
        ("erase", "user", "1", "--tenant", "acme", "--reason", "petición"),
        ("end", "tenant", "otra", "--no-export"),
    ]
    assert [run(*command, **setting).exit_code for command in commands] == [0, 0, 0, 0]


# --- what goes wrong ----------------------------------------------------------------------------


def test_without_a_url_the_server_is_embedded_and_that_is_said(run: Run) -> None:
    result = run("check", "--json")

    assert result.stderr == (
        "thea-store: DATABASE_URL is not set: on an embedded PostgreSQL, which is thrown away at the end\n"
    )
    assert json.loads(result.stdout)["mismatches"] == []


@pytest.mark.parametrize(
    "arguments", [["migrate"], ["check"], ["check", "--json"], ["import", "telegram", SAMPLE, "--tenant", "acme"]]
)
def test_a_server_that_does_not_answer_is_told_in_a_sentence_without_the_password(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(connector, "_STARTING", 0.0)
    result = run(*arguments, DATABASE_URL=DEAD)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("thea-store: ")
    assert result.stderr.count("\n") == 1
    assert "127.0.0.1:1/thea" in result.stderr
    assert "hunter2" not in result.output


def test_a_malformed_url_is_misuse_and_not_quoted(run: Run) -> None:
    result = run("check", DATABASE_URL="postgresql://service:hun#ter2@localhost/thea")

    assert result.exit_code == 2
    assert result.stderr == "thea-store: DATABASE_URL: has a # in it: write it as %23\n"


def test_an_unexpected_error_shows_neither_traceback_nor_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise LookupError("hunter2")

    monkeypatch.setattr(commands, "app", fail)
    with pytest.raises(SystemExit) as ended:
        commands.main()
    printed = capsys.readouterr()

    assert ended.value.code == 1
    assert "an unexpected LookupError at test_commands.py" in printed.err
    assert "hunter2" not in printed.out + printed.err


def test_the_module_runs_as_a_command() -> None:
    shown = executed("--help")
    wrong = executed("check", DATABASE_URL=DEAD)

    assert (shown.returncode, shown.stderr) == (0, "")
    assert all(command in shown.stdout for command in ("demo", "import", "migrate", "check"))
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "Traceback" not in wrong.stderr


def test_no_file_of_the_current_directory_takes_the_place_of_a_package(tmp_path: Path) -> None:
    for package in ("asyncpg", "psycopg", "rich", "yoyo", "pydantic"):
        (tmp_path / f"{package}.py").write_text("from pathlib import Path; Path('loaded').touch()")
    command = [str(Path(sys.executable).parent / "thea-store"), "check"]
    ended = subprocess.run(
        command, cwd=tmp_path, env={"DATABASE_URL": DEAD}, capture_output=True, text=True, check=False, timeout=60
    )

    assert ended.returncode == 1
    assert "127.0.0.1:1/thea" in ended.stderr
    assert not (tmp_path / "loaded").exists()


def test_help_loads_nothing_that_only_a_command_needs() -> None:
    loaded = "import sys; import thea_store.cli.commands; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()

    optional = {"thea_store.cli.demo", "thea_store.telegram.importer", "ijson", "rich.console", "rich.progress"}
    assert not optional & set(modules)


async def test_the_store_is_left_as_the_command_said(
    store: Store, tenant: str, run: Run, thea_database: TestDatabase
) -> None:
    run("import", "telegram", SAMPLE, "--tenant", tenant, DATABASE_URL=thea_database.app_url)

    assert await store.messages.count(tenant) == 25
