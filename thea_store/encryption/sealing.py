"""One text sealed for one column of one row, and opened again.

The cipher is AES-256 in Galois/Counter Mode (NIST SP 800-38D), with a random nonce of 96 bits for each text: with one
key that is for up to 2**32 texts (section 8.3 there). What a text belongs to is authenticated with it: the tenant, the
table, the column, a random key of the row and the version of the data key. So a ciphertext that was altered, or moved
elsewhere, does not open. The row's key is not its id, because that is not known before the row is written.

A JSON document is sealed as its text, behind a character that no text may have.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import uuid
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from thea_store.encryption.columns import SEALED
from thea_store.errors import EncryptionKeyError, SealedTextError, SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["ROW", "DataKey", "Document", "TenantKeys", "cipher", "prefix_of", "version_of", "without_key"]

ROW = "row"
"""The key of the row, among its sealed texts."""

# So many bytes are four characters in base 64.
_VERSION, _NONCE = 3, 12
_PREFIX = 4
_START = _VERSION + _NONCE
# PostgreSQL has no text with it, and the library takes none.
_OF_DOCUMENT = "\0"


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON document by its text, as the database gives it, so that no number of it is rounded."""

    text: str


def cipher(key: bytes) -> AESGCM:
    """AES-256-GCM with this key; `SettingsError` where the extra `encryption` is not installed."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise SettingsError(
            "DATABASE_ENCRYPTION_KEYS", "needs the package `cryptography`: pip install 'thea-store[encryption]'"
        ) from None
    return AESGCM(key)


class DataKey:
    """One version of a tenant's data key."""

    def __init__(self, version: int, key: bytes) -> None:
        self.version = version
        self._cipher = cipher(key)

    def seal(self, text: str, purpose: bytes) -> str:
        """The text's ciphertext for this purpose alone, in base 64, with the key's version before it."""
        nonce = os.urandom(_NONCE)
        sealed = self._cipher.encrypt(nonce, text.encode(), purpose)
        return base64.b64encode(self.version.to_bytes(_VERSION) + nonce + sealed).decode()

    def open(self, sealed: bytes, purpose: bytes) -> str:
        """The text; `ValueError` where this is not what the key sealed for this purpose."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as above

        try:
            return self._cipher.decrypt(sealed[_VERSION:_START], sealed[_START:], purpose).decode()
        except InvalidTag:
            raise ValueError("altered") from None


def without_key(place: str) -> EncryptionKeyError:
    """What is raised of a sealed text, where the process has no provider or the database no key of the tenant."""
    return EncryptionKeyError(
        f"{place}: a text of this tenant is encrypted, and this process has no key for it: set DATABASE_ENCRYPTION_KEYS"
    )


def version_of(sealed: str) -> int | None:
    """The version of the key that sealed a text; `None` where it is no sealed text."""
    try:
        return int.from_bytes(base64.b64decode(sealed[:_PREFIX], validate=True))
    except (binascii.Error, TypeError, ValueError):
        return None


def prefix_of(version: int) -> str:
    """What every text begins with that this version of a key sealed."""
    return base64.b64encode(version.to_bytes(_VERSION)).decode()


class TenantKeys:
    """The data keys of one encrypted tenant: the newest one seals, each opens what it sealed.

    Where the tenant's encryption was ended, none seals any more.
    """

    def __init__(self, tenant_id: str, keys: Sequence[DataKey], *, is_ended: bool = False) -> None:
        self._tenant_id = tenant_id
        self._keys = {key.version: key for key in keys}
        self.newest = max(keys, key=lambda key: key.version)
        self.is_ended = is_ended

    def knows(self, version: int | None) -> bool:
        """Whether it opens what this version sealed."""
        return version in self._keys

    def seal(
        self,
        table: str,
        names: Iterable[str],
        row: MutableMapping[str, Any],
        row_key: str | None = None,
        *,
        keeps_none: bool = False,
    ) -> None:
        """Move the texts of a row that is to be written into its `sealed`.

        `row_key` is what the row's texts that are stored already were sealed for. A `None` is left out, or with
        `keeps_none` is there as that, so that it takes the place of a stored text. Where the encryption was ended, all
        stays as it is, but that a text takes the place of a stored one that is sealed.
        """
        given = [name for name in names if name in row]
        if not given:
            return
        if self.is_ended:
            if keeps_none and row_key is not None:
                row[SEALED] = {ROW: row_key} | dict.fromkeys(given)
            return
        place = row_key or str(uuid.uuid4())
        sealed: dict[str, str | None] = {ROW: place}
        for name in given:
            value, row[name] = row[name], None
            if value is not None:
                sealed[name] = self.newest.seal(_text_of(value), self._purpose(table, name, place, self.newest.version))
            elif keeps_none:
                sealed[name] = None
        row[SEALED] = sealed

    def open(
        self,
        table: str,
        row: MutableMapping[str, Any],
        sealed: Mapping[str, Any],
        names: Iterable[str],
        *,
        as_stored: bool = False,
    ) -> None:
        """Put the texts of `sealed` into a row that was read. `EncryptionKeyError`, `SealedTextError`.

        With `as_stored`, a document comes as `Document`, and not as what it means.
        """
        place = sealed.get(ROW)
        for name in names:
            if name in sealed:
                text = self._opened(table, name, place, sealed[name])
                if not text.startswith(_OF_DOCUMENT):
                    row[name] = text
                else:
                    row[name] = Document(text[1:]) if as_stored else json.loads(text[1:])

    def _opened(self, table: str, name: str, place: object, sealed: str) -> str:
        version = version_of(sealed)
        key = self._keys.get(version or 0)
        if version is not None and key is None:
            raise EncryptionKeyError(
                f"{table}: {name} of a row is sealed by version {version} of its tenant's key, which the database does "
                "not have: bring the rows of thea.encryption_keys back from a backup"
            )
        try:
            if key is not None:
                return key.open(base64.b64decode(sealed, validate=True), self._purpose(table, name, place, key.version))
        except (ValueError, TypeError):
            pass
        raise SealedTextError(
            f"{table}: {name} of a row does not open: it was altered, or moved there from another row, column, table "
            "or tenant; bring the row back from a backup"
        )

    def _purpose(self, table: str, name: str, place: object, version: int) -> bytes:
        # No part has such a character: the tenant's id may not, the others are names, a uuid and a number.
        return "\x1f".join([self._tenant_id, table, name, str(place), str(version)]).encode()


def _text_of(value: object) -> str:
    if isinstance(value, str):
        return value
    return _OF_DOCUMENT + (value.text if isinstance(value, Document) else to_json(value).decode())
