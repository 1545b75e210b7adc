"""Proves that each query and table keeps tenants apart, on a throwaway server.

A statement has two locks: its conditions `tenant_id = :tenant_id`, and the server's row security. Each must hold alone.
So each query is run without one of them, in two databases that differ by one tenant; its outcome must be the same in
both. Each table is attacked as a service's login would with free SQL. To show that these proofs can fail, every query
is run once without both locks, and every table is attacked once with its protection taken away.
"""

from __future__ import annotations

from thea_store.testing.proving.prove import prove
from thea_store.testing.proving.report import Fault, Report

__all__ = ["Fault", "Report", "prove"]
