"""What the attacks rest on, for everything that the catalog has: also for a table or a function that came yesterday.

What stands in a list of exceptions has its reason there, and an exception that nothing needs any more fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tests.isolation.attacks import Scene, scene_fixture, untouched_fixture  # noqa: F401 - fixtures
from tests.support.twins import KEYS, LOGS
from thea_store.assistant import AGGREGATES
from thea_store.extensions import Aggregate
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

OF_TENANT = "(tenant_id = thea.tenant())"
OURS = (
    "select oid, rolname from pg_roles"
    " where rolname ~ '^thea_(owner|app|readonly|maintenance|search|admin|mover|loader|privacy|redactor|recorder"
    "|worker|auditor|audit_expirer)$'"
)
IN_OURS = "relnamespace = 'thea'::regnamespace"
OF_NO_SYSTEM = "{}namespace <> all(array['pg_catalog', 'information_schema']::regnamespace[])"

# Policies that are not the tenant's: table, command, role.
OTHER_POLICIES = {
    ("*", "r", "thea_maintenance"): "retention crosses tenants, and has no part in the audit log",
    ("*", "d", "thea_maintenance"): "the same",
    ("thea.notes", "r", "thea_search"): "the searches compare the tenant themselves",
    ("thea.audit_log", "a", "thea_owner"): "the trigger function writes as the owner",
    ("*", "*", "thea_mover"): "a tenant that is moved or ended is suspended, so these ask no directory",
    ("*", "*", "thea_loader"): "the same",
    ("thea.audit_log", "*", "thea_mover"): "the same",
    ("thea.audit_log", "*", "thea_loader"): "a tenant is brought in with its entries, and ends with them",
    ("thea.tenants", "*", "thea_loader"): "who moves or ends a tenant stops its service",
    ("thea.tenants", "*", "thea_admin"): "the directory belongs to no tenant",
    ("thea.tenants", "r", "thea_owner"): "functions look there, on a service's behalf, whether its tenant may work",
    ("thea.tenants", "r", "thea_auditor"): "an auditor says how a tenant stands",
    ("thea.retention_policies", "r", "thea_auditor"): "and for how long its rows are kept",
    (
        "thea.compliance_log",
        "r",
        "thea_auditor",
    ): "an auditor verifies the chains of all tenants",
    ("thea.compliance_log", "r", "thea_recorder"): "who adds to a chain reads where it ends",
    ("thea.compliance_log", "a", "thea_recorder"): "it alone writes there, of suspended tenants too",
    ("thea.activity_log", "r", "thea_auditor"): "the same of what administrators did, and of who read what",
    ("thea.activity_log", "r", "thea_recorder"): "who adds to a chain reads where it ends",
    ("thea.activity_log", "a", "thea_recorder"): "it alone writes there",
    ("thea.activity_log", "r", "thea_audit_expirer"): "entries whose time is over are removed by it alone",
    ("thea.activity_log", "d", "thea_audit_expirer"): "the same",
    ("thea.noted_reads", "*", "thea_recorder"): "it brings noted reads into their chain",
    ("thea.noted_reads", "r", "thea_auditor"): "an auditor sees what is in no chain yet",
    ("thea.tenants", "r", "thea_recorder"): "it looks whether a tenant's reads are to be noted",
    ("thea.quotas", "*", "thea_owner"): "the triggers add up there what tenants use",
    ("thea.quotas", "r", "thea_admin"): "an administrator sees how much of a limit is used",
    ("thea.retention_policies", "*", "thea_admin"): "a policy belongs to no tenant",
    ("thea.retention_policies", "r", "thea_owner"): "a function looks there for the policy of a service's tenant",
    ("thea.retention_policies", "r", "thea_maintenance"): "it removes by them",
    ("thea.retention_policies", "r", "thea_audit_expirer"): "the same",
    ("thea.audit_log", "r", "thea_audit_expirer"): "entries whose time is over are removed by it alone",
    ("thea.audit_log", "d", "thea_audit_expirer"): "the same",
    ("thea.audit_log", "a", "thea_audit_expirer"): "and it says so",
    ("thea.message_counts", "*", "thea_maintenance"): "the functions that count run as this role",
    ("thea.message_folds", "*", "thea_maintenance"): "the same",
}

# What a role may do with a whole table: with all of them, and where it is another right with one.
RIGHTS = {
    ("*", "thea_app"): {"SELECT", "INSERT", "DELETE"},
    ("*", "thea_readonly"): {"SELECT"},
    ("*", "thea_mover"): {"SELECT"},
    ("*", "thea_loader"): {"SELECT", "INSERT", "UPDATE", "DELETE"},
    ("thea.audit_log", "thea_loader"): {"SELECT", "INSERT", "DELETE"},
    ("*", "thea_maintenance"): {"SELECT", "DELETE"},
    ("*", "thea_privacy"): {"SELECT"},
    ("thea.audit_log", "thea_app"): {"SELECT"},
    ("thea.compliance_log", "thea_app"): {"SELECT"},
    (KEYS, "thea_app"): {"SELECT"},
    ("thea.compliance_log", "thea_maintenance"): set[str](),
    ("thea.compliance_log", "thea_mover"): set[str](),
    ("thea.compliance_log", "thea_loader"): set[str](),
    **{
        (table, role): rights
        for table in ("thea.message_counts", "thea.message_folds")
        for role, rights in {
            "thea_app": {"SELECT"},
            "thea_maintenance": {"SELECT", "INSERT", "UPDATE", "DELETE"},
            "thea_mover": set[str](),
            "thea_loader": set[str](),
        }.items()
    },
    # Whose function erases a person: the user's row, with which the rest goes.
    ("thea.users", "thea_redactor"): {"SELECT", "DELETE"},
    ("thea.audit_log", "thea_redactor"): {"SELECT"},
    ("thea.compliance_log", "thea_recorder"): {"SELECT", "INSERT"},
    ("thea.compliance_log", "thea_auditor"): {"SELECT"},
    ("thea.audit_log", "thea_maintenance"): set[str](),
    ("thea.notes", "thea_search"): {"SELECT"},
    ("thea.audit_log", "thea_audit_expirer"): {"SELECT", "DELETE", "INSERT"},
}
# Besides: a service and its readers compare the applied migrations with their own.
GROUPS = (
    "thea_app",
    "thea_readonly",
    "thea_maintenance",
    "thea_admin",
    "thea_auditor",
    "thea_mover",
    "thea_privacy",
    "thea_worker",
)
# Nobody can log in as these.
INNER = ("thea_audit_expirer", "thea_loader", "thea_recorder", "thea_redactor", "thea_search")
HISTORY = {("_yoyo_migration", group, "SELECT") for group in GROUPS}
# What belongs to no tenant, and what the groups may do there that use it.
SHARED = {
    "thea.tenants": {
        "thea_admin": {"SELECT", "INSERT"},
        "thea_loader": {"SELECT", "INSERT"},
        "thea_auditor": {"SELECT"},
    },
    "thea.activity_log": {
        "thea_auditor": {"SELECT"},
        "thea_recorder": {"SELECT", "INSERT"},
        "thea_audit_expirer": {"SELECT", "DELETE"},
    },
    "thea.noted_reads": {"thea_auditor": {"SELECT"}, "thea_recorder": {"SELECT", "INSERT", "DELETE"}},
    "thea.quotas": {"thea_admin": {"SELECT"}},
    "thea.retention_policies": {
        "thea_admin": {"SELECT", "INSERT", "DELETE"},
        "thea_maintenance": {"SELECT"},
        "thea_audit_expirer": {"SELECT"},
        "thea_auditor": {"SELECT"},
    },
}
# Their columns that an administrator changes.
SHARED_UPDATES = {
    ("thea.tenants", "thea_admin", "UPDATE"),
    ("thea.tenants", "thea_loader", "UPDATE"),
    ("thea.retention_policies", "thea_admin", "UPDATE"),
    ("thea.tenants", "thea_recorder", "SELECT"),
}

# `messages.add` draws the id first; for the keystone see its migration.
SEQUENCES = {("thea.message_history_id_seq", "thea_app", "USAGE")} | {
    ("thea.keystone", group, "USAGE") for group in GROUPS
}

FIXED = {"tenant_id", "id", "user_id", "conversation_id", "created_at", "updated_at", "search_vector"}

DEFINERS = {
    "admitted_tenant": (
        "thea_owner",
        "a service has no right on the directory, which says whether its tenant may work",
    ),
    "may_work": ("thea_owner", "the same, for functions that name tenants"),
    "install_directory": ("thea_owner", "the first tenant in the directory lets the policies ask it"),
    "audit": ("thea_owner", "nobody else may write the log"),
    "cascade_deletion": ("thea_loader", "what is hidden with a row has its entries from one statement"),
    "limits_of_calls": ("thea_owner", "a service may know what its tenant may do in calls, and no other's"),
    "keep_limits": ("thea_owner", "an administrator's limits become quotas, which nobody else may write"),
    "meter": ("thea_owner", "what a service adds is added up there"),
    "charge": ("thea_owner", "the same"),
    "count_rows": ("thea_maintenance", "it counts a tenant's rows, and shows none"),
    "usage_of": ("thea_maintenance", "the same"),
    "record_compliance": ("thea_recorder", "nobody else may write the compliance log"),
    "record_directory": ("thea_recorder", "what is done to the directory is noted, whoever does it"),
    "record_policy": ("thea_recorder", "the same of the policies of retention"),
    "record_whole": ("thea_recorder", "the same of a tenant as a whole"),
    "log_read": ("thea_recorder", "who reads has that noted, and nothing else"),
    "chain_reads": ("thea_recorder", "nobody else adds to a chain"),
    "record_expiry": ("thea_recorder", "the same; who removes entries adds none"),
    "tenants_with_noted_reads": ("thea_recorder", "it looks at every tenant, and gives names alone"),
    "tenants_with_expired_activity": ("thea_audit_expirer", "the same"),
    "expire_activity": ("thea_audit_expirer", "nobody else removes an entry"),
    "log_export": ("thea_recorder", "the same of an export"),
    "kept_of": ("thea_maintenance", "an auditor learns how many rows there are, and sees none"),
    "entries_kept_of": ("thea_audit_expirer", "the same"),
    "erase_person": ("thea_redactor", "nobody else may take back what the log says"),
    "search_notes": ("thea_search", "`@@` is not leakproof, so row security would keep it from its index"),
    "tagged_notes": ("thea_search", "the same"),
    "import_begin": ("thea_loader", "a tenant that is brought in has one entry in the log, not one for each row"),
    "import_rows": ("thea_loader", "the same"),
    "sync_rows": ("thea_loader", "the same"),
    "remove_rows": ("thea_loader", "the same"),
    "pause_tenant": ("thea_loader", "of the directory it reaches the tenant that the session names alone"),
    "unpause_tenant": ("thea_loader", "the same"),
    "end_begin": ("thea_loader", "a tenant that ends takes its entries along"),
    "end_rows": ("thea_loader", "the same"),
    "add_key": ("thea_loader", "a service may have no way to another key than its operator's"),
    "require_key": ("thea_loader", "who takes entries back may see no key"),
    "retire_keys": ("thea_loader", "as for the first key"),
    "end_encryption": ("thea_loader", "the same"),
    "seal_rows": ("thea_loader", "what is sealed later has no entry in the log, which would hold the plain text"),
    "open_rows": ("thea_loader", "the same of what is opened"),
    "encrypted_tenants": ("thea_maintenance", "it looks at every tenant, and gives names alone"),
    "record_key": ("thea_recorder", "what is done to a key is noted, whoever does it"),
    "log_forgotten_key": ("thea_recorder", "who has a key destroyed has that noted, and nothing else"),
    "redact_texts": ("thea_redactor", "nobody else may take back what the log says"),
    "install_encryption": ("thea_owner", "the first key of a tenant has plain texts of encrypted tenants refused"),
    "advance_ids": ("thea_owner", "sequences are the owner's"),
    "advance_past": ("thea_loader", "it asks for the highest of the tenant's ids"),
    "reserve_ids": ("thea_owner", "the same"),
    "tenant_keeps": ("thea_owner", "a service may know for how long its tenant's rows are kept, and no other's"),
    "tenants_with_work": ("thea_maintenance", "it looks at every tenant, and gives names alone"),
    "tenants_with_expired_rows": ("thea_maintenance", "the same"),
    "tenants_with_expired_audit": ("thea_audit_expirer", "the same"),
    "expire_rows": ("thea_maintenance", "a worker, which may touch no row, has rows removed by policies alone"),
    "expire_audit": ("thea_audit_expirer", "nobody else removes an entry"),
    "leave_difference": ("thea_maintenance", "nobody else may write the sums of messages"),
    "tenants_with_uncounted_messages": ("thea_maintenance", "it looks at every tenant, and gives names alone"),
    "fold_messages": ("thea_maintenance", "a worker, which may see no row, has messages counted"),
    "fold_messages_here": ("thea_maintenance", "the same, on the node of a cluster that has the tenant"),
    "sums_kept_of": ("thea_maintenance", "it counts a tenant's sums, and shows none"),
    "forget_message_counts": ("thea_maintenance", "nobody else may remove the sums of a tenant that ends"),
}

PEOPLE = {"thea_privacy", "thea_redactor"}

# Who calls a function; all others are called by triggers alone.
EXECUTED = {
    # Policies ask for it with the rights of whoever reads; so does each search.
    "tenant": {"thea_app", "thea_readonly", "thea_maintenance", "thea_search"} | PEOPLE,
    # One of the two is what `tenant` calls.
    "admitted_tenant": {"thea_app", "thea_readonly", "thea_maintenance", "thea_search"} | PEOPLE,
    "unchecked_tenant": {"thea_app", "thea_readonly", "thea_maintenance", "thea_search"} | PEOPLE,
    # Who moves or ends a tenant works on one that is suspended.
    "named_tenant": {"thea_app", "thea_mover", "thea_loader", "thea_maintenance", "thea_recorder"},
    "may_work": {"thea_maintenance", "thea_audit_expirer"},
    "limits_of_calls": {"thea_app", "thea_privacy", "thea_readonly"},
    # It names one tenant after the other, as whoever calls it may do.
    "limits_of_calls_of": {"thea_app", "thea_privacy", "thea_readonly"},
    "tables_of_tenants": {"thea_maintenance"},
    "text_bytes_of": {"thea_maintenance"},
    "count_rows": {"thea_owner"},
    "usage_of": {"thea_admin"},
    # The trigger that makes a note's words has the rights of whoever writes the note.
    "note_vector": {"thea_app", "thea_loader"},
    "grouped_figures": {"thea_app", "thea_loader"},
    "joints": {"thea_app", "thea_loader"},
    "wholes": {"thea_app", "thea_loader"},
    "words": {"thea_app", "thea_loader"},
    # A query is made into words as a note is.
    "unaccented": {"thea_app", "thea_search", "thea_loader"},
    "separators": {"thea_app", "thea_search", "thea_loader"},
    "ordinary": {"thea_app", "thea_search", "thea_loader"},
    "normal": {"thea_app", "thea_search", "thea_loader"},
    "spoken": {"thea_app", "thea_search", "thea_loader"},
    "word_forms": {"thea_app", "thea_search", "thea_loader"},
    "note_scope": {"thea_app", "thea_search", "thea_loader"},
    "same_day": {"thea_app"},
    # What a service writes with its own rights.
    "add_message": {"thea_app"},
    "upsert_event": {"thea_app"},
    # The searches have rights of their own, and alone are called by a service.
    "note_query": {"thea_search"},
    "term_query": {"thea_search"},
    "marked": {"thea_search"},
    "note_snippet": {"thea_search"},
    # What a worker calls, and what that calls for it.
    "tenants_with_work": {"thea_worker"},
    "tenants_with_expired_rows": {"thea_worker"},
    "tenants_with_expired_audit": {"thea_worker"},
    "expire_rows": {"thea_worker"},
    "expire_audit": {"thea_worker"},
    "tenants_with_uncounted_messages": {"thea_worker"},
    "fold_messages": {"thea_worker"},
    "forget_message_counts": {"thea_mover"},
    "sums_kept_of": {"thea_auditor"},
    "tenants_due": {"thea_maintenance", "thea_audit_expirer"},
    "kept": {"thea_maintenance", "thea_audit_expirer"},
    "work_kinds": {"thea_maintenance"},
    # What a service asks of its own tenant's policies.
    "tenant_keeps": {"thea_app"},
    "index_on": {"thea_maintenance", "thea_audit_expirer"},
    "expiring_tables": {"thea_maintenance"},
    "search_notes": {"thea_app", "thea_readonly"},
    "tagged_notes": {"thea_app", "thea_readonly"},
    # A service brings rows of a backup back with its own rights.
    "require_own": {"thea_app", "thea_loader"},
    "references_of": {"thea_app", "thea_loader"},
    "parents_exist": {"thea_app", "thea_loader"},
    "id_here": {"thea_app", "thea_loader"},
    "load_rows": {"thea_app", "thea_loader"},
    # Who makes a trigger needs the right to its function.
    "cascade_deletion": {"thea_owner"},
    "cascade_rows": {"thea_loader"},
    # Whole tenants are brought in and ended by an operator.
    "require_import": {"thea_loader"},
    "sync_rows": {"thea_mover"},
    "remove_rows": {"thea_mover"},
    "pause_tenant": {"thea_mover"},
    "unpause_tenant": {"thea_mover"},
    "tenant_entry": {"thea_loader"},
    "document_here": {"thea_loader"},
    "load_entries": {"thea_loader"},
    "advance_ids": {"thea_loader", "thea_mover"},
    "advance_past": {"thea_mover"},
    "reserve_ids": {"thea_loader"},
    "import_begin": {"thea_mover"},
    "import_rows": {"thea_mover"},
    "end_begin": {"thea_mover"},
    "end_rows": {"thea_mover"},
    # An operator encrypts a tenant.
    "add_key": {"thea_mover"},
    "retire_keys": {"thea_mover"},
    "end_encryption": {"thea_mover"},
    "seal_rows": {"thea_mover"},
    "open_rows": {"thea_mover"},
    "log_forgotten_key": {"thea_mover"},
    "encrypted_tenants": {"thea_mover", "thea_auditor"},
    "emptied_columns": {"thea_loader"},
    "require_key": {"thea_redactor"},
    "redact_texts": {"thea_mover"},
    "sealed_columns": {"thea_mover", "thea_loader", "thea_redactor"},
    # They see the keys that who asks may see.
    "seals_texts": {"thea_app", "thea_loader"},
    "is_encrypted": {"thea_app", "thea_readonly", "thea_loader"},
    "has_sealed_texts": {"thea_app", "thea_readonly", "thea_loader"},
    "may_search": {"thea_app", "thea_readonly"},
    # What belongs to a person is read with the rights of who asks; the others tell what the catalogs tell everybody.
    "parents": {"thea_app", "thea_readonly", "thea_privacy", "thea_redactor", "thea_maintenance"},
    "short_name": {"thea_app", "thea_readonly", "thea_privacy", *INNER, "thea_maintenance"}
    - {"thea_search", "thea_recorder"},
    "person_condition": {"thea_app", "thea_readonly", "thea_privacy", "thea_redactor"},
    "person_tables": {"thea_app", "thea_readonly", "thea_privacy", "thea_redactor"},
    "other_user_ids": {"thea_app", "thea_readonly", "thea_privacy", "thea_redactor"},
    "person_rows": {"thea_app", "thea_readonly", "thea_privacy"},
    "person_row_ids": {"thea_app", "thea_readonly", "thea_privacy", "thea_redactor"},
    "erase_person": {"thea_privacy"},
    # What writes the compliance log, and what an auditor is told.
    "compliance_hash": {"thea_recorder"},
    "activity_hash": {"thea_recorder"},
    "append_activity": {"thea_recorder"},
    "record_activity": {"thea_recorder"},
    "note_read": {"thea_recorder"},
    "record_expiry": {"thea_audit_expirer"},
    # Who verifies a chain has what is noted brought into it before.
    "chain_reads": {"thea_worker", "thea_auditor"},
    "tenants_with_noted_reads": {"thea_worker", "thea_auditor"},
    "tenants_with_expired_activity": {"thea_worker"},
    "expire_activity": {"thea_worker"},
    # Who reads says so.
    "log_read": {"thea_app", "thea_privacy", "thea_readonly"},
    "log_export": {"thea_app", "thea_mover", "thea_privacy", "thea_readonly"},
    "record_compliance": {"thea_redactor"},
    "kept_of": {"thea_auditor"},
    "entries_kept_of": {"thea_auditor"},
}

# A function's body, when it was looked at last: what it does for one tenant it does with rights or rows of all.
READ_AGAIN = "read it with an attacker's eyes, and then write down its digest"
BODIES = {
    "activity_is_append_only": "9b510207c97b",
    "add_key": "ea148b00ff0c",
    "add_message": "2ad0983550e6",
    "admitted_tenant": "b984198fcd21",
    "advance_ids": "a2882098e172",
    "advance_past": "a488fce80603",
    "append_activity": "dfec1a3937a1",
    "audit": "c54ad9a6dfa0",
    "audit_is_append_only": "6bf07f933227",
    "cascade_deletion": "09ea27059aef",
    "cascade_rows": "9bd9d0df1bed",
    "chain_compliance": "b83c89212afe",
    "chain_reads": "3fcb5e456267",
    "charge": "ff89f307ec3d",
    "compliance_is_append_only": "be717a8f9bb3",
    "count_rows": "974377cfbdbd",
    "end_begin": "ab44cf9a5c34",
    "end_encryption": "45c69e9110b9",
    "end_rows": "09e4a0b08339",
    "ensure_metered": "3d21dc72685d",
    "ensure_trigger": "6eebb609ce7e",
    "entries_kept_of": "be6714c819b2",
    "erase_person": "43ab9230fd1a",
    "expire_activity": "fb25d01d5cf2",
    "expire_audit": "f87582ae44e2",
    "expire_rows": "47cc48faea65",
    "fold_messages": "7537109cf996",
    "fold_messages_here": "048a1872453d",
    "forget_message_counts": "94f447ee1063",
    "has_sealed_texts": "1fdfabd5e0e8",
    "import_begin": "824a0d049a83",
    "import_rows": "ffb34164378f",
    "index_note": "b261674bee2d",
    "install_directory": "a0ddfaa4da73",
    "install_encryption": "7ac07ecdf09e",
    "keep_dates": "5bf060dc902f",
    "keep_limits": "ac481f62bb5c",
    "keep_row_key": "ae5741f2da13",
    "kept_of": "9cec59812c4c",
    "leave_difference": "30e061906e3d",
    "limits_in": "a01a6f1ee7cd",
    "limits_of_calls": "03c0d0e2f194",
    "limits_of_calls_of": "d1506fa5baf0",
    "load_entries": "2fb309da5d4e",
    "load_rows": "7d653e535819",
    "log_export": "0e9edd4c1ff6",
    "log_forgotten_key": "deaf1248850c",
    "log_read": "ed2977a59421",
    "marked": "c34ed48326c4",
    "may_search": "103550446c56",
    "may_work": "e9b4cad91a41",
    "meter": "5ef3f325a1d4",
    "normal": "c85aaffd1122",
    "note_query": "b6e96f448898",
    "note_vector": "b853b04db75e",
    "note_work": "ac957c69df5e",
    "offer_work": "f73fe3ccd1f0",
    "open_rows": "ff35c19319cc",
    "pause_tenant": "75516668f0fb",
    "person_condition": "b2b7eee0fcea",
    "person_row_ids": "36eb2c8c8a87",
    "person_rows": "f8bde1ca75ad",
    "protect": "bfc3044d3bb0",
    "record_activity": "eebfd40eab5d",
    "record_compliance": "36d68b4c5f4e",
    "record_directory": "8a8dcce43000",
    "record_expiry": "95e5ce0b7211",
    "record_key": "e9864aa853de",
    "record_policy": "000a9b487119",
    "record_whole": "6003e66d7b72",
    "redact_texts": "9f8184f9f7a5",
    "refuse_plain_text": "4400fcf3c175",
    "remove_rows": "d85eafd98336",
    "require_import": "87603b4ea678",
    "require_key": "3f431d1f584b",
    "require_own": "1f623d5ab672",
    "reserve_ids": "95a67105b9df",
    "retire_keys": "9ba618d2e974",
    "seal_rows": "1ba0ad481c9c",
    "seals_texts": "238facb5b58f",
    "search_notes": "6a867878f166",
    "spoken": "31b474cd41e8",
    "sums_kept_of": "51ea8d9a20c9",
    "sync_rows": "a8218b5993ac",
    "tagged_notes": "f0cbbd0a294b",
    "tenant_entry": "fbca862d51ec",
    "tenants_due": "ec193dcaa7ac",
    "tenants_with_expired_activity": "73e4982c1329",
    "tenants_with_expired_audit": "50b9223418cf",
    "tenants_with_expired_rows": "d075a5d752e5",
    "tenants_with_noted_reads": "5a4a22b44e03",
    "tenants_with_uncounted_messages": "316ef29640c9",
    "tenants_with_work": "bab01b3d4452",
    "touch": "c7ef398c0b15",
    "unpause_tenant": "f153647dff48",
    "unprotect": "53f0ec5743bd",
    "upsert_event": "65bb2aebcf42",
    "usage_of": "d0f4417c9e81",
    "withdraw_work": "9a8b7cc08b13",
    "words": "46bc8f45c371",
}

# The triggers that thea.protect gives every aggregate. What a row hangs on follows from its record. What a migration
# says of columns, and every other trigger, stands in the lists below.
_AUDIT = (
    "audit AFTER INSERT OR DELETE OR UPDATE ON thea.{} FOR EACH ROW"
    " WHEN ((CURRENT_USER <> 'thea_loader'::name)) EXECUTE FUNCTION thea.audit({})"
)
_TOUCH = "touch BEFORE UPDATE{} ON thea.{} FOR EACH ROW EXECUTE FUNCTION thea.touch()"
_HIDE = (
    "hide_{0}_{1} AFTER UPDATE OF deleted_at ON {2} FOR EACH ROW WHEN"
    " ((((old.deleted_at IS NULL) <> (new.deleted_at IS NULL)) AND (CURRENT_USER <> 'thea_loader'::name)))"
    " EXECUTE FUNCTION thea.cascade_deletion({3})"
)
# The columns that the audit log leaves out, because they follow from others, or are mere activity.
NOT_IN_ENTRIES = {
    "users": ["last_activity"],
    "conversations": ["last_activity", "last_message_id", "last_message_at"],
    "events": [
        *("timezone", "location_key", "series_end"),
        *("reminded_until", "reminded", "reminded_at", "next_reminder_at"),
    ],
    "notes": ["next_reminder_at", "search_vector"],
    "encryption_keys": ["wrapped"],
}
# Where `updated_at` moves with these columns alone.
TOUCHED_BY = {
    "events": "title, description, start_datetime, end_datetime, location, event_type, category, status,"
    " reminder_minutes, recurrence_rule, all_day, skipped, external_id, extra_data, deleted_at, deleted_with",
    "notes": "title, content, category, priority, tags, is_pinned, reminder_datetime, extra_data, sealed, deleted_at,"
    " deleted_with",
}
# Watched as the aggregates are.
WATCHED_TOO = ["encryption_keys"]
TOUCHED_TOO = ["tenants", "encryption_keys"]
OTHER_TRIGGERS = {
    ("install_directory AFTER INSERT ON thea.tenants FOR EACH STATEMENT EXECUTE FUNCTION thea.install_directory()"),
    (
        "install_encryption AFTER INSERT ON thea.encryption_keys FOR EACH STATEMENT"
        " EXECUTE FUNCTION thea.install_encryption()"
    ),
    (
        "record_key AFTER INSERT OR DELETE OR UPDATE ON thea.encryption_keys FOR EACH ROW"
        " EXECUTE FUNCTION thea.record_key()"
    ),
    ("keep_limits AFTER INSERT OR UPDATE OF limits ON thea.tenants FOR EACH ROW EXECUTE FUNCTION thea.keep_limits()"),
    (
        "append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON thea.audit_log FOR EACH STATEMENT"
        " EXECUTE FUNCTION thea.audit_is_append_only()"
    ),
    (
        "append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON thea.compliance_log FOR EACH STATEMENT"
        " EXECUTE FUNCTION thea.compliance_is_append_only()"
    ),
    *(
        f"count_{command.lower()} AFTER {command} ON thea.message_history FOR EACH ROW WHEN ({condition})"
        " EXECUTE FUNCTION thea.leave_difference()"
        for command, condition in {
            "INSERT": "((new.created_at < (clock_timestamp() - '01:00:00'::interval)) AND (new.deleted_at IS NULL))",
            "DELETE": "((old.created_at < (clock_timestamp() - '01:00:00'::interval)) AND (old.deleted_at IS NULL))",
            "UPDATE": "((LEAST(old.created_at, new.created_at) < (clock_timestamp() - '01:00:00'::interval))"
            " AND ((old.deleted_at IS NULL) OR (new.deleted_at IS NULL)))",
        }.items()
    ),
    (
        "append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON thea.activity_log FOR EACH STATEMENT"
        " EXECUTE FUNCTION thea.activity_is_append_only()"
    ),
    (
        "record_directory AFTER INSERT OR DELETE OR UPDATE ON thea.tenants FOR EACH ROW"
        " EXECUTE FUNCTION thea.record_directory()"
    ),
    (
        "record_policy AFTER INSERT OR DELETE OR UPDATE ON thea.retention_policies FOR EACH ROW"
        " EXECUTE FUNCTION thea.record_policy()"
    ),
    (
        "record_whole AFTER INSERT ON thea.audit_log FOR EACH ROW WHEN ((new.table_name = 'tenant'::text))"
        " EXECUTE FUNCTION thea.record_whole()"
    ),
    "chain BEFORE INSERT ON thea.compliance_log FOR EACH ROW EXECUTE FUNCTION thea.chain_compliance()",
    (
        "search_vector BEFORE INSERT OR UPDATE OF tenant_id, user_id, title, tags, content, search_vector ON thea.notes"
        " FOR EACH ROW EXECUTE FUNCTION thea.index_note()"
    ),
    (
        "keep_dates AFTER UPDATE OF timezone ON thea.users FOR EACH ROW"
        " WHEN ((old.timezone IS DISTINCT FROM new.timezone)) EXECUTE FUNCTION thea.keep_dates()"
    ),
}


def _parents(aggregate: Aggregate) -> list[tuple[str, str]]:
    """The tables that a row hangs on, each with the field that says on which row: `user_id` of the table of `users`."""
    repository: Any = aggregate.repository
    fields = repository.common.get_all.record.model_fields
    named = {f"{other.sql.aggregate.removesuffix('s')}_id": other for other in AGGREGATES if other is not aggregate}
    return sorted((other.table, field) for field, other in named.items() if field in fields)


def _quoted(*names: str) -> str:
    return ", ".join(f"'{name}'" for name in names)


def needed_triggers() -> set[str]:
    """Those of each aggregate, by its kind and its record, and those of the lists."""
    needed = set(OTHER_TRIGGERS)
    tables = [aggregate.table.removeprefix("thea.") for aggregate in AGGREGATES]
    for table in (*tables, *WATCHED_TOO):
        needed.add(_AUDIT.format(table, _quoted(table, *NOT_IN_ENTRIES.get(table, []))))
    for table in (*tables, *TOUCHED_TOO):
        needed.add(_TOUCH.format(f" OF {TOUCHED_BY[table]}" if table in TOUCHED_BY else "", table))
    for aggregate in AGGREGATES:
        parents = _parents(aggregate)
        for parent, field in parents:
            others = [name for pair in parents if pair != (parent, field) for name in pair]
            child = aggregate.table.removeprefix("thea.")
            arguments = _quoted(aggregate.table, field, parent.removeprefix("thea."), *others)
            needed.add(_HIDE.format(child, field, parent, arguments))
    return needed


def triggers_in(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Each trigger of the schema, and whether it fires."""
    found = connection.execute(
        "select pg_get_triggerdef(t.oid), tgenabled::text from pg_trigger t join pg_class c on c.oid = t.tgrelid"
        f" where not tgisinternal and c.{IN_OURS}".encode()
    ).fetchall()
    return {text.removeprefix("CREATE TRIGGER "): enabled for text, enabled in found}


def test_every_table_has_a_tenant_an_owner_who_cannot_log_in_and_forced_row_security(scene: Scene) -> None:
    tables = scene.ask(
        "select c.oid::regclass::text, relowner::regrole::text, relrowsecurity and relforcerowsecurity,"
        " exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and a.attnotnull"
        " and a.atttypid = 'text'::regtype)"
        f" from pg_class c where {IN_OURS} and relkind in ('r', 'p')"
    )

    assert {name for name, *_ in tables} == {*scene.tables, *SHARED}
    assert [row for row in tables if row[1:] != ("thea_owner", True, row[0] not in SHARED)] == []


def test_the_schema_has_no_relation_that_row_security_does_not_reach(scene: Scene) -> None:
    others = scene.ask(
        f"select c.oid::regclass::text, relkind from pg_class c where {IN_OURS}"
        " and relkind not in ('r', 'p', 'i', 'I', 'S')"
        " and not (relkind = 'c' or relkind = 'v' and 'security_invoker=true' = any(reloptions))"
    )

    assert others == []


def test_each_table_has_the_tenants_two_policies(scene: Scene) -> None:
    for table in scene.tables:
        policies = scene.ask(
            "select polpermissive, polcmd::text, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)"
            " from pg_policy where polrelid = %s::regclass and polroles @> array['thea_app'::regrole::oid]"
            " and polroles @> array['thea_readonly'::regrole::oid] order by 1",
            table,
        )
        reads_only = table in LOGS

        assert policies == [
            (False, "*", OF_TENANT, OF_TENANT),
            (True, "r", OF_TENANT, None) if reads_only else (True, "*", OF_TENANT, OF_TENANT),
        ], table


def test_who_works_on_a_tenant_as_a_whole_reaches_the_one_that_the_session_names(scene: Scene) -> None:
    of_named = "(tenant_id = thea.named_tenant())"
    for table in set(scene.tables) - {"thea.compliance_log", "thea.message_counts", "thea.message_folds"}:
        policies = scene.ask(
            "select polpermissive, polcmd::text, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)"
            " from pg_policy where polrelid = %s::regclass and polroles && array['thea_mover', 'thea_loader']"
            "::regrole[]::oid[] order by 1",
            table,
        )

        assert policies == [(False, "*", of_named, of_named), (True, "*", of_named, of_named)], table
    of_directory = scene.ask(
        "select pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) from pg_policy"
        " where polrelid = 'thea.tenants'::regclass and polroles @> array['thea_loader'::regrole::oid]"
    )
    assert of_directory == [("(id = thea.named_tenant())",) * 2]


def test_every_other_policy_is_for_a_role_that_needs_it(scene: Scene) -> None:
    found = scene.ask(
        "select polrelid::regclass::text, polcmd::text, case o.role when 0 then 'public' else o.role::regrole::text end"
        " from pg_policy cross join unnest(polroles) o (role)"
        " where (pg_get_expr(polqual, polrelid), polpermissive) is distinct from (%s, true)"
        " and (pg_get_expr(polqual, polrelid), polpermissive) is distinct from (%s, false)",
        OF_TENANT,
        OF_TENANT,
    )
    needed = {key for key in OTHER_POLICIES if key[0] != "*"} | {
        (table, command, role)
        for _, command, role in (key for key in OTHER_POLICIES if key[0] == "*")
        for table in (*scene.written, KEYS)
    }

    assert set(found) == needed


def test_every_right_on_a_relation_is_a_needed_one(scene: Scene) -> None:
    found = scene.ask(
        "select c.oid::regclass::text, case a.grantee when 0 then 'public' else a.grantee::regrole::text end,"
        " a.privilege_type from pg_class c cross join aclexplode(coalesce(c.relacl, acldefault("
        "case c.relkind when 'S' then 's'::\"char\" else 'r'::\"char\" end, c.relowner))) a"
        f" where a.grantee <> c.relowner and {OF_NO_SYSTEM.format('rel')} and relkind <> 't'"
    )
    needed = HISTORY | SEQUENCES
    for table in scene.tables:
        for role in (*GROUPS, *INNER):
            rights = RIGHTS.get((table, role), RIGHTS.get(("*", role), set()))
            needed |= {(table, role, right) for right in rights}
    needed |= {(table, role, right) for table, of in SHARED.items() for role, rights in of.items() for right in rights}

    assert set(found) == needed


def test_columns_are_granted_for_updates_by_the_application_alone(scene: Scene) -> None:
    found = scene.ask(
        "select t.attrelid::regclass::text, t.attname, a.grantee::regrole::text, a.privilege_type"
        " from pg_attribute t cross join aclexplode(t.attacl) a where t.attrelid >= 16384"
    )

    shared = {(table, role, right) for table, _, role, right in found if table in SHARED}
    redacted = {row for row in found if row[2] == "thea_redactor"}
    found = [row for row in found if row[0] not in SHARED and row not in redacted]

    assert shared == SHARED_UPDATES
    assert redacted == {("thea.audit_log", column, "thea_redactor", "UPDATE") for column in ("before", "after")}
    assert {(role, right) for _, _, role, right in found} == {("thea_app", "UPDATE")}
    assert {table for table, *_ in found} == set(scene.written)
    assert {column for _, column, *_ in found} & FIXED == set()


def test_no_right_is_given_in_advance_or_handed_on(scene: Scene) -> None:
    assert scene.ask("select defaclrole::regrole::text, defaclacl::text from pg_default_acl") == []
    handed_on = scene.ask(
        "select x.name from ("
        " select c.oid::regclass::text, c.relowner, c.relacl from pg_class c"
        " union all select a.attname, c.relowner, a.attacl from pg_attribute a join pg_class c on c.oid = a.attrelid"
        " union all select p.oid::regprocedure::text, p.proowner, p.proacl from pg_proc p"
        " union all select nspname, nspowner, nspacl from pg_namespace"
        " union all select typname, typowner, typacl from pg_type"
        " union all select lanname, lanowner, lanacl from pg_language"
        " union all select datname, datdba, datacl from pg_database"
        ") x (name, owner, acl) cross join aclexplode(x.acl) a where a.is_grantable and a.grantee <> x.owner"
    )
    assert handed_on == []


def test_all_that_the_schema_has_is_the_owners(scene: Scene) -> None:
    others = scene.ask(
        "select x.name, x.owner::regrole::text from ("
        " select relname, relowner, relnamespace from pg_class"
        " union all select proname, proowner, pronamespace from pg_proc"
        " union all select typname, typowner, typnamespace from pg_type"
        " union all select cfgname, cfgowner, cfgnamespace from pg_ts_config"
        " union all select dictname, dictowner, dictnamespace from pg_ts_dict"
        " union all select collname, collowner, collnamespace from pg_collation"
        " union all select oprname, oprowner, oprnamespace from pg_operator"
        " union all select stxname, stxowner, stxnamespace from pg_statistic_ext"
        ") x (name, owner, namespace)"
        " where namespace = 'thea'::regnamespace and owner <> 'thea_owner'::regrole"
    )

    assert set(others) == {(name, owner) for name, (owner, _) in DEFINERS.items() if owner != "thea_owner"}
    assert scene.ask("select nspowner::regrole::text from pg_namespace where nspname = 'thea'") == [("thea_owner",)]


# What the server has of itself, in the schemas that nobody looks into.
OF_THE_SERVER = {
    "functions": "select oid::regprocedure::text, proowner, prosecdef, proacl::text, prosrc from pg_proc"
    " where pronamespace = any(array['pg_catalog', 'information_schema']::regnamespace[])",
    "relations": "select oid::regclass::text, relkind, relowner, relacl::text from pg_class"
    " where relnamespace = any(array['pg_catalog', 'information_schema']::regnamespace[])",
    "extensions": "select extname from pg_extension where extname <> 'unaccent'",
    "languages": "select lanname, lanacl::text from pg_language",
    "foreign servers": "select srvname from pg_foreign_server",
    "event triggers": "select evtname from pg_event_trigger",
    "publications": "select pubname from pg_publication",
}


@pytest.mark.parametrize("what", OF_THE_SERVER)
def test_what_is_the_servers_own_is_as_in_a_new_database(scene: Scene, what: str) -> None:
    untouched = replace(DatabaseUrl.parse(scene.database.superuser_url), database="template1")
    with psycopg.connect(untouched.render()) as connection:
        its_own = connection.execute(OF_THE_SERVER[what].encode()).fetchall()

    assert set(scene.ask(OF_THE_SERVER[what])) ^ set(its_own) == set()


def test_nobody_creates_in_a_schema_or_keeps_temporary_tables(scene: Scene) -> None:
    logins = (*GROUPS, *INNER)
    schemas = scene.ask("select nspname from pg_namespace where nspname !~ '^pg_(toast|temp)'")

    assert ("thea",) in schemas
    for role in logins:
        for (schema,) in schemas:
            assert scene.ask("select has_schema_privilege(%s, %s, 'create')", role, schema) == [(False,)], (
                role,
                schema,
            )
        for right in ("create", "temporary"):
            assert scene.ask("select has_database_privilege(%s, current_database(), %s)", role, right) == [(False,)]


def test_no_role_of_ours_can_log_in_or_has_a_power(scene: Scene) -> None:
    roles = scene.ask(
        f"select rolname, rolcanlogin or rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication"
        f" from pg_roles where oid in (select oid from ({OURS}) x)"
    )

    assert len(roles) == 14
    assert [name for name, is_strong in roles if is_strong] == []


def test_no_role_of_ours_is_another_but_the_owner_who_hands_functions_over(scene: Scene) -> None:
    memberships = scene.ask(
        f"select m.member::regrole::text, m.roleid::regrole::text from pg_auth_members m, ({OURS}) r"
        " where m.member = r.oid"
    )
    logins = scene.ask(
        "select array_agg(m.roleid::regrole::text) from pg_auth_members m"
        " where m.member::regrole::text = any(%s) group by member",
        [connection.info.user for connection in scene.logins.values()],
    )

    inner = sorted({*INNER, "thea_maintenance"})

    assert sorted(memberships) == [("thea_owner", role) for role in inner]
    assert sorted(logins) == [(["thea_app"],), (["thea_readonly"],)]


def test_every_function_is_executed_by_those_who_need_it(scene: Scene) -> None:
    found = scene.ask(
        "select p.proname, case a.grantee when 0 then 'public' else a.grantee::regrole::text end"
        " from pg_proc p cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a"
        " where p.pronamespace = 'thea'::regnamespace and a.grantee <> p.proowner"
    )

    assert {(name, role) for name, roles in EXECUTED.items() for role in roles} == set(found)


def test_every_function_that_runs_as_its_owner_is_known(scene: Scene) -> None:
    found = scene.ask(
        "select proname, proowner::regrole::text, proconfig && array['search_path=pg_catalog, pg_temp']"
        f" from pg_proc where prosecdef and {OF_NO_SYSTEM.format('pro')}"
    )

    assert sorted(found) == sorted((name, owner, True) for name, (owner, _) in DEFINERS.items())


def test_every_functions_names_are_resolved_when_it_is_made_or_in_a_fixed_path(scene: Scene) -> None:
    loose = scene.ask(
        "select proname from pg_proc where pronamespace = 'thea'::regnamespace and prosqlbody is null"
        " and (proconfig && array['search_path=pg_catalog, pg_temp']) is not true"
    )

    assert loose == []


def test_nothing_but_the_servers_own_is_called_leakproof(scene: Scene) -> None:
    """Such a function may be given any row, before row security has looked at it."""
    leakproof = "select oid::regprocedure::text from pg_proc where proleakproof order by 1"
    untouched = replace(DatabaseUrl.parse(scene.database.superuser_url), database="template1")
    with psycopg.connect(untouched.render()) as connection:
        the_servers_own = connection.execute(leakproof.encode()).fetchall()

    assert scene.ask(leakproof) == the_servers_own


def test_every_body_is_one_that_was_looked_at(scene: Scene) -> None:
    found = scene.ask(
        "select proname, left(md5(prosrc || coalesce(proconfig::text, '')), 12) from pg_proc"
        " where pronamespace = 'thea'::regnamespace and prosqlbody is null"
    )

    assert dict(found) == BODIES, READ_AGAIN


def test_every_trigger_is_a_known_one_and_there_is_no_rule(scene: Scene) -> None:
    tables = {aggregate.table.removeprefix("thea.") for aggregate in AGGREGATES}

    assert triggers_in(scene.superuser) == dict.fromkeys(needed_triggers(), "O")
    assert {*NOT_IN_ENTRIES, *TOUCHED_BY} <= {*tables, *WATCHED_TOO, *TOUCHED_TOO}
    assert scene.ask(f"select rulename from pg_rewrite r join pg_class c on c.oid = ev_class where c.{IN_OURS}") == []


@pytest.fixture(scope="module")
def altered(thea_new_database: Callable[..., TestDatabase]) -> Iterator[psycopg.Connection[Any]]:
    """A superuser of a database in which triggers may be changed; what a test does there is rolled back."""
    with psycopg.connect(thea_new_database().superuser_url) as connection:
        yield connection


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(f"drop trigger {trigger} on thea.{table}", id=f"{table} lacks {trigger}")
        for table, trigger in [
            *(("notes", trigger) for trigger in ("audit", "touch", "search_vector")),
            *(("users", trigger) for trigger in ("audit", "hide_notes_user_id", "keep_dates")),
            ("conversations", "hide_message_history_conversation_id"),
            ("tenants", "record_directory"),
        ]
    ]
    + [
        "alter table thea.events disable trigger audit",
        "create trigger more after insert on thea.notes for each row execute function thea.touch()",
        pytest.param(
            "create trigger hide_notes_note_id after update of deleted_at on thea.notes for each row"
            " execute function thea.cascade_deletion('thea.notes', 'user_id', 'notes')",
            id="notes hide notes",
        ),
        "select thea.protect('thea.notes', quiet => array['content'])",
        "select thea.protect('thea.message_history', untouched => array['user_message'])",
        pytest.param(
            "alter table thea.notes add column event_id bigint, add foreign key (tenant_id, event_id)"
            " references thea.events (tenant_id, id) on delete cascade; select thea.protect('thea.notes')",
            id="notes hang on events, and their record does not say so",
        ),
    ],
)
def test_a_trigger_that_is_missing_or_other_or_one_too_many_is_found(
    altered: psycopg.Connection[Any], change: str
) -> None:
    assert triggers_in(altered) == dict.fromkeys(needed_triggers(), "O")
    try:
        altered.execute(change.encode())

        assert triggers_in(altered) != dict.fromkeys(needed_triggers(), "O")
    finally:
        altered.rollback()


def test_the_tenant_is_asked_for_in_every_statement(scene: Scene) -> None:
    functions = scene.ask(
        "select provolatile::text, prosecdef, proleakproof, proconfig, pg_get_function_sqlbody(oid)"
        " from pg_proc where pronamespace = 'thea'::regnamespace and proname = 'tenant'"
    )

    # The attacked tenants are in the directory, so it is asked.
    assert functions == [("s", False, False, None, "RETURN thea.admitted_tenant()")]


def test_a_session_names_its_tenant_by_one_setting(scene: Scene) -> None:
    functions = scene.ask(
        "select proname, provolatile::text, prosecdef, proleakproof, proconfig, pg_get_function_sqlbody(oid)"
        " from pg_proc where pronamespace = 'thea'::regnamespace and proname in ('named_tenant', 'unchecked_tenant')"
        " order by proname"
    )
    named = "NULLIF(current_setting('app.tenant_id'::text, true), ''::text)"
    # Until the first tenant comes into the directory, it is asked where the session takes none but its tenants.
    checked = "(current_setting('app.tenants'::text, true) = 'registered'::text) THEN thea.admitted_tenant()"

    bodies = {name: (*marks, " ".join(body.split())) for name, *marks, body in functions}
    assert bodies == {
        "named_tenant": ("s", False, False, None, f"RETURN {named}"),
        "unchecked_tenant": ("s", False, False, None, f"RETURN CASE WHEN {checked} ELSE {named} END"),
    }


def test_every_key_starts_with_the_tenant(scene: Scene) -> None:
    unique = scene.ask(
        "select i.indexrelid::regclass::text, a.attname from pg_index i join pg_class c on c.oid = i.indrelid"
        " left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]"
        f" where c.{IN_OURS} and (i.indisunique or i.indisexclusion)"
    )
    foreign = scene.ask(
        "select k.conname, a.attname, b.attname, k.confdeltype::text, k.convalidated from pg_constraint k"
        " join pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]"
        " join pg_attribute b on b.attrelid = k.confrelid and b.attnum = k.confkey[1]"
        " where k.contype = 'f' and k.connamespace = 'thea'::regnamespace"
    )

    assert len(unique) >= len(scene.tables)
    assert {name for name, first in unique if first != "tenant_id"} == {
        "thea.tenants_id_key",
        "thea.quotas_tenant_key",
        "thea.retention_policies_tenant_key",
        "thea.activity_log_tenant_key",
        "thea.noted_reads_tenant_key",
    }
    assert foreign
    assert [row[0] for row in foreign if row[1:] != ("tenant_id", "tenant_id", "c", True)] == []


def test_every_table_has_a_key_a_check_of_the_tenant_and_an_id_of_the_servers(scene: Scene) -> None:
    for table in scene.tables:
        columns = dict(
            scene.ask("select attname, attidentity::text from pg_attribute where attrelid = %s::regclass", table)
        )
        constraints = [
            definition
            for (definition,) in scene.ask(
                "select pg_get_constraintdef(oid) from pg_constraint where conrelid = %s::regclass", table
            )
        ]

        assert "PRIMARY KEY (tenant_id, id)" in constraints, table
        assert any("char_length(tenant_id)" in definition and "!~" in definition for definition in constraints), table
        assert columns["id"] == "a" or table in LOGS, table


def test_every_table_that_is_written_is_watched(scene: Scene) -> None:
    triggers = scene.ask(
        "select tgrelid::regclass::text, tgfoid::regproc::text, tgtype, tgenabled::text,"
        " split_part(encode(tgargs, 'escape'), '\\000', 1)"
        " from pg_trigger where not tgisinternal"
        " and tgfoid::regproc::text in ('thea.audit', 'thea.audit_is_append_only')"
    )
    # After each row of insert, update and delete; before a statement of update, delete and truncate.
    written = (*scene.written, KEYS)
    needed = {(table, "thea.audit", 1 + 4 + 8 + 16, "O", table.removeprefix("thea.")) for table in written}

    assert set(triggers) == needed | {("thea.audit_log", "thea.audit_is_append_only", 2 + 8 + 16 + 32, "O", "")}
