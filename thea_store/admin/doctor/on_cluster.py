"""What `deploy/citus/distribute.sql` makes otherwise than the migrations, which is no fault on a Citus cluster."""

from __future__ import annotations

import re

from thea_store.admin.doctor.findings import CheckContext
from thea_store.admin.doctor.manifest import Thing

__all__ = ["is_cluster", "is_made_there"]

_IS_CLUSTER = "select exists (select from pg_catalog.pg_extension where extname = 'citus')"
_SEQUENCES = re.compile(r"usage on sequence thea\.\w+_id_seq to (?:thea_app|thea_loader|thea_maintenance)")
_RECORDS = "thea.record_compliance(text,text,bigint,text,jsonb)"
_MADE_THERE = {
    "constraint": {"tenants_limits_on_cluster_check"},
    "function": {
        "thea.admitted_tenant()",
        "thea.chain_compliance()",
        "thea.may_work(text)",
        "thea.search_notes(text,bigint,jsonb,integer)",
        "thea.tagged_notes(text,bigint,text[],boolean)",
        "thea.tenants_due(regclass,text)",
    },
    "owner of function": {_RECORDS},
    "policy": {"certificates_on_cluster"},
    "right": {
        "insert on thea.compliance_log to thea_redactor",
        "select on thea.compliance_log to thea_redactor",
        f"execute on function {_RECORDS} to thea_redactor",
    },
    "trigger": {
        *("install_directory", "install_encryption", "keep_limits"),
        *("record_directory", "record_key", "record_policy", "record_whole"),
    },
}


def is_cluster(context: CheckContext) -> bool:
    """Whether the database has Citus."""
    return context.ask(_IS_CLUSTER) == [(True,)]


def is_made_there(thing: Thing) -> bool:
    """Whether the script makes, changes or removes it."""
    if thing.kind == "right" and _SEQUENCES.fullmatch(thing.name):
        return True
    return thing.name in _MADE_THERE.get(thing.kind, ())
