"""`thea-store new`: writes an extension, an aggregate, a query or a migration into the current directory.

What is written belongs to the service from then on. It passes the checks, the proof and its own tests as it stands.
"""

from __future__ import annotations

from thea_store.cli.new.writing import new_aggregate, new_extension, new_migration, new_query

__all__ = ["new_aggregate", "new_extension", "new_migration", "new_query"]
