"""What the words of a note, by which a search finds it, add to its insert.

Notes are inserted one by one within the server, as the trigger makes their search vector, and with the same vector
ready made, in turn. A number is the median of the rounds' ratios, so the machine hardly matters.
"""

from __future__ import annotations

import json
import random
import statistics
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import psycopg
import typer
from options import Smoke
from rich.console import Console
from rich.table import Table

from thea_store.testing import start_server

# Characters of a note, how many are inserted in a round, and the ratio that is hoped for.
SIZES = {120: (400, 1.2), 1200: (80, 2.6)}

_WORDS = (
    "mañana llamar Marta hablar presupuesto reunión comprar leche después volvió médico guardia factura teléfono casa"
    " campo jardín vecino viernes tarde pedir cita dentista coche taller revisar aceite ruedas hotel reservar vuelo"
)
_LITTLE = "de la que el y en para con por un"

_FUNCTION = """
create function pg_temp.insert_notes(of_user bigint, is_ready boolean) returns double precision language plpgsql as $$
declare
  started constant timestamptz := clock_timestamp();
  note record;
begin
  for note in select * from texts order by n loop
    insert into thea.notes (tenant_id, user_id, content, search_vector)
    values ('acme', of_user, note.content, case when is_ready then note.vector else '' end);
  end loop;
  return extract(epoch from clock_timestamp() - started) * 1e6 / (select count(*) from texts);
end
$$
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """Microseconds of the server for a note, and the median ratio."""

    characters: int
    by_trigger: float
    ready: float
    ratio: float
    hoped_for: float


def _texts(characters: int, count: int) -> list[str]:
    rng = random.Random(5)
    syllables = [consonant + vowel for consonant in "bcdfglmnprstv" for vowel in "aeiouáé"]
    words = [*_WORDS.split(), *("".join(rng.choices(syllables, k=3)) for _ in range(400))]
    texts = []
    for _ in range(count):
        text = ""
        while len(text) < characters:
            word = rng.choice(words) if rng.random() < 0.6 else rng.choice(_LITTLE.split())
            text += word + rng.choice([" "] * 9 + [", "])
        texts.append(text[:characters])
    return texts


def measure(connection: psycopg.Connection[Any], characters: int, rounds: int) -> Answer:
    """Insert the same notes in both ways in each round, and undo each."""
    count, hoped_for = SIZES[characters]
    connection.execute("truncate texts")
    with connection.cursor().copy("copy texts (n, content) from stdin") as copy:
        for row in enumerate(_texts(characters, count)):
            copy.write_row(row)
    [user] = connection.execute("select id from thea.users where tenant_id = 'acme'").fetchone() or [0]
    connection.execute("update texts set vector = thea.note_vector('acme', %s, null, '{}', content)", [user])
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(rounds + 1):
        for is_ready in random.sample([True, False], k=2):
            connection.execute("begin")
            if is_ready:
                connection.execute("alter table thea.notes disable trigger search_vector")
            [taken] = connection.execute("select pg_temp.insert_notes(%s, %s)", [user, is_ready]).fetchone() or [0.0]
            connection.execute("rollback")
            times[is_ready].append(taken)
    by_trigger, ready = times[False][1:], times[True][1:]  # without the first, which makes plans
    ratio = statistics.median(one / other for one, other in zip(by_trigger, ready, strict=True))
    return Answer(characters, statistics.median(by_trigger), statistics.median(ready), ratio, hoped_for)


def main(
    rounds: Annotated[int, typer.Option(min=3, help="How often the notes are inserted in each way.")] = 12,
    *,
    smoke: Smoke = False,
    json_: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """What the words of a note add to its insert. The server is the one that the tests would take."""
    rounds = 3 if smoke else rounds
    with ExitStack() as resources:
        database = start_server(resources).new_database(resources)
        connection = resources.enter_context(psycopg.connect(database.superuser_url, autocommit=True))
        connection.execute("insert into thea.users (tenant_id, telegram_id) values ('acme', 1)")
        connection.execute("create temporary table texts (n int, content text, vector tsvector)")
        connection.execute(_FUNCTION)
        answers = [measure(connection, characters, rounds) for characters in SIZES]
    if json_:
        print(json.dumps([asdict(answer) for answer in answers], indent=2))
        return
    table = Table(title="The insert of a note, times the same with its search vector ready made")
    for column in ("characters", "by trigger, µs", "ready, µs", "ratio", "hoped for"):
        table.add_column(column, justify="right")
    for answer in answers:
        figures = (f"{answer.by_trigger:.0f}", f"{answer.ready:.0f}", f"{answer.ratio:.2f}", f"{answer.hoped_for:.1f}")
        table.add_row(str(answer.characters), *figures)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
