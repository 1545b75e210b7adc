"""What a database keeps of one tenant: for those who answer for personal data."""

from __future__ import annotations

from thea_store.admin.compliance.chain import Head, Verified, verify, verify_all
from thea_store.admin.compliance.reading import read
from thea_store.admin.compliance.records import Report
from thea_store.admin.compliance.rendering import to_html

__all__ = ["Head", "Report", "Verified", "read", "to_html", "verify", "verify_all"]
