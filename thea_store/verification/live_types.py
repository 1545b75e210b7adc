"""The names of a server's types, and the types that a database lacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from thea_store.postgres.types import BUILT_IN, REMEDIES, of_extensions

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["lacking_types", "names_of", "type_name"]


def type_name(oid: int) -> str:
    """The name of a type, or its oid in digits where the server alone knows the name."""
    return BUILT_IN.get(oid, str(oid))


def names_of(connection: Connection[Any], types: Iterable[str]) -> Mapping[str, str]:
    """The names of those that are oids in digits, by these; asks the server where there are any."""
    unknown = sorted({int(type_) for type_ in types if type_.isdigit()})
    if not unknown:
        return {}
    return dict(
        connection.execute(
            "select oid::text, pg_catalog.format_type(oid, null) from pg_catalog.pg_type where oid = any(%s::oid[])",
            [unknown],
        ).fetchall()
    )


def lacking_types(connection: Connection[Any], annotations: Iterable[Any]) -> tuple[str, ...]:
    """What to do about each type of the server's extensions that an annotation names and the database lacks."""
    wanted = sorted({type_ for annotation in annotations for type_ in of_extensions(annotation)})
    return tuple(
        REMEDIES[type_]
        for type_ in wanted
        if connection.execute("select pg_catalog.to_regtype(%s) is null", [type_]).fetchone() == (True,)
    )
