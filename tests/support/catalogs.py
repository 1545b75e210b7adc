"""What the catalogs say of a table's protection, in words that are the same for every table that is protected alike."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

_ASKED = {
    "row security": "select relrowsecurity, relforcerowsecurity, relowner::regrole::text from pg_class"
    " where oid = %s::regclass",
    "policies": "select polname, polcmd::text, polpermissive,"
    " array(select r::regrole::text from unnest(polroles) r order by 1),"
    " pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) from pg_policy where polrelid = %s::regclass",
    "rights": "select a.grantee::regrole::text, a.privilege_type from pg_class c, aclexplode(c.relacl) a"
    " where c.oid = %s::regclass and a.grantee <> c.relowner",
    "columns": "select distinct a.attname in ('tenant_id', 'id', 'user_id', 'created_at', 'updated_at'),"
    " has_column_privilege('thea_app', a.attrelid, a.attnum, 'update')"
    " from pg_attribute a where a.attrelid = %s::regclass and a.attnum > 0",
    "triggers": "select tgname, tgfoid::regproc::text, tgtype, tgenabled::text from pg_trigger"
    " where tgrelid = %s::regclass and tgname in ('touch', 'audit')",
    "parents": "select tgrelid::regclass::text, tgtype, tgenabled::text from pg_trigger"
    " where tgfoid = 'thea.cascade_deletion'::regproc"
    " and split_part(encode(tgargs, 'escape'), '\\000', 1) = %s",
    "statistics": "select option from pg_attribute, unnest(attoptions) option"
    " where attrelid = %s::regclass and attname = 'tenant_id' and not starts_with(option, 'pg_attver=')",
    "checks": "select count(*) from pg_constraint where conrelid = %s::regclass and pg_get_constraintdef(oid)"
    " like '%%char_length(tenant_id)%%'",
}


def protection_of(connection: Connection[Any], table: str) -> dict[str, set[tuple[Any, ...]]]:
    """By subject, what protects the table."""
    return {
        subject: {tuple(map(_hashable, row)) for row in connection.execute(asked.encode(), [table])}
        for subject, asked in _ASKED.items()
    }


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
