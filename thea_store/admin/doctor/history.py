"""The migrations that the database has, and whether the queries fit what they made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thea_store.admin.doctor.findings import Check, CheckContext, Verdict, ok, problem
from thea_store.extensions import Extension, discover
from thea_store.migrator import Lineage, Status, listed, pending, status
from thea_store.migrator.plan import compare
from thea_store.store import GROUP_FILES, SQL_FILES
from thea_store.verification.cluster import refused_by_nodes
from thea_store.verification.opening import Findings, inspect, mismatches

__all__ = ["CHECKS"]

_IS_MIGRATED = "select to_regclass('public._yoyo_migration') is not null"
_APPLIED = "select migration_id from public._yoyo_migration"
# The checksums are in the log, which the services' logins may not read.
_READS_LOG = "select has_table_privilege(to_regclass('public._yoyo_log')::oid, 'select')"


def _migrations(context: CheckContext) -> Sequence[Verdict]:
    state, compared = _state(context)
    found: list[Verdict] = []
    for sentence in state.problems:
        what, _, fix = sentence.partition(": ")
        found.append(problem(what, fix))
    late = {sentence.partition(" ")[0] for sentence in state.problems}
    if pending := [each for each in state.pending if each not in late]:
        fix = "`thea-store migrate`, with the owner's login in DATABASE_MIGRATOR_URL"
        found.append(problem(f"the schema lacks {', '.join(pending)}", fix))
    if found:
        return found
    # The tables of an extension that is not installed here: another service's, perhaps.
    strangers = f"; of no extension that is installed here: {', '.join(state.strangers)}" if state.strangers else ""
    edited = "none was edited" if compared else "to look for edited ones, give DATABASE_MIGRATOR_URL"
    return [ok(f"{len(state.applied)} are applied, the newest {state.applied[-1]}; {edited}{strangers}")]


def _state(context: CheckContext) -> tuple[Status, bool]:
    """What is applied, and whether checksums were compared."""
    if context.has_migrator:
        url = context.settings.address(context.settings.migrator_url).render()
        return status(url, lineages=_lineages(context)), True
    if context.ask(_READS_LOG) == [(True,)]:
        return status(context.settings.address().render(), lineages=_lineages(context)), True
    applied = context.ask(_APPLIED) if context.ask(_IS_MIGRATED) == [(True,)] else []
    return compare(listed(lineages=_lineages(context)), dict.fromkeys(id_ for (id_,) in applied)), False


def _queries(context: CheckContext) -> Sequence[Verdict]:
    if not context.is_service or _lacks_migrations(context):
        return []  # nothing that is not said already
    findings = inspect(context.settings.address(), SQL_FILES, _extensions(context), GROUP_FILES)
    if findings.lacks:
        return [problem(*sentence.rsplit(": ", 1)) for sentence in findings.lacks]
    if not (found := mismatches(findings)):
        return _on_nodes(context, findings) or [ok(f"all {len(findings.described)} fit the schema")]
    fix = "`thea-store check` lists all; undo the change of the schema, or migrate with the service's version"
    return [problem(f"{len(found)} mismatch(es) with the schema, the first: {found[0]}", fix)]


def _on_nodes(context: CheckContext, findings: Findings) -> Sequence[Verdict]:
    """What the nodes of a cluster say; empty where all is well, and on a server that is none."""
    if not (found := refused_by_nodes(context.settings.address(), findings.described, GROUP_FILES)):
        return []
    fix = "`thea-store check` lists all; run deploy/citus/distribute.sql again, as a superuser of the coordinator"
    return [problem(f"nodes of the cluster refuse queries ({len(found)}), the first: {found[0]}", fix)]


def _lacks_migrations(context: CheckContext) -> bool:
    if context.ask(_IS_MIGRATED) != [(True,)]:
        return True
    applied = {id_ for (id_,) in context.ask(_APPLIED)}
    return bool(pending(applied, _lineages(context)))


def _extensions(context: CheckContext) -> Sequence[Extension]:
    return discover((), context.settings.extensions or "")


def _lineages(context: CheckContext) -> list[Lineage]:
    return [extension.lineage for extension in _extensions(context)]


CHECKS: Mapping[str, Check] = {"migrations": _migrations, "queries": _queries}
