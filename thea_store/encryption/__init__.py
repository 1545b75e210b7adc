"""Texts at rest that the database cannot read: sealed before they are sent, opened after they were read.

Each encrypted tenant has data keys (AES-256-GCM), which the database keeps wrapped; a key provider, outside of the
database, wraps and unwraps them. Without that provider's key nobody reads the texts, not in a backup either.
"""

from thea_store.encryption.columns import SEALED, SealedIn, sealed_in
from thea_store.encryption.keyring import FRESH, Keyring, WrappedKey
from thea_store.encryption.providers import (
    EnvironmentKeys,
    FileKeys,
    KeyProvider,
    new_key,
    provider_of,
    unwrapped_by,
    wrapped_by,
)
from thea_store.encryption.sealing import ROW, DataKey, Document, TenantKeys, prefix_of, version_of, without_key

__all__ = [
    "FRESH",
    "ROW",
    "SEALED",
    "DataKey",
    "Document",
    "EnvironmentKeys",
    "FileKeys",
    "KeyProvider",
    "Keyring",
    "SealedIn",
    "TenantKeys",
    "WrappedKey",
    "new_key",
    "prefix_of",
    "provider_of",
    "sealed_in",
    "unwrapped_by",
    "version_of",
    "without_key",
    "wrapped_by",
]
