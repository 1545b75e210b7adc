from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.support.profiles import scaled
from thea_store import (
    InvalidArgumentError,
    InvalidReferenceError,
    InvalidTenantError,
    NotFoundError,
    Settings,
    Store,
    User,
)
from thea_store.assistant.note_search import parse
from thea_store.assistant.notes import MARK_END, MARK_START, Note, Notes
from thea_store.database import Database
from thea_store.testing import TestDatabase

shared = settings(max_examples=scaled(60), suppress_health_check=[HealthCheck.function_scoped_fixture])

# PostgreSQL's text has no NUL, and UTF-8 no surrogates.
TEXT = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
TAGS = st.lists(st.text(alphabet="aB'\\:*&|!#ñ <->日🦙", min_size=1, max_size=6).filter(str.strip), max_size=5)


@pytest.fixture
def find(store: Store, tenant: str, user: User) -> Callable[..., Any]:
    """Makes notes of the given contents, searches them, and returns the contents found, best first."""

    async def found(query: str, *contents: str) -> list[str]:
        for content in contents:
            await store.notes.create(tenant, user.id, content)
        return [hit.content for hit in await store.notes.search(tenant, user.id, query)]

    return found


@pytest.fixture
def snippet_of(store: Store, tenant: str, user: User) -> Callable[..., Any]:
    """Makes a note, which the query finds, and returns its snippet with brackets for marks."""

    async def snippet(query: str, content: str, title: str | None) -> str:
        await store.notes.create(tenant, user.id, content, title=title, tags=["verde"])
        [hit] = await store.notes.search(tenant, user.id, query)
        return hit.snippet.replace(MARK_START, "[").replace(MARK_END, "]")

    return snippet


# --- what every note has --------------------------------------------------------------------------


async def test_a_note_has_what_it_was_made_with(store: Store, tenant: str, user: User) -> None:
    at = datetime(2027, 3, 1, 9, tzinfo=UTC)
    note = await store.notes.create(
        tenant,
        user.id,
        "Llamar al médico",
        title="Salud",
        category="personal",
        priority=-3,
        tags=("b", "a", "b"),
        is_pinned=True,
        reminder_datetime=at,
        extra_data={"color": "rojo"},
    )

    assert (note.user_id, note.content, note.title, note.category) == (user.id, "Llamar al médico", "Salud", "personal")
    assert (note.priority, note.tags, note.is_pinned) == (-3, ["b", "a"], True)
    assert (note.reminder_datetime, note.extra_data) == (at, {"color": "rojo"})
    assert await store.notes.get_by_id(tenant, note.id) == note


async def test_a_note_needs_but_its_content(store: Store, tenant: str, user: User) -> None:
    note = await store.notes.create(tenant, user.id, "")
    [same] = await store.notes.create_many(tenant, [{"user_id": user.id, "content": ""}])

    for made in (note, same):
        assert (made.content, made.title, made.category, made.priority) == ("", None, None, 0)
        assert (made.tags, made.is_pinned, made.reminder_datetime, made.extra_data) == ([], False, None, None)


async def test_update_changes_all_that_a_note_says(store: Store, tenant: str, user: User) -> None:
    note = await store.notes.create(tenant, user.id, "x", title="t", tags=["a"], extra_data={"a": 1})
    changes: dict[str, Any] = {
        "title": None,
        "content": "y",
        "category": "c",
        "priority": 2**31 - 1,
        "tags": ["z", "a", "z"],
        "is_pinned": True,
        "reminder_datetime": datetime(2027, 1, 1, tzinfo=UTC),
        "extra_data": None,
    }
    changed = await store.notes.update(tenant, note.id, **changes)

    assert changed.tags == ["z", "a"]
    assert changed == note.model_copy(update=changes | {"tags": ["z", "a"], "updated_at": changed.updated_at})


async def test_a_note_of_nobody_or_of_another_tenants_user_is_refused_alike(
    store: Store, tenant: str, other_tenant: str, user: User
) -> None:
    await store.users.create(other_tenant, telegram_id=1)
    messages = set()
    for refused_tenant, user_id in ((tenant, 2**62), (other_tenant, user.id)):
        with pytest.raises(InvalidReferenceError) as refused:
            await store.notes.create(refused_tenant, user_id, "x")
        messages.add(str(refused.value))

    assert len(messages) == 1


async def test_a_note_of_a_deleted_user_is_not_restored(store: Store, tenant: str, user: User) -> None:
    note = await store.notes.create(tenant, user.id, "x")
    await store.notes.delete(tenant, note.id)
    await store.users.delete(tenant, user.id)
    with pytest.raises(NotFoundError):
        await store.notes.restore(tenant, note.id)
    await store.users.restore(tenant, user.id)

    assert await store.notes.exists(tenant, note.id) is False
    assert (await store.notes.restore(tenant, note.id)).deleted_at is None


async def test_filters_narrow_pages_iteration_and_count_alike(store: Store, tenant: str, user: User) -> None:
    other = await store.users.create(tenant, telegram_id=2)
    rows: list[dict[str, Any]] = [
        {"user_id": user.id, "content": "0"},
        {"user_id": user.id, "content": "1", "category": "casa", "tags": ["a", "b"]},
        {"user_id": user.id, "content": "2", "category": "casa", "is_pinned": True},
        {"user_id": other.id, "content": "3", "tags": ["b", "c"], "is_pinned": True},
    ]
    made = await store.notes.create_many(tenant, rows)
    later = made[0].created_at + timedelta(microseconds=1)
    expected: list[tuple[dict[str, Any], str]] = [
        ({}, "0123"),
        ({"user_id": user.id}, "012"),
        ({"category": "casa"}, "12"),
        ({"is_pinned": True}, "23"),
        ({"is_pinned": False, "user_id": user.id}, "01"),
        ({"tags": ["b"]}, "13"),
        ({"tags": ("a", "c")}, "13"),
        ({"tags": ["a", "c"], "user_id": user.id}, "1"),
        ({"tags": ["nobody's"]}, ""),
        ({"tags": []}, ""),
        ({"tags": None, "category": None}, "0123"),
        ({"created_from": made[0].created_at}, "0123"),
        ({"created_from": later}, ""),
        ({"created_before": made[0].created_at}, ""),
        ({"created_before": later, "user_id": other.id}, "3"),
    ]
    for filters, contents in expected:
        page = await store.notes.get_all(tenant, **filters)
        oldest = await store.notes.get_all(tenant, newest_first=False, **filters)

        assert "".join(note.content for note in page.items) == contents[::-1], filters
        assert "".join(note.content for note in oldest.items) == contents, filters
        assert "".join([note.content async for note in store.notes.iterate(tenant, **filters)]) == contents, filters
        assert await store.notes.count(tenant, **filters) == len(contents), filters


async def test_a_category_has_its_notes_newest_first(store: Store, tenant: str, user: User) -> None:
    for content, category in (("1", "casa"), ("2", "Casa"), ("3", "casa"), ("4", None)):
        await store.notes.create(tenant, user.id, content, category=category)

    assert [note.content for note in await store.notes.get_by_category(tenant, user.id, "casa")] == ["3", "1"]
    assert await store.notes.get_by_category(tenant, user.id, "nada") == []


async def test_pins_toggled_at_once_are_each_counted(store: Store, tenant: str, user: User) -> None:
    note = await store.notes.create(tenant, user.id, "x")
    toggled = await asyncio.gather(*(store.notes.toggle_pin(tenant, note.id) for _ in range(21)))

    assert sum(each.is_pinned for each in toggled) == 11
    assert (await store.notes.toggle_pin(tenant, note.id)).is_pinned is False
    with pytest.raises(NotFoundError):
        await store.notes.toggle_pin(tenant, 2**62)


# --- tags -----------------------------------------------------------------------------------------


async def test_tags_are_added_after_those_there_are_each_once(store: Store, tenant: str, user: User) -> None:
    note = await store.notes.create(tenant, user.id, "x", tags=["b", "a"])

    assert (await store.notes.add_tags(tenant, note.id, ["c", "a", "d", "c"])).tags == ["b", "a", "c", "d"]
    assert (await store.notes.remove_tags(tenant, note.id, ["a", "d", "zzz"])).tags == ["b", "c"]
    assert (await store.notes.add_tags(tenant, note.id, [])).tags == ["b", "c"]
    assert (await store.notes.remove_tags(tenant, note.id, ())).tags == ["b", "c"]
    for call in (store.notes.add_tags, store.notes.remove_tags):
        with pytest.raises(NotFoundError):
            await call(tenant, 2**62, ["a"])


async def test_no_tag_is_lost_when_many_write_at_once(store: Store, tenant: str, user: User) -> None:
    note = await store.notes.create(tenant, user.id, "x", tags=[f"old{n}" for n in range(20)])
    await asyncio.gather(
        *(store.notes.add_tags(tenant, note.id, [f"new{n}", "all"]) for n in range(20)),
        *(store.notes.remove_tags(tenant, note.id, [f"old{n}"]) for n in range(20)),
    )
    now = await store.notes.get_by_id(tenant, note.id)

    assert now is not None
    assert sorted(now.tags) == sorted(["all", *(f"new{n}" for n in range(20))])


@shared
@given(start=TAGS, steps=st.lists(st.tuples(st.booleans(), TAGS), max_size=4))
async def test_tags_are_merged_as_lists_without_repetitions_would_be(
    store: Store, tenant: str, user: User, start: list[str], steps: list[tuple[bool, list[str]]]
) -> None:
    note = await store.notes.create(tenant, user.id, "x", tags=start)
    expected = list(dict.fromkeys(start))
    for is_added, tags in steps:
        if is_added:
            expected = list(dict.fromkeys(expected + tags))
            note = await store.notes.add_tags(tenant, note.id, tags)
        else:
            expected = [tag for tag in expected if tag not in tags]
            note = await store.notes.remove_tags(tenant, note.id, tags)

    assert note.tags == expected


@shared
@given(notes=st.lists(TAGS, max_size=5), asked=TAGS)
async def test_tags_find_the_notes_with_any_or_all_of_them(
    store: Store, tenant: str, notes: list[list[str]], asked: list[str]
) -> None:
    user = await store.users.create(tenant, telegram_id=time.monotonic_ns())
    made = await store.notes.create_many(
        tenant, [{"user_id": user.id, "content": str(n), "tags": tags} for n, tags in enumerate(notes)]
    )
    newest_first = made[::-1]

    assert await store.notes.get_by_tags(tenant, user.id, asked) == [
        note for note in newest_first if set(asked) & set(note.tags)
    ]
    assert await store.notes.get_by_tags(tenant, user.id, asked, match_all=True) == [
        note for note in newest_first if asked and set(asked) <= set(note.tags)
    ]


async def test_tags_are_counted_the_most_used_first(store: Store, tenant: str, user: User) -> None:
    assert await store.notes.tag_counts(tenant, user.id) == {}

    for tags in (["b", "a"], ["b"], ["c", "b", "a"]):
        gone = await store.notes.create(tenant, user.id, "x", tags=[*tags, "gone"])
        await store.notes.delete(tenant, gone.id)
        await store.notes.create(tenant, user.id, "x", tags=tags)
    counts = await store.notes.tag_counts(tenant, user.id)

    assert list(counts.items()) == [("b", 3), ("a", 2), ("c", 1)]


async def test_a_note_has_up_to_100_tags(store: Store, tenant: str, user: User) -> None:
    long = [f"{n:03}" + "🦙" * 252 for n in range(100)]
    note = await store.notes.create(tenant, user.id, "x", tags=long)

    assert (await store.notes.get_by_tags(tenant, user.id, long, match_all=True))[0].tags == long
    with pytest.raises(InvalidArgumentError, match="^tags"):
        await store.notes.add_tags(tenant, note.id, ["one too many"])
    with pytest.raises(InvalidArgumentError, match="^tags"):
        await store.notes.get_by_tags(tenant, user.id, [str(n) for n in range(101)])


# --- what is refused before any I/O ---------------------------------------------------------------


@pytest.fixture
def nowhere() -> Notes:
    """Notes in a database that cannot be reached, so that what is refused was refused before."""
    return Notes(Database(Settings(url="postgresql://nobody@127.0.0.1:1/nothing")))


@pytest.mark.parametrize(
    ("tags", "argument"),
    [
        ([""], r"tags\[0\]"),
        (["a", " \t"], r"tags\[1\]"),
        (["a", 5], r"tags\[1\]"),
        ([None], r"tags\[0\]"),
        (["a\0"], r"tags\[0\]"),
        (["\ud800"], r"tags\[0\]"),
        (["a" * 256], r"tags\[0\]"),
        ("urgente", "tags"),
        (b"urgente", "tags"),
        ({"a", "b"}, "tags"),
        (None, "tags"),
        (5, "tags"),
    ],
)
async def test_a_tag_is_a_text_that_is_not_empty(nowhere: Notes, tags: Any, argument: str) -> None:
    calls = [
        nowhere.create("t", 1, "x", tags=tags),
        nowhere.update("t", 1, tags=tags),
        nowhere.add_tags("t", 1, tags),
        nowhere.remove_tags("t", 1, tags),
        nowhere.get_by_tags("t", 1, tags),
    ]
    if tags is not None:
        calls += [nowhere.get_all("t", tags=tags), nowhere.count("t", tags=tags)]
    for call in calls:
        with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
            await call


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda notes: notes.search("t", 1, "a\0"), "query"),
        (lambda notes: notes.search("t", 1, "\ud800"), "query"),
        (lambda notes: notes.search("t", 1, None), "query"),
        (lambda notes: notes.search("t", 1, 5), "query"),
        (lambda notes: notes.search("t", 1, "a" * 1_000_001), "query"),
        (lambda notes: notes.search("t", "1", "a"), "user_id"),
        (lambda notes: notes.search("t", 1, "", limit=0), "limit"),
        (lambda notes: notes.search("t", 1, "a", limit=1001), "limit"),
        (lambda notes: notes.get_by_tags("t", 1, ["a"], match_all=1), "match_all"),
        (lambda notes: notes.get_by_category("t", 1, ""), "category"),
        (lambda notes: notes.toggle_pin("t", True), "note_id"),
        (lambda notes: notes.add_tags("t", None, ["a"]), "note_id"),
        (lambda notes: notes.create("t", 1, None), "content"),
        (lambda notes: notes.create("t", 1, "x", priority=2**31), "priority"),
        (lambda notes: notes.create("t", 1, "x", is_pinned=1), "is_pinned"),
        (lambda notes: notes.create("t", 1, "x", extra_data=[]), "extra_data"),
        (lambda notes: notes.create("t", 1, "x", reminder_datetime=datetime(2027, 1, 1)), "reminder_datetime"),  # noqa: DTZ001
        (lambda notes: notes.update("t", 1, content=None), "content"),
        (lambda notes: notes.get_all("t", created_from="2027"), "created_from"),
    ],
)
async def test_a_bad_argument_is_named(nowhere: Notes, call: Callable[[Notes], Any], argument: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        await call(nowhere)

    assert refused.value.argument == argument


@pytest.mark.parametrize(
    "call",
    [
        lambda notes: notes.search("", 1, ""),
        lambda notes: notes.get_by_tags("", 1, []),
        lambda notes: notes.get_by_category("", 1, "a"),
        lambda notes: notes.tag_counts("", 1),
        lambda notes: notes.add_tags("", 1, []),
        lambda notes: notes.remove_tags("", 1, []),
        lambda notes: notes.toggle_pin("", 1),
    ],
)
async def test_a_bad_tenant_is_refused_first(nowhere: Notes, call: Callable[[Notes], Any]) -> None:
    with pytest.raises(InvalidTenantError):
        await call(nowhere)


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "query"),
    [
        ("La reunión del lunes", "reunión"),
        ("La reunión del lunes", "REUNION"),
        ("La reunión del lunes", "reuniones"),
        ("LAS REUNIONES DEL LUNES", "reunion"),
        ("La reunio\u0301n, con el acento aparte", "reunión"),
        ("La reunión del lunes", "reunio\u0301n"),
        ("Gastos de marzo", "gasto"),
        ("comprar pan", "comprando"),
        ("compré pan", "comprar"),
        ("Las médicas de guardia", "MÉDICO"),
        ("la canción del verano", "canciones"),
        ("unos niños", "niña"),
        ("pingüinos", "pinguino"),
        ("he runs every day", "running"),
        ("running late", "runs"),
        ("two meetings", "Meeting"),
        ("they studied", "studies"),
        ("big cities", "city"),
        ("houses", "house"),
        ("Übergrößen", "ubergroßen"),
        ("факс", "ФАКС"),
        ("version 3.14 beta", "3.14"),
        ("write to ana@example.com", "ana@example.com"),
        ("see https://example.com/a/b", "example.com"),
        ("e-mail", "e-mail"),
        ("rock'n'roll", "rock'n'roll"),
        ("C:\\temp\\x", "temp"),
        ("¿Quién?🦙¡Ana!", "ana"),
        ("if a<b then c>d", "<b then"),
        ("<importante>", "importante"),
        ("reunión🎉con todos", "reunión🎉"),
    ],
)
async def test_words_are_found_in_any_form(find: Callable[..., Any], content: str, query: str) -> None:
    assert await find(query, content, "otra cosa") == [content]


CORPUS = {
    "a": "La casa de campo tiene jardín",
    "b": "Campo de fútbol junto a la casa",
    "c": "Reunión sobre el presupuesto anual",
    "d": "Presupuestos y reuniones: the annual budget",
    "e": "To be or not to be",
    "f": "Comprar leche",
}


@pytest.fixture
async def corpus(store: Store, tenant: str, user: User) -> Callable[[str], Any]:
    """Searches the corpus and returns the letters of what it finds, in their order."""
    await store.notes.create_many(
        tenant, [{"user_id": user.id, "content": content, "category": letter} for letter, content in CORPUS.items()]
    )

    async def letters(query: str) -> str:
        return "".join(sorted(str(hit.category) for hit in await store.notes.search(tenant, user.id, query)))

    return letters


@pytest.mark.parametrize(
    ("query", "found"),
    [
        # all words, in any order
        ("casa campo", "ab"),
        ("campo casa jardín", "a"),
        ("casa presupuesto", ""),
        # the beginning of the last word, and of no other
        ("presup", "cd"),
        ("reunion presup", "cd"),
        ("presup reunion", ""),
        ("c", "abf"),
        # phrases: the words as written, in their order
        ('"casa de campo"', "a"),
        ('"CAMPO DE FUTBOL"', "b"),
        ('"campo de casa"', ""),
        ('"presupuesto anual"', "c"),
        ('"presupuestos anuales"', ""),
        ('"jardín la"', ""),
        ('"campo casa"', ""),
        ('"to be or not to be"', "e"),
        ('"casa de cam', "a"),
        ('"casa de ca" campo', ""),
        ('"casa de campo" "tiene jardín"', "a"),
        # not
        ("casa -jardín", "b"),
        ("casa -jardines", "b"),
        ("casa -jard", "ab"),
        ('casa -"casa de campo"', "b"),
        ('campo -"de campo"', "b"),
        ("-casa", "cdef"),
        ("-casa -reunión", "ef"),
        ("-la", "cdef"),
        ("casa -casa", ""),
        # or
        ("jardín or leche", "af"),
        ("jardín OR fútbol casa", "ab"),
        ("casa jardín or reunión annual", "ad"),
        ('leche or "to be"', "ef"),
        ("leche or -casa", "cdef"),
        ("leche or", "f"),
        ("or leche", "f"),
        # stop words count where there is nothing else
        ("la casa del campo", "ab"),
        ("the budget", "d"),
        ("sobre presupuesto", "cd"),
        ("de", "ab"),
        ("to be", "e"),
        ("leche or the", "df"),
        ("de -jardín", "b"),
        # what means nothing is nothing
        ("casa & (campo | !jardín) <-> *:", "a"),
        ("casa ¡! -- …", "ab"),
        ("", ""),
        (" \t\n", ""),
        ('¡! -- "" …🦙', ""),
        ("xyzzy", ""),
    ],
)
async def test_a_query_finds(corpus: Callable[[str], Any], query: str, found: str) -> None:
    assert await corpus(query) == found


def test_a_query_asks_the_index_for_one_users_words_alone(superuser: psycopg.Connection[Any]) -> None:
    def asked(query: str) -> str:
        row = superuser.execute("select thea.note_query('7:', %s, false)::text", [Jsonb(parse(query))]).fetchone()
        return str(row and row[0])

    assert asked("días pasad") == (
        "( '7:dias' | '7:dias' | '7:dia' | '7:diito' | '7:diitos' | '7:diita' | '7:diitas' | '7:diasmente' )"
        " & ( '7:pasad':* | '7:pas' | '7:pasad' | '7:pasadmente' )"
    )
    assert asked('-"a b"') == "'7:' & !( '7:a' <-> '7:b' )"


async def test_tags_are_words_too(store: Store, tenant: str, user: User) -> None:
    await store.notes.create(tenant, user.id, "x", tags=["Música clásica"])

    assert len(await store.notes.search(tenant, user.id, "musicas")) == 1


async def test_a_title_is_above_any_content(store: Store, tenant: str, user: User) -> None:
    title = await store.notes.create(tenant, user.id, "otra cosa", title="El gasto, y después también lo de marzo")
    tag = await store.notes.create(tenant, user.id, "otra cosa", tags=["gasto", "marzo"])
    await store.notes.create(tenant, user.id, "gasto marzo " * 500)
    await store.notes.create(tenant, user.id, " ".join(f"gasto{n} marzo{n}" for n in range(900)))
    once = await store.notes.create(tenant, user.id, "gasto de otra cosa, que fue en el mes de marzo")

    for query in ("gasto", "gasto marzo", "marz", "gastos or marzo", "gasto mar"):
        hits = await store.notes.search(tenant, user.id, query)
        assert hits[0].id == title.id, query
        assert {hit.id for hit in hits} >= {tag.id, once.id}, query
        assert hits[0].rank >= 1 > hits[1].rank
        assert [hit.rank for hit in hits] == sorted((hit.rank for hit in hits), reverse=True)


async def test_among_equals_the_newest_is_first_up_to_the_limit(store: Store, tenant: str, user: User) -> None:
    made = await store.notes.create_many(tenant, [{"user_id": user.id, "content": "igual"}] * 30)
    newest_first = [note.id for note in made[::-1]]

    assert [hit.id for hit in await store.notes.search(tenant, user.id, "igual")] == newest_first[:20]
    assert [hit.id for hit in await store.notes.search(tenant, user.id, "igual", limit=1)] == newest_first[:1]
    assert [hit.id for hit in await store.notes.search(tenant, user.id, "igual", limit=1000)] == newest_first


async def test_a_hit_is_the_note_with_its_rank_and_snippet(store: Store, tenant: str, user: User) -> None:
    note = await store.notes.create(tenant, user.id, "Hola", title="t", tags=["a"], extra_data={"b": 1}, priority=2)
    [hit] = await store.notes.search(tenant, user.id, "hola")

    assert hit.model_dump(exclude={"rank", "snippet"}) == note.model_dump()


@pytest.mark.parametrize(
    ("title", "content", "query", "snippet"),
    [
        (None, "Las reuniones del equipo", "reunión", "Las [reuniones] del equipo"),
        (None, "He runs, they were running", "runs", "He [runs], they were [running]"),
        (None, "Tres casas y un casero", "cas", "Tres [casas] y un [casero]"),
        (None, "La casa de campo y otra casa", '"casa de campo"', "La [casa] [de] [campo] y otra [casa]"),
        (None, "La casa de la playa", "la casa", "La [casa] de la playa"),
        (None, "La casa de la playa", "casa -campo", "La [casa] de la playa"),
        ("Reunión", "mañana a las diez", "reuniones", "[Reunión]"),
        ("Reunión", "la reunión es mañana", "reuniones", "la [reunión] es mañana"),
        ("Casa", "con jardín", "casa jardín", "con [jardín]"),
        ("Casa", "con jardín", "-campo", "con jardín"),
        (None, "con jardín", "verde", "con jardín"),
        (None, f"una {MARK_START}casa{MARK_END} falsa", "casa", "una [casa] falsa"),
        (None, f"{MARK_START}falsa{MARK_END}", "-casa", "falsa"),
        (None, "1 < 2 & 3 > 2: casa <b>bold</b>", "casa", "1 < 2 & 3 > 2: [casa] <b>bold</b>"),
    ],
)
async def test_a_snippet_marks_what_matches(
    snippet_of: Callable[..., Any], title: str | None, content: str, query: str, snippet: str
) -> None:
    assert await snippet_of(query, content, title) == snippet


async def test_the_snippet_of_a_long_note_is_the_part_that_matches(snippet_of: Callable[..., Any]) -> None:
    content = "lorem ipsum " * 200 + "una casa " + "dolor sit " * 200 + "campo " + "amet consectetur " * 200
    snippet = await snippet_of("casa campo", content, "casa")

    assert "ipsum una [casa] dolor" in snippet
    assert len(snippet) < 300


@pytest.mark.parametrize("words", [1, 99, 101, 150, 998, 1000, 5000])
async def test_a_snippet_marks_the_last_word_of_a_note_too(snippet_of: Callable[..., Any], words: int) -> None:
    assert (await snippet_of('"casa"', "x " * words + "casa", None)).endswith("x [casa]")


async def test_a_snippet_marks_no_part_of_a_word(snippet_of: Callable[..., Any]) -> None:
    content = "x " * 998 + "casamiento " + "x " * 100 + "una casa"  # the 2,000th character ends `casa`

    assert (await snippet_of('"casa"', content, None)).endswith("una [casa]")


async def test_what_changes_is_found_as_it_is_now(store: Store, tenant: str, user: User) -> None:
    note = await store.notes.create(tenant, user.id, "gato", title="casa", tags=["uno"])

    async def finds(*queries: str) -> list[bool]:
        return [bool(await store.notes.search(tenant, user.id, query)) for query in queries]

    assert await finds("gato", "casa", "uno", "perro") == [True, True, True, False]
    await store.notes.update(tenant, note.id, content="perro", title=None, tags=["dos"])
    assert await finds("gato", "casa", "uno", "perro", "dos") == [False, False, False, True, True]
    await store.notes.add_tags(tenant, note.id, ["tres"])
    await store.notes.toggle_pin(tenant, note.id)
    assert await finds("tres", "perro") == [True, True]
    await store.notes.delete(tenant, note.id)
    assert await finds("perro", "-gato") == [False, False]
    assert await store.notes.get_by_tags(tenant, user.id, ["tres"]) == []
    await store.notes.restore(tenant, note.id)
    assert await finds("perro", "-gato") == [True, True]
    await store.users.delete(tenant, user.id)
    assert await finds("perro", "-gato") == [False, False]


async def test_a_note_is_searched_up_to_20000_characters(find: Callable[..., Any]) -> None:
    content = "casa " + "x" * 19_000 + " campo " + "y" * 2_000 + " fin"

    assert await find("casa campo", content) == [content]
    assert await find("fin") == []


# --- any text -------------------------------------------------------------------------------------

HOSTILE = [
    "-" * 20_000,
    "casa " * 200_000,
    '"' * 999,
    "(" * 20_000,
    "!" * 500 + "a",
    "a-" * 200,
    "' or 1=1; drop table thea.notes --",
    "a:*A & b:B | !c <-> d <2> e",
    "\\' \\\\ '' \x01 \x1f \x7f",
    "½ŉ ﬁ ß İ \u0131 \u017f ǅ ① ² ৳ ﷽",
    "日本語 العربية हिन्दी ไทย 🦙👩‍👩‍👧‍👦",
    "\u202ereversed\u202c \ufeffbom\u00a0nbsp\u2028",
    "http://a.b/c?d=e#f user@host /etc/passwd 1e10 -5 +3.2e-7 v1.2.3 &amp; <b>x</b>",
    "or " * 100,
    "-or or -or",
    "a" * 300,
    "🦙" * 300,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_any_text_is_a_query_and_a_note(store: Store, tenant: str, user: User, text: str) -> None:
    await store.notes.create(tenant, user.id, text, title=text[:255], tags=[f"x{text[:200]}"])
    started = time.perf_counter()
    hits = await store.notes.search(tenant, user.id, text)

    assert isinstance(hits, list)
    assert time.perf_counter() - started < 2
    assert await store.notes.get_by_tags(tenant, user.id, [f"x{text[:200]}"])


@shared
@given(
    text=TEXT
    | st.lists(
        st.sampled_from(['"', "-", "or", " ", "(", ":*", "<->", "&", "!", "'", "\\", "casa", "de", "ñu", "a-b", "3.5"])
    ).map("".join)
)
@example("")
async def test_any_text_at_all_is_a_query_and_a_note(store: Store, tenant: str, user: User, text: str) -> None:
    note = await store.notes.create(tenant, user.id, text, title=text[:255])
    hits = await store.notes.search(tenant, user.id, text, limit=1000)

    assert all(hit.user_id == user.id for hit in hits)
    assert bool(hits) <= bool(parse(text))
    await store.notes.purge(tenant, note.id)


WORDS = st.sampled_from(["casa", "campo", "jardín", "leche", "fútbol", "reunión", "presupuesto"])


@shared
@given(
    notes=st.lists(st.lists(WORDS, max_size=5), max_size=6),
    groups=st.lists(st.lists(st.tuples(st.booleans(), WORDS), min_size=1, max_size=3), min_size=1, max_size=3),
)
async def test_and_or_and_not_mean_what_they_say(
    store: Store, tenant: str, notes: list[list[str]], groups: list[list[tuple[bool, str]]]
) -> None:
    user = await store.users.create(tenant, telegram_id=time.monotonic_ns())
    await store.notes.create_many(tenant, [{"user_id": user.id, "content": " ".join(words)} for words in notes])
    query = " or ".join(" ".join(f"{'-' if no else ''}{word}" for no, word in group) for group in groups)
    hits = await store.notes.search(tenant, user.id, query, limit=100)

    assert sorted(hit.content for hit in hits) == sorted(
        " ".join(words)
        for words in notes
        if any(all((word not in words) if no else (word in words) for no, word in group) for group in groups)
    )


@shared
@given(
    # Words that look alike in every language, and those that are dropped in one.
    words=st.lists(st.sampled_from(["la", "sol", "de", "mar", "the", "sun"]), max_size=6),
    phrase=st.lists(st.sampled_from(["la", "sol", "de", "mar", "the", "sun"]), min_size=1, max_size=3),
)
@example(words=["sol", "mar"], phrase=["mar", "sol"])
async def test_a_phrase_is_found_exactly_where_its_words_stand_together(
    store: Store, tenant: str, words: list[str], phrase: list[str]
) -> None:
    user = await store.users.create(tenant, telegram_id=time.monotonic_ns())
    await store.notes.create(tenant, user.id, " ".join(words))
    hits = await store.notes.search(tenant, user.id, f'"{" ".join(phrase)}"')

    assert bool(hits) is any(words[n : n + len(phrase)] == phrase for n in range(len(words)))


async def test_the_longest_note_there_may_be_is_kept_and_found(store: Store, tenant: str, user: User) -> None:
    many = " ".join(chr(0x4E00 + n) for n in range(10_000))
    for content in (
        "ñ" * 1_000_000,
        *("a" * length for length in range(2_020, 2_050)),
        many,
        "🦙 " * 300_000,
        "a-b-" * 5_000,
        " ".join(f"w{n:05}s" for n in range(2_500)),
    ):
        note = await store.notes.create(tenant, user.id, content, title="ñ" * 255)
        assert (await store.notes.update(tenant, note.id, priority=1)).priority == 1

    assert len(await store.notes.search(tenant, user.id, chr(0x4E00 + 9_999))) == 1
    assert len(await store.notes.search(tenant, user.id, "w02499")) == 1


# --- whose notes ----------------------------------------------------------------------------------


async def test_nobody_finds_the_notes_of_others(store: Store, tenant: str, other_tenant: str, user: User) -> None:
    note = await store.notes.create(tenant, user.id, "casa", title="casa", category="casa", tags=["casa"])
    colleague = await store.users.create(tenant, telegram_id=2)
    stranger = await store.users.create(other_tenant, telegram_id=1001)
    notes = store.notes

    for where, who in ((tenant, colleague.id), (other_tenant, stranger.id), (other_tenant, user.id)):
        for query in ("casa", "c", '"casa"', "-campo", "casa or -casa"):
            assert await notes.search(where, who, query) == []
        assert await notes.get_by_tags(where, who, ["casa"]) == []
        assert await notes.get_by_tags(where, who, ["casa"], match_all=True) == []
        assert await notes.get_by_category(where, who, "casa") == []
        assert await notes.tag_counts(where, who) == {}
    assert (await notes.get_all(other_tenant, user_id=user.id, tags=["casa"])).items == []
    assert await notes.count(other_tenant, tags=["casa"]) == 0
    for call in (notes.add_tags(other_tenant, note.id, ["x"]), notes.remove_tags(other_tenant, note.id, ["casa"])):
        with pytest.raises(NotFoundError):
            await call
    with pytest.raises(NotFoundError):
        await notes.toggle_pin(other_tenant, note.id)
    assert await notes.get_by_id(tenant, note.id) == note


@contextmanager
def logged_in(database: TestDatabase, role: str, tenant: str | None) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute(f"set role {role}".encode())
        if tenant is not None:
            connection.execute("select set_config('app.tenant_id', %s, false)", [tenant])
        yield connection


CALLS = {
    "search_notes": ("select id from thea.search_notes(%s, %s, %s, 10)", Jsonb(parse("casa"))),
    "tagged_notes": ("select id from thea.tagged_notes(%s, %s, %s, false)", ["casa"]),
}


@pytest.fixture
async def note(store: Store, tenant: str, user: User) -> Note:
    """A user's only note, which both functions find."""
    return await store.notes.create(tenant, user.id, "casa", tags=["casa"])


@pytest.mark.parametrize("role", ["thea_app", "thea_readonly"])
@pytest.mark.parametrize("function", CALLS)
async def test_the_functions_that_see_all_notes_show_those_of_the_tenant_alone(
    thea_database: TestDatabase, note: Note, other_tenant: str, role: str, function: str
) -> None:
    statement, asked = CALLS[function]

    with logged_in(thea_database, role, note.tenant_id) as own:
        assert own.execute(statement, [note.tenant_id, note.user_id, asked]).fetchall() == [(note.id,)]
        for foreign in (other_tenant, "", None):
            with pytest.raises(errors.InsufficientPrivilege, match="not the tenant"):
                own.execute(statement, [foreign, note.user_id, asked])
    with logged_in(thea_database, role, other_tenant) as other:
        assert other.execute(statement, [other_tenant, note.user_id, asked]).fetchall() == []
        for more in ("", " as f where f.id = 0", " as f where thea.tenant() is not null"):
            with pytest.raises(errors.InsufficientPrivilege, match="not the tenant"):
                other.execute(f"{statement}{more}".encode(), [note.tenant_id, note.user_id, asked])
    with logged_in(thea_database, role, None) as nobody, pytest.raises(errors.InsufficientPrivilege, match="not the"):
        nobody.execute(statement, [note.tenant_id, note.user_id, asked])


async def test_two_tenants_users_with_the_same_id_are_two_users(
    store: Store, tenant: str, other_tenant: str, user: User, superuser: psycopg.Connection[Any]
) -> None:
    superuser.execute(
        "insert into thea.users (tenant_id, id, telegram_id) overriding system value values (%s, %s, 1)",
        [other_tenant, user.id],
    )
    for where in (tenant, other_tenant):
        await store.notes.create(where, user.id, f"casa {where}", tags=["casa"])

    for where in (tenant, other_tenant):
        assert [hit.tenant_id for hit in await store.notes.search(where, user.id, "casa")] == [where]
        assert [note.tenant_id for note in await store.notes.get_by_tags(where, user.id, ["casa"])] == [where]


@pytest.mark.parametrize("function", CALLS)
def test_nobody_else_may_call_those_functions(thea_database: TestDatabase, tenant: str, function: str) -> None:
    statement, asked = CALLS[function]
    with (
        logged_in(thea_database, "thea_maintenance", tenant) as connection,
        pytest.raises(errors.InsufficientPrivilege, match="permission denied"),
    ):
        connection.execute(statement, [tenant, 1, asked])


def test_they_run_as_a_role_that_may_read_notes_and_nothing_else(superuser: psycopg.Connection[Any]) -> None:
    role = superuser.execute(
        "select rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb from pg_roles"
        " where rolname = 'thea_search'"
    ).fetchone()
    relations = superuser.execute(
        "select c.relname, p.privilege from pg_class c"
        " cross join unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger'])"
        "   as p (privilege)"
        " where c.relnamespace = 'thea'::regnamespace and c.relkind in ('r', 'v', 'm', 'p')"
        " and has_table_privilege('thea_search', c.oid, p.privilege)"
    ).fetchall()
    members = superuser.execute(
        "select m.rolname, pg_has_role(m.oid, a.roleid, 'usage') from pg_auth_members a"
        " join pg_roles m on m.oid = a.member where a.roleid = 'thea_search'::regrole and not a.admin_option"
    ).fetchall()
    functions = superuser.execute(
        "select proname, prosecdef, array_to_string(proconfig, '; ') from pg_proc"
        " where proowner = 'thea_search'::regrole order by proname"
    ).fetchall()
    fixed = (
        "search_path=pg_catalog, pg_temp; plan_cache_mode=force_custom_plan; jit=off; enable_seqscan=off;"
        " enable_bitmapscan=on; seq_page_cost=1; random_page_cost=4; cpu_tuple_cost=0.01; cpu_index_tuple_cost=0.005;"
        " cpu_operator_cost=0.0025; max_parallel_workers_per_gather=0; work_mem=256MB"
    )

    assert role == (False, False, False, False, False)
    assert relations == [("notes", "select")]
    assert members == [("thea_owner", False)]
    assert functions == [("search_notes", True, fixed), ("tagged_notes", True, fixed)]
    assert superuser.execute("select has_schema_privilege('thea_search', 'thea', 'create')").fetchone() == (False,)


async def test_what_a_note_is_found_by_cannot_be_forged(
    thea_database: TestDatabase, store: Store, tenant: str, user: User
) -> None:
    with logged_in(thea_database, "thea_app", tenant) as app:
        app.execute(
            "insert into thea.notes (tenant_id, user_id, content, search_vector) values (%s, %s, 'casa', %s)",
            [tenant, user.id, f"'{user.id}:forged'"],
        )
        with pytest.raises(errors.InsufficientPrivilege):
            app.execute("update thea.notes set search_vector = ''")

    assert await store.notes.search(tenant, user.id, "forged") == []
    assert len(await store.notes.search(tenant, user.id, "casa")) == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("tags", "array['']"),
        ("tags", "array[null]"),
        ("tags", "array_fill('a'::text, '{101}')"),
        ("extra_data", "'[]'"),
    ],
)
async def test_the_database_itself_checks(
    superuser: psycopg.Connection[Any], tenant: str, user: User, column: str, value: str
) -> None:
    with pytest.raises(errors.CheckViolation):
        superuser.execute(
            f"insert into thea.notes (tenant_id, user_id, content, {column}) values (%s, %s, 'x', {value})".encode(),
            [tenant, user.id],
        )


# --- reminders ----------------------------------------------------------------------------------


async def test_each_due_note_goes_to_one_of_many_workers_by_its_time(store: Store, tenant: str, user: User) -> None:
    at = datetime(2024, 5, 1, tzinfo=UTC)
    rows = [{"user_id": user.id, "content": str(n), "reminder_datetime": at - timedelta(days=n)} for n in range(9)]
    made = await store.notes.create_many(tenant, rows)
    await store.notes.create(tenant, user.id, "later", reminder_datetime=at + timedelta(hours=1))
    await store.notes.create(tenant, user.id, "never")

    claims = await asyncio.gather(*(store.notes.claim_due_reminders(tenant, now=at, limit=4) for _ in range(3)))
    claims.append(await store.notes.claim_due_reminders(tenant, now=at))

    assert sorted(note.id for claim in claims for note in claim) == sorted(note.id for note in made)
    for claim in claims:
        assert [note.reminder_datetime for note in claim] == sorted(note.reminder_datetime or at for note in claim)
    assert await store.notes.claim_due_reminders(tenant, now=at) == []
    later = await store.notes.claim_due_reminders(tenant, now=at + timedelta(hours=1))
    assert [note.content for note in later] == ["later"]


async def test_a_claim_changes_nothing_that_anybody_sees(store: Store, tenant: str, user: User) -> None:
    note = await store.notes.create(tenant, user.id, "Llamar", reminder_datetime=datetime(2024, 5, 1, tzinfo=UTC))
    entries = await store.audit.get_for(tenant, "notes", note.id)

    assert await store.notes.claim_due_reminders(tenant) == [note]
    assert await store.notes.get_by_id(tenant, note.id) == note
    assert await store.audit.get_for(tenant, "notes", note.id) == entries


async def test_a_note_is_due_again_when_its_reminder_moves_and_not_otherwise(
    store: Store, tenant: str, user: User
) -> None:
    past = datetime(2024, 5, 1, tzinfo=UTC)
    note = await store.notes.create(tenant, user.id, "Llamar", reminder_datetime=past)
    await store.notes.claim_due_reminders(tenant)

    await store.notes.update(tenant, note.id, content="Llamar a Ana", reminder_datetime=past)
    assert await store.notes.claim_due_reminders(tenant) == []
    moved = await store.notes.update(tenant, note.id, reminder_datetime=past + timedelta(days=1))
    assert await store.notes.claim_due_reminders(tenant) == [moved]
    await store.notes.update(tenant, note.id, reminder_datetime=None)
    assert await store.notes.claim_due_reminders(tenant) == []


async def test_a_deleted_note_reminds_of_itself_when_it_is_back(store: Store, tenant: str, user: User) -> None:
    note = await store.notes.create(tenant, user.id, "Llamar", reminder_datetime=datetime(2024, 5, 1, tzinfo=UTC))
    await store.notes.delete(tenant, note.id)

    assert await store.notes.claim_due_reminders(tenant) == []
    await store.notes.restore(tenant, note.id)
    assert [one.id for one in await store.notes.claim_due_reminders(tenant)] == [note.id]


async def test_a_claim_is_undone_with_its_transaction(store: Store, tenant: str, user: User) -> None:
    note = await store.notes.create(tenant, user.id, "Llamar", reminder_datetime=datetime(2024, 5, 1, tzinfo=UTC))

    with pytest.raises(ZeroDivisionError):
        async with store.transaction(tenant) as tx:
            assert [one.id for one in await tx.notes.claim_due_reminders(tenant)] == [note.id]
            raise ZeroDivisionError

    assert [one.id for one in await store.notes.claim_due_reminders(tenant)] == [note.id]


async def test_another_tenants_notes_are_not_claimed(store: Store, tenant: str, other_tenant: str, user: User) -> None:
    await store.notes.create(tenant, user.id, "Llamar", reminder_datetime=datetime(2024, 5, 1, tzinfo=UTC))

    assert await store.notes.claim_due_reminders(other_tenant) == []


@pytest.mark.parametrize("limit", [0, 1001])
async def test_a_claim_of_too_many_notes_is_refused(store: Store, tenant: str, limit: int) -> None:
    with pytest.raises(InvalidArgumentError, match="^limit"):
        await store.notes.claim_due_reminders(tenant, limit=limit)


async def test_a_time_without_a_zone_claims_nothing(store: Store, tenant: str) -> None:
    with pytest.raises(InvalidArgumentError, match="^now"):
        await store.notes.claim_due_reminders(tenant, now=datetime(2027, 1, 1))  # noqa: DTZ001
