"""What row security costs a search: a user with many notes, in a tenant with fifty times as many.

Each question is asked by the service's role, through the library's own statement, and by the tables' owner with
row security off, who runs what the library's function runs, with the text search query ready made. Both in one
process, on the same rows, in turn; a number is the median of the rounds' ratios. The last column is what the
service would take without the function, only to count the rows. The plans are those that really ran.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Any

import psycopg
import typer
from options import Smoke
from psycopg.types.json import Jsonb
from rich.console import Console
from rich.progress import track
from rich.table import Table

from thea_store.assistant import notes
from thea_store.assistant.note_search import parse
from thea_store.testing import TestDatabase, start_server

AT_MOST = 3.0
TENANT = "acme"
# One user has every fiftieth note of the tenant, the others a thousand each.
SHARE, OTHERS = 50, 1000
TEXTS, VOCABULARY = 5000, 20_000
# The one stands in every second note, the other in every four-thousandth of the user, and in few of the others'.
COMMON, RARE, RARE_TEXT = "importante", "ornitorrinco", 7
TAGS = ("trabajo", "casa", "salud", "ideas", "compras")

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, as the library's statement and as the owner's."""

    name: str
    ours: str
    our_values: Sequence[object]
    owners: str
    owner_values: Sequence[object]


@dataclass(frozen=True, slots=True)
class Answer:
    """Milliseconds of each round, how many rows came back, and the plan of ours."""

    question: Question
    rows: int
    ours: Sequence[float]
    owners: Sequence[float]
    bare: float
    """Milliseconds that the service takes to count the rows by itself, where row security bars the index."""
    plan: str

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.ours, self.owners, strict=True))


# --- filling --------------------------------------------------------------------------------------


def fill(database: TestDatabase, size: int) -> int:
    """Write the notes, as a superuser and without triggers; the id of the user with many."""
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        index = _value(connection, "select pg_get_indexdef('thea.notes_search_vector_idx'::regclass)")
        connection.execute("drop index thea.notes_search_vector_idx")
        users = connection.execute(
            "insert into thea.users (tenant_id, telegram_id) select %s, n from generate_series(0, %s) n returning id",
            [TENANT, max(1, size // OTHERS)],
        ).fetchall()
        many, others = users[0][0], [id_ for (id_,) in users[1:]]
        connection.execute("create table public.texts (n int, title text, content text, tags text[])")
        with connection.cursor().copy("copy public.texts from stdin") as copy:
            for row in _texts():
                copy.write_row(row)
        halves = [(n * size // 2, (n + 1) * size // 2) for n in range(2)]
        workers = [threading.Thread(target=_write, args=(database, many, others, *half)) for half in halves]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        connection.execute("drop table public.texts")
        connection.execute("set maintenance_work_mem = '512MB'")
        connection.execute(str(index).encode())
        connection.execute("vacuum analyze")
    return int(many)


def _texts() -> Iterator[tuple[object, ...]]:
    rng = random.Random(1)
    syllables = [c + v for c in "bcdfglmnprstvz" for v in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(2, 4))) for _ in range(VOCABULARY)]

    def some(least: int, most: int) -> list[str]:
        # The first words of the list are drawn most often, as in a language.
        return [words[int(VOCABULARY * rng.random() ** 3)] for _ in range(rng.randint(least, most))]

    for n in range(TEXTS):
        content = [*some(6, 18), *([COMMON] if n % 2 else []), *([RARE] if n == RARE_TEXT else [])]
        rng.shuffle(content)
        yield n, " ".join(some(1, 3)), " ".join(content), rng.sample(TAGS, k=rng.randint(0, 2))


def _write(database: TestDatabase, many: int, others: list[int], first: int, last: int) -> None:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "insert into thea.notes (tenant_id, user_id, title, content, tags, search_vector, created_at)"
            " select %(tenant)s, u.id, t.title, t.content, t.tags,"
            "   thea.note_vector(%(tenant)s, u.id, t.title, t.tags, t.content), now() - make_interval(mins => g.n)"
            " from generate_series(%(first)s, %(last)s - 1) as g (n)"
            " cross join lateral (select case when g.n %% %(share)s = 0 then %(many)s"
            "   else (%(others)s::bigint[])[1 + g.n %% cardinality(%(others)s::bigint[])] end as id) u"
            " join public.texts t"
            "   on t.n = case when g.n %% %(rare)s = 0 then %(rare_text)s else abs(hashint4(g.n)) %% %(texts)s end",
            {
                "tenant": TENANT,
                "first": first,
                "last": last,
                "share": SHARE,
                "many": many,
                "others": others,
                "texts": TEXTS,
                "rare": SHARE * 4000,
                "rare_text": RARE_TEXT,
            },
        )


# --- questions ------------------------------------------------------------------------------------

_FIELDS = ", ".join(f"n.{name}" for name in notes.Note.model_fields)

_SEARCH = f"""
select {_FIELDS}, n.rank, thea.note_snippet(n.title, n.content, $5::text::tsquery)
from (
  select
    f.*,
    ts_rank(f.search_vector, $3::text::tsquery, 32)
      + (ts_filter(f.search_vector, '{{a}}') @@ $3::text::tsquery)::integer::real as rank
  from (select m.* from thea.notes m where m.search_vector @@ $3::text::tsquery offset 0) f
  where f.tenant_id = $1
    and f.user_id = $2
    and f.deleted_at is null
  order by rank desc, f.created_at desc, f.id desc
  limit $4
) n
order by n.rank desc, n.created_at desc, n.id desc
"""

_TAGGED = f"""
select {_FIELDS}
from (select m.* from thea.notes m where m.search_vector @@ $3::text::tsquery offset 0) n
where n.tenant_id = $1
  and n.user_id = $2
  and n.deleted_at is null
order by n.created_at desc, n.id desc
"""

_BARE = """
select count(*)
from thea.notes n
where n.tenant_id = $1
  and n.user_id = $2
  and n.search_vector @@ $3::text::tsquery
  and n.deleted_at is null
"""


def questions(superuser: Connection, user: int) -> list[Question]:
    """A rare word, a common one, beginnings of both, several, and tags."""
    searches = {
        "rare word": RARE,
        "common word": COMMON,
        "beginning of a rare word": RARE[:5],
        "common and rare word": f"{COMMON} {RARE}",
        "common word, excluding a rare one": f"{COMMON} -{RARE}",
    }
    return [
        *(_search(superuser, user, name, text) for name, text in searches.items()),
        _tagged(superuser, user, "two tags, both", " & "),
        _tagged(superuser, user, "two tags, any", " | "),
    ]


def _search(superuser: Connection, user: int, name: str, text: str) -> Question:
    groups = Jsonb(parse(text))
    row = superuser.execute(
        "select thea.note_query(thea.note_scope(%s, %s), %s, false)::text, thea.note_query('', %s, true)::text",
        [TENANT, user, groups, groups],
    ).fetchone()
    asked, marks = row or ("", "")
    ours = {"tenant_id": TENANT, "user_id": user, "groups": groups, "limit": 20}
    return Question(
        f"{name}: {text}",
        notes.SEARCH.text,
        [ours[parameter] for parameter in notes.SEARCH.parameters],
        _SEARCH,
        [TENANT, user, asked, 20, marks],
    )


def _tagged(superuser: Connection, user: int, name: str, operator: str) -> Question:
    tags = list(TAGS[:2])
    [scope] = superuser.execute("select thea.note_scope(%s, %s)", [TENANT, user]).fetchone() or [""]
    ours = {"tenant_id": TENANT, "user_id": user, "tags": tags, "match_all": operator == " & "}
    return Question(
        f"{name}: {', '.join(tags)}",
        notes.GET_BY_TAGS.text,
        [ours[parameter] for parameter in notes.GET_BY_TAGS.parameters],
        _TAGGED,
        [TENANT, user, operator.join(f"'{scope}#{tag}'" for tag in tags)],
    )


# --- asking ---------------------------------------------------------------------------------------


def measure(database: TestDatabase, user: int, rounds: int) -> list[Answer]:
    """Ask every question in every round, of both in random order."""
    with ExitStack() as resources:
        superuser = resources.enter_context(psycopg.connect(database.superuser_url, autocommit=True))
        # The owner is bound by row security as well, unless it is told otherwise.
        superuser.execute("alter table thea.notes no force row level security")
        service = resources.enter_context(psycopg.connect(database.app_url, autocommit=True))
        service.execute(f"set app.tenant_id = '{TENANT}'")
        owner = resources.enter_context(psycopg.connect(database.migrator_url, autocommit=True))
        owner.execute("set role thea_owner; set row_security = off; set plan_cache_mode = force_custom_plan")
        for connection in (service, owner):
            connection.execute("set jit = off")
        asked = questions(superuser, user)
        return [_ask(one, service, owner, rounds, _plan(superuser, one)) for one in track(asked, console=_err())]


def _ask(question: Question, service: Connection, owner: Connection, rounds: int, plan: str) -> Answer:
    ways: list[tuple[list[float], Callable[[], int]]] = [
        ([], lambda: _run(service, question.ours, question.our_values)),
        ([], lambda: _run(owner, question.owners, question.owner_values)),
    ]
    counts = {run() for _, run in ways for _ in range(6)}  # until every plan is made and every page read
    if len(counts) != 1:
        raise SystemExit(f"{question.name}: the answers differ: {counts} rows")
    for _ in range(rounds):
        for times, run in random.sample(ways, k=2):
            times.append(_timed(run))
    bare = [_timed(lambda: _run(service, _BARE, question.owner_values[:3])) for _ in range(5)]
    return Answer(question, counts.pop(), ways[0][0], ways[1][0], statistics.median(bare), plan)


def _timed(run: Callable[[], int]) -> float:
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1000


def _run(connection: Connection, statement: str, values: Sequence[object]) -> int:
    with psycopg.RawCursor(connection) as cursor:
        return len(cursor.execute(statement.encode(), values, prepare=True, binary=True).fetchall())


def _plan(superuser: Connection, question: Question) -> str:
    """The plan inside the function, which the server reports of itself."""
    plans: list[str] = []

    def keep(diagnostic: psycopg.errors.Diagnostic) -> None:
        plans.append(diagnostic.message_primary or "")

    superuser.execute(
        f"load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on;"
        f"set auto_explain.log_analyze = on; set auto_explain.log_timing = off; set client_min_messages = log;"
        f"set jit = off; set app.tenant_id = '{TENANT}'"
    )
    superuser.add_notice_handler(keep)
    _run(superuser, question.ours, question.our_values)
    superuser.remove_notice_handler(keep)
    superuser.execute("set client_min_messages = notice; set auto_explain.log_min_duration = -1")
    inner = [plan for plan in plans if "thea.notes" in plan or "notes_search_vector_idx" in plan]
    return inner[0].partition("\n")[2] if inner else "\n".join(plans)


def _value(connection: Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def _err() -> Console:
    return Console(stderr=True, quiet=not sys.stderr.isatty())


# --- telling --------------------------------------------------------------------------------------


def show(answers: Sequence[Answer]) -> None:
    """The table for people, and the plans."""
    table = Table(title="A search through row security, times what the owner takes without it")
    for column in ("", "rows", "service, ms", "owner, ms", "ratio", f"at most {AT_MOST:g}", "no function, ms"):
        table.add_column(column, justify="left" if not column else "right")
    for answer in answers:
        table.add_row(
            answer.question.name,
            str(answer.rows),
            f"{statistics.median(answer.ours):.2f}",
            f"{statistics.median(answer.owners):.2f}",
            f"{answer.ratio:.2f}",
            "[green]cleared[/]" if answer.ratio <= AT_MOST else "[red]missed[/]",
            f"{answer.bare:.2f}",
        )
    console = Console(width=max(Console().width, 110))
    console.print(table)
    for answer in answers:
        console.print(f"\n[bold]{answer.question.name}[/]")
        console.print(answer.plan, highlight=False, markup=False)


def as_json(answers: Sequence[Answer]) -> str:
    """The same for machines."""
    return json.dumps(
        [
            {
                "question": answer.question.name,
                "rows": answer.rows,
                "service_ms": round(statistics.median(answer.ours), 3),
                "owner_ms": round(statistics.median(answer.owners), 3),
                "ratio": round(answer.ratio, 3),
                "at_most": AT_MOST,
                "no_function_ms": round(answer.bare, 3),
                "plan": answer.plan,
            }
            for answer in answers
        ],
        indent=2,
    )


def main(
    size: Annotated[int, typer.Option(min=1000, help="Notes of the tenant; one user has every fiftieth.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=3, help="How often each question is asked.")] = 40,
    *,
    smoke: Smoke = False,
    json_: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when a ratio is too large.")] = False,
) -> None:
    """What row security costs a search. The server is the one that the tests would take."""
    if smoke:
        size, rounds = 1000, 3
    with ExitStack() as resources:
        database = start_server(resources).new_database(resources)
        started = time.perf_counter()
        user = fill(database, size)
        print(f"{size} notes written in {time.perf_counter() - started:.0f} s", file=sys.stderr)
        answers = measure(database, user, rounds)
    print(as_json(answers)) if json_ else show(answers)
    if check and any(answer.ratio > AT_MOST for answer in answers):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
