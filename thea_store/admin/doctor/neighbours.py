"""Other databases of the same server, whose services have the same roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thea_store.admin.doctor.findings import Check, CheckContext, Verdict, ok, quoted, warning
from thea_store.postgres.url import DatabaseUrl

__all__ = ["CHECKS"]

# The server remembers in which databases a role owns something.
_DATABASES = """
select array(
  select d.datname::text
  from pg_shdepend s join pg_roles r on r.oid = s.refobjid join pg_database d on d.oid = s.dbid
  where s.refclassid = 'pg_authid'::regclass and r.rolname = 'thea_owner'
    and d.datname <> current_database() and d.datallowconn
  group by d.datname
  order by 1
)
"""

# Logins that may use the schema, and may connect for no other reason than that everybody may.
_LOGINS = """
select r.rolname::text
from pg_roles r cross join pg_database d
where d.datname = current_database()
  and r.rolcanlogin and not r.rolsuper
  and r.rolname not in (session_user, current_user) and r.rolname <> all(%(known)s)
  and not pg_has_role(r.oid, d.datdba, 'member')
  and has_schema_privilege(r.oid, 'thea', 'usage')
  and exists (
    select from aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
    where a.grantee = 0 and a.privilege_type = 'CONNECT'
  )
  and not exists (
    select from aclexplode(d.datacl) a
    where a.grantee <> 0 and a.privilege_type = 'CONNECT' and pg_has_role(r.oid, a.grantee, 'member')
  )
order by 1
"""
_SHOWN = 5


def _connect(context: CheckContext) -> Sequence[Verdict]:
    if not context.is_service:
        return []  # which login is the service's nobody can say
    [(databases,)] = context.ask(_DATABASES)
    if not databases:
        return [ok("no other database of this server has the library's schema")]
    urls = (context.settings.url, context.settings.migrator_url)
    known = {DatabaseUrl.parse(url).user for url in urls if url is not None}
    logins = [name for (name,) in context.ask(_LOGINS, known=sorted(name for name in known if name))]
    if not logins:
        return [ok("other databases of this server have the schema, too, but none of their logins may connect here")]
    [(database, service)] = context.ask("select current_database()::text, session_user::text")
    shown = ", ".join(logins[:_SHOWN]) + (f" and {len(logins) - _SHOWN} more" if len(logins) > _SHOWN else "")
    fix = (
        f"`revoke connect on database {quoted(database)} from public; "
        f"grant connect on database {quoted(database)} to {quoted(service)}`, and the same grant to each of these "
        "logins that belongs here"
    )
    found = (
        f"everybody may connect, so these logins may act on this database's tenants: {shown}; "
        f"the schema is also in {', '.join(databases[:_SHOWN])}"
    )
    return [warning(found, fix)]


CHECKS: Mapping[str, Check] = {"neighbours": _connect}
