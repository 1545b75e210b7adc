"""The store beside what a service would take otherwise: one row, and the twenty newest rows, of each aggregate.

    python bench/field.py [--rounds 60] [--json]

Each peer does it as its documentation advises, with a pool of the same size, on the same rows of one tenant. Only the
store and the last peer work under row security. A number is the median of the rounds' ratios to asyncpg's pool with the
plainest statement, so the machine hardly matters. The peers come with the extra `bench`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import platform
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from importlib.metadata import version
from typing import Annotated, Any, Protocol, get_args

import aiosql
import asyncpg
import typer
from ground import Ground, Place, prepared_ground
from options import Server, Smoke
from peers import POOL_SIZE
from piccolo import columns as piccolo_columns
from piccolo.engine.postgres import PostgresEngine
from piccolo.table import create_table_class
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table
from sqlalchemy import ARRAY, BigInteger, Boolean, DateTime, Float, Text, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlspec import SQLSpec
from sqlspec.adapters.asyncpg import AsyncpgConfig
from tortoise import Tortoise, fields
from tortoise.contrib.postgres.fields import ArrayField
from tortoise.models import Model

from thea_store import Conversation, Event, Message, Note, Settings, Store, User
from thea_store.postgres.url import DatabaseUrl

RECORDS: dict[str, type[Any]] = {
    "users": User,
    "events": Event,
    "notes": Note,
    "conversations": Conversation,
    "messages": Message,
}
TABLES = {name: name for name in RECORDS} | {"messages": "message_history"}
COLUMNS = {name: tuple(record.model_fields) for name, record in RECORDS.items()}
PAGE, CALLS, WARM_UP = 20, {1: 6, 20: 3}, 8
BASE, STORE = "asyncpg", "store"


def one_sql(name: str, first: str, second: str) -> str:
    """The plainest statement for one row."""
    return (
        f"select {', '.join(COLUMNS[name])} from thea.{TABLES[name]}"
        f" where tenant_id = {first} and id = {second} and deleted_at is null"
    )


def page_sql(name: str, first: str, second: str) -> str:
    """The plainest statement for the newest rows."""
    return (
        f"select {', '.join(COLUMNS[name])} from thea.{TABLES[name]}"
        f" where tenant_id = {first} and deleted_at is null order by created_at desc, id desc limit {second}"
    )


def kind_of(record: type[Any], column: str) -> str:
    """What a column holds, in a word."""
    annotation = record.model_fields[column].annotation
    given = {annotation, *get_args(annotation)}
    for kind, word in ((datetime, "time"), (bool, "flag"), (int, "number"), (float, "float")):
        if kind in given and not any("list" in str(each) for each in given):
            return word
    written = str(annotation)
    if "dict" in written:
        return "json"
    return ("times" if "datetime" in written else "texts") if "list" in written else "text"


class Peer(Protocol):
    """One way to the rows."""

    async def one(self, name: str, tenant: str, id: int) -> Any:  # noqa: A002
        """The row."""
        ...

    async def page(self, name: str, tenant: str) -> Sequence[Any]:
        """The twenty newest rows."""
        ...


async def _set_json(connection: asyncpg.Connection[Any]) -> None:
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)


class Asyncpg:
    """asyncpg's pool, and its own records."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self.pool = pool

    async def one(self, name: str, tenant: str, id: int) -> Any:  # noqa: A002
        return await self.pool.fetchrow(one_sql(name, "$1", "$2"), tenant, id)

    async def page(self, name: str, tenant: str) -> Sequence[Any]:
        return await self.pool.fetch(page_sql(name, "$1", "$2"), tenant, PAGE)


class AsyncpgPydantic(Asyncpg):
    """The same with Pydantic records."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        super().__init__(pool)
        self.lists = {name: TypeAdapter(list[record]) for name, record in RECORDS.items()}  # type: ignore[valid-type]

    async def one(self, name: str, tenant: str, id: int) -> Any:  # noqa: A002
        return RECORDS[name].model_validate(dict(await super().one(name, tenant, id)))

    async def page(self, name: str, tenant: str) -> Sequence[Any]:
        found: list[Any] = self.lists[name].validate_python([dict(row) for row in await super().page(name, tenant)])
        return found


class Psycopg:
    """psycopg's pool and its row factory for classes."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self.pool = pool

    async def one(self, name: str, tenant: str, id: int) -> Any:  # noqa: A002
        async with self.pool.connection() as connection, connection.cursor(row_factory=class_row(RECORDS[name])) as cur:
            await cur.execute(one_sql(name, "%s", "%s").encode(), [tenant, id])
            return await cur.fetchone()

    async def page(self, name: str, tenant: str) -> Sequence[Any]:
        async with self.pool.connection() as connection, connection.cursor(row_factory=class_row(RECORDS[name])) as cur:
            await cur.execute(page_sql(name, "%s", "%s").encode(), [tenant, PAGE])
            found: Sequence[Any] = await cur.fetchall()
            return found


class SqlSpec:
    """sqlspec over asyncpg, with Pydantic records."""

    def __init__(self, spec: SQLSpec, config: Any) -> None:
        self.spec, self.config = spec, config

    async def one(self, name: str, tenant: str, id: int) -> Any:  # noqa: A002
        async with self.spec.provide_session(self.config) as session:
            return await session.select_one(one_sql(name, "$1", "$2"), tenant, id, schema_type=RECORDS[name])

    async def page(self, name: str, tenant: str) -> Sequence[Any]:
        async with self.spec.provide_session(self.config) as session:
            found: Sequence[Any] = await session.select(
                page_sql(name, "$1", "$2"), tenant, PAGE, schema_type=RECORDS[name]
            )
            return found


class AioSql:
    """aiosql over asyncpg's pool, and the driver's records."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self.pool = pool
        statements = "".join(
            f"-- name: one_{name}(tenant, id)^\n{one_sql(name, ':tenant', ':id')};\n\n"
            f"-- name: page_{name}(tenant, size)\n{page_sql(name, ':tenant', ':size')};\n\n"
            for name in RECORDS
        )
        self.queries: Any = aiosql.from_str(statements, "asyncpg")

    async def one(self, name: str, tenant: str, id: int) -> Any:  # noqa: A002
        async with self.pool.acquire() as connection:
            return await getattr(self.queries, f"one_{name}")(connection, tenant=tenant, id=id)

    async def page(self, name: str, tenant: str) -> Sequence[Any]:
        async with self.pool.acquire() as connection:
            found = getattr(self.queries, f"page_{name}")(connection, tenant=tenant, size=PAGE)
            return [row async for row in found]


class Piccolo:
    """Piccolo's ORM with a pool."""

    def __init__(self, engine: PostgresEngine) -> None:
        made: dict[str, Any] = {
            "time": lambda: piccolo_columns.Timestamptz(null=True),
            "flag": piccolo_columns.Boolean,
            "number": piccolo_columns.BigInt,
            "float": lambda: piccolo_columns.DoublePrecision(null=True),
            "json": piccolo_columns.JSONB,
            "texts": lambda: piccolo_columns.Array(base_column=piccolo_columns.Text()),
            "times": lambda: piccolo_columns.Array(base_column=piccolo_columns.Timestamptz()),
            "text": piccolo_columns.Text,
        }
        self.tables: dict[str, Any] = {
            name: create_table_class(
                name.capitalize(),
                class_kwargs={"db": engine, "schema": "thea", "tablename": TABLES[name]},
                class_members={
                    column: piccolo_columns.BigSerial(primary_key=True)
                    if column == "id"
                    else made[kind_of(record, column)]()
                    for column in COLUMNS[name]
                },
            )
            for name, record in RECORDS.items()
        }

    async def one(self, name: str, tenant: str, id: int) -> Any:  # noqa: A002
        table = self.tables[name]
        return (
            await table.objects().where(table.tenant_id == tenant, table.id == id, table.deleted_at.is_null()).first()
        )

    async def page(self, name: str, tenant: str) -> Sequence[Any]:
        table = self.tables[name]
        found: Sequence[Any] = (
            await table.objects()
            .where(table.tenant_id == tenant, table.deleted_at.is_null())
            .order_by(table.created_at, table.id, ascending=False)
            .limit(PAGE)
        )
        return found


def _tortoise_model(name: str) -> type[Model]:
    made: dict[str, Any] = {
        "time": lambda: fields.DatetimeField(null=True),
        "flag": fields.BooleanField,
        "number": lambda: fields.BigIntField(null=True),
        "float": lambda: fields.FloatField(null=True),
        "json": lambda: fields.JSONField(null=True),
        "texts": lambda: ArrayField(element_type="text"),
        "times": lambda: ArrayField(element_type="timestamptz"),
        "text": lambda: fields.TextField(null=True),
    }
    columns = {
        column: fields.BigIntField(primary_key=True) if column == "id" else made[kind_of(RECORDS[name], column)]()
        for column in COLUMNS[name]
    }
    meta = type("Meta", (), {"table": TABLES[name], "schema": "thea"})
    return type(name.capitalize(), (Model,), {**columns, "Meta": meta, "__module__": __name__})


MODELS = {name: _tortoise_model(name) for name in RECORDS}
__models__ = list(MODELS.values())


class TortoiseOrm:
    """Tortoise's ORM over asyncpg with a pool."""

    async def one(self, name: str, tenant: str, id: int) -> Any:  # noqa: A002
        return await MODELS[name].filter(tenant_id=tenant, id=id, deleted_at=None).first()

    async def page(self, name: str, tenant: str) -> Sequence[Any]:
        every = MODELS[name].filter(tenant_id=tenant, deleted_at=None).order_by("-created_at", "-id")
        rows: Sequence[Any] = await every.limit(PAGE)
        return rows


class _Base(DeclarativeBase):
    pass


def _mapped(name: str) -> Any:
    made: dict[str, Any] = {
        "time": DateTime(timezone=True),
        "flag": Boolean(),
        "number": BigInteger(),
        "float": Float(),
        "json": JSONB(),
        "texts": ARRAY(Text()),
        "times": ARRAY(DateTime(timezone=True)),
        "text": Text(),
    }
    columns = {
        column: mapped_column(made[kind_of(RECORDS[name], column)], primary_key=column in {"tenant_id", "id"})
        for column in COLUMNS[name]
    }
    own = {"__tablename__": TABLES[name], "__table_args__": {"schema": "thea"}}
    return type(f"Mapped{name.capitalize()}", (_Base,), {**columns, **own})


MAPPED = {name: _mapped(name) for name in RECORDS}


class SqlAlchemy:
    """SQLAlchemy's asyncio ORM; with `set_config` before each query, as row security asks for, or without it."""

    def __init__(self, engine: AsyncEngine, *, is_isolating: bool) -> None:
        self.engine, self.is_isolating = engine, is_isolating
        self.sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def one(self, name: str, tenant: str, id: int) -> Any:  # noqa: A002
        kind = MAPPED[name]
        query = select(kind).where(kind.tenant_id == tenant, kind.id == id, kind.deleted_at.is_(None))
        return (await self._rows(tenant, query))[0]

    async def page(self, name: str, tenant: str) -> Sequence[Any]:
        kind = MAPPED[name]
        query = select(kind).where(kind.tenant_id == tenant, kind.deleted_at.is_(None))
        return await self._rows(tenant, query.order_by(kind.created_at.desc(), kind.id.desc()).limit(PAGE))

    async def _rows(self, tenant: str, query: Any) -> Sequence[Any]:
        async with self.sessions() as session, session.begin():
            if self.is_isolating:
                await session.execute(text("select set_config('app.tenant_id', :tenant, true)"), {"tenant": tenant})
            found: Sequence[Any] = (await session.scalars(query)).all()
            return found


class StorePeer:
    """The store, with row security, checked arguments and validated records; a page reads one row more."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def one(self, name: str, tenant: str, id: int) -> Any:  # noqa: A002
        return await getattr(self.store, name).get_by_id(tenant, id)

    async def page(self, name: str, tenant: str) -> Sequence[Any]:
        found: Sequence[Any] = (await getattr(self.store, name).get_all(tenant, limit=PAGE)).items
        return found


async def opened(ground: Ground, resources: AsyncExitStack) -> dict[str, Peer]:
    """All peers by their name."""
    size: dict[str, Any] = {"min_size": POOL_SIZE, "max_size": POOL_SIZE}
    pools = [
        await resources.enter_async_context(asyncpg.create_pool(ground.plain_url, init=_set_json, **size))
        for _ in range(3)
    ]
    psycopg_pool = AsyncConnectionPool(ground.plain_url, open=False, **size)
    await resources.enter_async_context(psycopg_pool)
    spec = SQLSpec()
    config = spec.add_config(AsyncpgConfig(connection_config={"dsn": ground.plain_url, **size}))
    resources.push_async_callback(spec.close_all_pools)
    engine = PostgresEngine({"dsn": ground.plain_url})
    await engine.start_connection_pool(**size)
    resources.push_async_callback(engine.close_connection_pool)
    await Tortoise.init(config=_tortoise_config(ground.plain_url), use_tz=True)
    resources.push_async_callback(Tortoise.close_connections)
    store = Settings(url=ground.app_url, pool_size=POOL_SIZE, max_overflow=0)
    return {
        BASE: Asyncpg(pools[0]),
        "asyncpg + Pydantic": AsyncpgPydantic(pools[1]),
        STORE: StorePeer(await resources.enter_async_context(Store.open(store))),
        "psycopg, class_row": Psycopg(psycopg_pool),
        "sqlspec + Pydantic": SqlSpec(spec, config),
        "aiosql": AioSql(pools[2]),
        "Piccolo": Piccolo(engine),
        "Tortoise": TortoiseOrm(),
        "SQLAlchemy": SqlAlchemy(_engine(ground.plain_url, resources), is_isolating=False),
        "SQLAlchemy, set_config": SqlAlchemy(_engine(ground.app_url, resources), is_isolating=True),
    }


def _engine(url: str, resources: AsyncExitStack) -> AsyncEngine:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url), pool_size=POOL_SIZE, max_overflow=0
    )
    resources.push_async_callback(engine.dispose)
    return engine


def _tortoise_config(url: str) -> dict[str, Any]:
    address = DatabaseUrl.parse(url)
    host, port = address.hosts[0]
    credentials = {
        "host": host,
        "port": port or 5432,
        "user": address.user,
        "password": address.password,
        "database": address.database,
        "minsize": POOL_SIZE,
        "maxsize": POOL_SIZE,
    }
    return {
        "connections": {"default": {"engine": "tortoise.backends.asyncpg", "credentials": credentials}},
        "apps": {"models": {"models": [__name__], "default_connection": "default"}},
    }


async def ids_of(peer: Peer, place: Place) -> dict[str, list[int]]:
    """Rows to ask for, of each aggregate."""
    return {name: [row["id"] for row in await peer.page(name, place.tenant_id)] for name in RECORDS}


async def measure(server: str | None, rounds: int) -> tuple[str, dict[str, dict[str, float]]]:
    """What with, and the median ratio of each peer and operation to asyncpg's pool."""
    async with prepared_ground(server) as ground, AsyncExitStack() as resources:
        peers = await opened(ground, resources)
        place = ground.places[0][0]
        ids = await ids_of(peers[BASE], place)
        operations = [(name, size) for name in RECORDS for size in (1, PAGE)]
        for name, size in operations:
            await _agree(peers, name, size, place.tenant_id, ids[name])
        taken: dict[tuple[str, str, int], list[float]] = {}
        gc.collect()
        gc.freeze()
        for _ in range(rounds):
            for name, size in operations:
                for peer in random.sample(list(peers), len(peers)):
                    took = await _time(peers[peer], name, size, place.tenant_id, ids[name])
                    taken.setdefault((peer, name, size), []).append(took)
        ratios = {
            peer: {
                f"{name}, {size}": statistics.median(
                    mine / theirs for mine, theirs in zip(taken[peer, name, size], taken[BASE, name, size], strict=True)
                )
                for name, size in operations
            }
            for peer in peers
        }
        packages = ("asyncpg", "pydantic", "psycopg", "sqlspec", "aiosql", "piccolo", "tortoise-orm", "SQLAlchemy")
        versions = ", ".join(f"{package} {version(package)}" for package in packages)
        return f"{ground.server}; Python {platform.python_version()}, {versions}", ratios


async def _agree(peers: dict[str, Peer], name: str, size: int, tenant: str, ids: list[int]) -> None:
    """Warm up, and see that all peers return the same rows."""
    for peer, way in peers.items():
        for _ in range(WARM_UP * POOL_SIZE):
            await _time(way, name, size, tenant, ids)
        rows = [await way.one(name, tenant, ids[0])] if size == 1 else await way.page(name, tenant)
        found = [row["id"] if isinstance(row, asyncpg.Record) else row.id for row in rows]
        assert len(found) == size, f"there are no {size} {name}"
        assert found == ids[:size], f"{peer} returns other {name}"


async def _time(peer: Peer, name: str, size: int, tenant: str, ids: list[int]) -> float:
    started = time.perf_counter()
    for number in range(CALLS[size]):
        if size == 1:
            await peer.one(name, tenant, ids[number % len(ids)])
        else:
            await peer.page(name, tenant)
    return time.perf_counter() - started


def show(versions: str, ratios: dict[str, dict[str, float]]) -> None:
    """The table for people."""
    table = Table(title="Times what asyncpg's pool takes with the plainest statement, without row security")
    table.add_column("")
    for name in RECORDS:
        table.add_column(f"{name}: one", justify="right")
        table.add_column("20", justify="right")
    for peer, own in ratios.items():
        table.add_row(peer, *(f"{ratio:.2f}" for ratio in own.values()))
    console = Console(width=160)
    console.print(table)
    console.print(f"{versions}; pools of {POOL_SIZE} connections.", highlight=False)


def main(
    rounds: Annotated[int, typer.Option(min=3, help="How many rounds.")] = 60,
    server: Server = None,
    *,
    smoke: Smoke = False,
    json_: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """What one row and a page of each aggregate cost, beside the field."""
    versions, ratios = asyncio.run(measure(server, 3 if smoke else rounds))
    if json_:
        print(json.dumps({"versions": versions, "rounds": rounds, "ratios": ratios}, indent=2))
    else:
        show(versions, ratios)


if __name__ == "__main__":
    typer.run(main)
