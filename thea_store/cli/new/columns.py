"""What `--column title:text` and `--hangs-on users` say of a new table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from thea_store.errors import InvalidArgumentError
from thea_store.postgres.values import Vector

__all__ = ["Aggregate", "Column", "Parent", "checked_name", "column", "parent", "singular"]

_COLUMN = re.compile(r"([a-z][a-z0-9_]{0,47}):([a-z0-9 ]+(?:\[\]|\([0-9]+\))?)(\??)")
_VECTOR = re.compile(r"vector\(([0-9]+)\)")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")

_KEPT = frozenset(
    {"tenant_id", "id", "created_at", "updated_at", "deleted_at", "deleted_with", "place", "rows", "limit"}
)
# Words of SQL that cannot stand alone as a column's name in every place where the statements have one.
_WORDS_OF_SQL = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization between both case cast check collate column
    constraint create cross current_date current_time current_timestamp current_user default deferrable desc distinct
    do else end except exists false fetch for foreign from full grant group having ilike in initially inner intersect
    into is isnull join lateral leading left like localtime localtimestamp natural not notnull null offset on only or
    order outer overlaps placing primary references returning right select session_user similar some symmetric
    system_user table tablesample then to trailing true union unique user using variadic verbose when where window with
    """.split()  # noqa: SIM905 - a list of a hundred quoted words reads worse
)


class _Kind(NamedTuple):
    sql: str
    record: str
    """The annotation in the record."""
    argument: str
    """The annotation of a value that a call gives."""
    imports: tuple[str, ...] = ()
    """What the annotations need, as `module name`."""
    default: str | None = None
    """What an ordinary new row has, in SQL."""
    sample: str = ""
    """A value for the tests, in Python."""
    other: str = ""
    """Another one."""
    extension: str | None = None
    """The server's extension that has the type."""


_MOMENT = "datetime(2026, 3, 2, 10, tzinfo=UTC)"
_KINDS = {
    "text": _Kind("text", "str", "LongText", ("thea_store LongText",), None, '"Comprar pan"', '"Llamar a Ana"'),
    "boolean": _Kind("boolean", "bool", "bool", (), "false", "True", "False"),
    "integer": _Kind("integer", "int", "Integer", ("thea_store Integer",), None, "3", "4"),
    "bigint": _Kind("bigint", "int", "BigInteger", ("thea_store BigInteger",), None, "3", "4"),
    "double precision": _Kind("double precision", "float", "Number", ("thea_store Number",), None, "0.5", "0.25"),
    "timestamptz": _Kind(
        "timestamptz",
        "datetime",
        "Moment",
        ("datetime datetime", "thea_store Moment"),
        None,
        _MOMENT,
        _MOMENT.replace("10", "11"),
    ),
    "numeric": _Kind("numeric", "Decimal", "Decimal", ("decimal Decimal",), None, 'Decimal("0.5")', 'Decimal("0.25")'),
    "date": _Kind("date", "date", "date", ("datetime date",), None, "date(2026, 3, 2)", "date(2026, 3, 3)"),
    "uuid": _Kind("uuid", "UUID", "UUID", ("uuid UUID",), None, "UUID(int=1)", "UUID(int=2)"),
    "jsonb": _Kind(
        "jsonb",
        "dict[str, Any]",
        "JsonObject",
        ("thea_store JsonObject", "typing Any"),
        "'{}'",
        '{"color": "rojo"}',
        '{"color": "azul"}',
    ),
    "text[]": _Kind("text[]", "list[str]", "list[Name]", ("thea_store Name",), "'{}'", '["casa"]', '["casa", "hoy"]'),
}
_KINDS |= {
    f"{name}range": _Kind(
        f"{name}range",
        f"Range[{bound}]",
        f"Range[{argument}]",
        (*imports, "thea_store Range"),
        None,
        f"Range({sample})",
        f"Range({sample}, {other})" if other else f"Range(None, {sample})",
    )
    for name, bound, argument, imports, sample, other in (
        ("tstz", "datetime", "Moment", ("datetime datetime", "thea_store Moment"), _MOMENT, ""),
        ("date", "date", "date", ("datetime date",), "date(2026, 3, 2)", "date(2026, 3, 9)"),
        ("int4", "int", "Integer", ("thea_store Integer",), "3", "5"),
        ("int8", "int", "BigInteger", ("thea_store BigInteger",), "3", "5"),
        ("num", "Decimal", "Decimal", ("decimal Decimal",), 'Decimal("0.5")', 'Decimal("1.5")'),
    )
}
_SAME = {"bool": "boolean", "int": "integer", "float": "double precision", "timestamp with time zone": "timestamptz"}


@dataclass(frozen=True)
class Column:
    """A column of a new table."""

    name: str
    kind: _Kind
    is_optional: bool

    @property
    def default(self) -> str | None:
        """What a row has where the column is not given, in SQL; `None` where it is null, or must be given."""
        return None if self.is_optional else self.kind.default

    @property
    def is_required(self) -> bool:
        """Whether a new row must give it."""
        return not self.is_optional and self.kind.default is None

    @property
    def definition(self) -> str:
        """Its line of `create table`."""
        default = f" default {self.default}" if self.default else ""
        return f"{self.name} {self.kind.sql}{'' if self.is_optional else ' not null'}{default}"

    def annotated(self, annotation: str) -> str:
        """The annotation, which takes `None` where the column does."""
        return f"{annotation} | None" if self.is_optional else annotation


@dataclass(frozen=True)
class Parent:
    """What rows of a new table hang on."""

    table: str
    """Its full name: `thea.users`."""

    @property
    def name(self) -> str:
        """The table's name without its schema."""
        return self.table.partition(".")[2]

    @property
    def reference(self) -> str:
        """The column that refers to it: `user_id`."""
        return f"{singular(self.name)}_id"


@dataclass(frozen=True)
class Aggregate:
    """A new aggregate."""

    extension: str
    name: str
    columns: tuple[Column, ...]
    parents: tuple[Parent, ...]

    @property
    def table(self) -> str:
        """The full name of its table."""
        return f"{self.extension}.{self.name}"

    @property
    def one(self) -> str:
        """The word for one of its rows: `task`."""
        return singular(self.name)

    @property
    def record(self) -> str:
        """The name of its record: `Task`."""
        return _camel(self.one)

    @property
    def repository(self) -> str:
        """The name of its repository: `Tasks`."""
        many = _camel(self.name)
        return many if many != self.record else f"{many}Repository"


def column(text: str) -> Column:
    """What `title:text` or `'due_at:timestamptz?'` says; `InvalidArgumentError` names what it does not say."""
    match = _COLUMN.fullmatch(text.strip())
    if match is None:
        raise InvalidArgumentError("--column", f"{text!r}: write name:type, and name:type? for one that may be null")
    name, kind = match[1], _SAME.get(match[2], match[2])
    if name in _KEPT or name in _WORDS_OF_SQL:
        raise InvalidArgumentError("--column", f"{name} is a column that every table has, or a word of SQL: rename it")
    if vector := _VECTOR.fullmatch(kind):
        return Column(name, _vector(int(vector[1])), is_optional=bool(match[3]))
    if kind not in _KINDS:
        known = ", ".join([*_KINDS, "vector(DIMENSIONS)"])
        raise InvalidArgumentError("--column", f"{kind} is no type that this knows; it knows {known}")
    return Column(name, _KINDS[kind], is_optional=bool(match[3]))


def _vector(dimensions: int) -> _Kind:
    Vector(dimensions)  # which knows how many there may be
    annotation = f"Annotated[list[float], Vector({dimensions})]"
    return _Kind(
        f"vector({dimensions})",
        annotation,
        annotation,
        ("thea_store Vector", "typing Annotated"),
        None,
        f"[0.5] * {dimensions}",
        f"[0.25] * {dimensions}",
        "vector",
    )


def parent(text: str, extension: str) -> Parent:
    """What `users`, `projects` or `planner.projects` names: a table of the library, or of the extension."""
    if "." in text:
        return Parent(text)
    own = {"users", "conversations", "notes", "events", "message_history"}
    return Parent(f"thea.{text}" if text in own else f"{extension}.{text}")


def checked_name(option: str, name: str) -> str:
    """The name; `InvalidArgumentError` where it is none for a table, a module and a file alike."""
    if not _NAME.fullmatch(name) or name in _WORDS_OF_SQL:
        raise InvalidArgumentError(option, f"{name!r}: write lower-case letters, digits and _, and no word of SQL")
    return name


def singular(name: str) -> str:
    """The word for one: `tasks` → `task`, `categories` → `category`."""
    if name.endswith("ies") and len(name) > len("ties"):
        return f"{name[:-3]}y"
    if name.endswith(("sses", "xes", "ches", "shes")):
        return name[:-2]
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
