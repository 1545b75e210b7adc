"""What a database has of the migrations, what it lacks, and what forbids going on."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from thea_store.errors import InvalidArgumentError, MigrationError
from thea_store.migrator.files import Migration, lineage_of, position_of

__all__ = ["BEFORE_ALL", "Status", "compare", "lacking", "to_apply", "to_roll_back"]

BEFORE_ALL = "0000"
"""The `to` of a rollback that takes back everything."""


@dataclass(frozen=True, slots=True)
class Status:
    """The ids applied and pending, in order, and a sentence for each thing that is not as it should be."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    problems: tuple[str, ...]
    strangers: tuple[str, ...] = ()
    """Applied ids of extensions that are not installed here: no problem, but worth a word."""


def compare(migrations: Sequence[Migration], applied: Mapping[str, str | None]) -> Status:
    """Hold the files against what was applied (id → checksum, `None` where plain yoyo applied it)."""
    known = {migration.lineage for migration in migrations}
    return Status(
        applied=tuple(id_ for lineage in sorted(known) for id_ in _of_lineage(applied, lineage)),
        pending=tuple(migration.id for migration in lacking(migrations, applied)),
        problems=tuple(_problems(migrations, applied).values()),
        strangers=tuple(sorted(id_ for id_ in applied if lineage_of(id_) not in {None, *known})),
    )


def to_apply(migrations: Sequence[Migration], applied: Mapping[str, str | None]) -> list[Migration]:
    """The pending migrations in order; `MigrationError` with every problem that there is."""
    _refuse(list(_problems(migrations, applied).values()))
    return lacking(migrations, applied)


def lacking(migrations: Sequence[Migration], applied: Container[str]) -> list[Migration]:
    """The migrations that are not applied, in order: the one place that decides which are pending."""
    return [migration for migration in migrations if migration.id not in applied]


def to_roll_back(
    migrations: Sequence[Migration], applied: Mapping[str, str | None], to: str | None, lineage: str = ""
) -> list[Migration]:
    """What was applied of a lineage after `to`, newest first; the newest one alone for `None`.

    `MigrationError` where one of them was edited, is gone, has no rollback file, or is what another lineage's
    applied migration depends on.
    """
    if lineage and lineage not in {migration.lineage for migration in migrations}:
        raise InvalidArgumentError("extension", f"there is no extension {lineage!r} here: is it installed?")
    ours = _of_lineage(applied, lineage)[::-1]
    chosen = ours[: 1 if to is None else _position(to, ours)]
    problems = _problems(migrations, applied)
    _refuse([problems[id_] for id_ in chosen if id_ in problems])
    by_id = {migration.id: migration for migration in migrations}
    selected = [by_id[id_] for id_ in chosen]
    _refuse([f"{each.id} has no way back: write {each.rollback_path}" for each in selected if each.rollback is None])
    _refuse(_still_needed(selected, migrations, applied))
    return selected


def _still_needed(
    selected: Sequence[Migration], migrations: Sequence[Migration], applied: Mapping[str, str | None]
) -> list[str]:
    gone = {migration.id for migration in selected}
    return [
        f"{needed} is what {migration.id} depends on: take that back first (`--extension {migration.lineage}`)"
        for migration in migrations
        if migration.id in applied and migration.id not in gone
        for needed in sorted(migration.depends & gone)
    ]


def _of_lineage(applied: Iterable[str], lineage: str) -> list[str]:
    # Ids of another form are another project's, which keeps its own migrations in the same tables.
    return sorted(id_ for id_ in applied if lineage_of(id_) == lineage)


def _position(to: str, ours: Sequence[str]) -> int:
    if to == BEFORE_ALL:
        return len(ours)
    for position, id_ in enumerate(ours):
        if to in {id_, position_of(id_)}:
            return position
    newest = f"the newest applied one is {ours[0]}" if ours else "none is"
    raise InvalidArgumentError("to", f"{to!r} is no applied migration; {newest}, and {BEFORE_ALL} takes all back")


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise MigrationError("\n  ".join(["the migrations do not fit this database; nothing was changed:", *problems]))


def _problems(migrations: Sequence[Migration], applied: Mapping[str, str | None]) -> dict[str, str]:
    """A sentence by the id of each migration that is not as it should be, each lineage looked at alone."""
    problems: dict[str, str] = {}
    for lineage in {migration.lineage: None for migration in migrations}:
        problems |= _problems_of(
            [each for each in migrations if each.lineage == lineage], _of_lineage(applied, lineage), applied
        )
    return problems


def _problems_of(
    migrations: Sequence[Migration], ours: Sequence[str], applied: Mapping[str, str | None]
) -> dict[str, str]:
    by_id = {migration.id: migration for migration in migrations}
    problems = {id_: _absent(id_, migrations[-1]) for id_ in ours if id_ not in by_id}
    for migration in migrations:
        if migration.id in applied:
            if applied[migration.id] not in {None, migration.checksum}:
                problems[migration.id] = _edited(migration)
        elif ours and migration.id < ours[-1]:
            problems[migration.id] = _late(migration, ours[-1])
    return dict(sorted(problems.items()))


def _absent(id_: str, newest: Migration) -> str:
    if id_ > newest.id:
        what = f"the extension {newest.lineage}" if newest.lineage else "thea_store"
        return f"{id_} is applied, but newer than this version, which ends at {newest.id}: update {what}"
    return f"{id_} is applied, but its file is gone: bring {newest.path.with_name(id_ + '.sql')} back as it was"


def _edited(migration: Migration) -> str:
    return (
        f"{migration.id} was edited after it was applied: restore {migration.path} and put the change into a new "
        f"migration (a change of comments only can be accepted: `yoyo unmark -r {migration.id}`, then "
        f"`yoyo mark -r {migration.id}`)"
    )


def _late(migration: Migration, newest: str) -> str:
    return (
        f"{migration.id} is not applied, though the later {newest} is: give it a number after {position_of(newest)} "
        f"(or roll back to before {migration.id} first)"
    )
