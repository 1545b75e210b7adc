"""What holds the keys that wrap tenants' data keys: files, the environment, or a key management service.

`DATABASE_ENCRYPTION_KEYS` says which: `file:/directory`, `environment`, or `package.module:NAME` for an object of your
own with the functions of `KeyProvider`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

from thea_store.encryption.sealing import cipher
from thea_store.errors import EncryptionKeyError, SettingsError, StoreError

__all__ = [
    "EnvironmentKeys",
    "FileKeys",
    "KeyProvider",
    "new_key",
    "provider_of",
    "unwrapped_by",
    "wrapped_by",
]

_SETTING = "DATABASE_ENCRYPTION_KEYS"
_VARIABLE = "THEA_ENCRYPTION_KEY"
_LENGTH, _NONCE = 32, 12


@runtime_checkable
class KeyProvider(Protocol):
    """Wraps and unwraps data keys, each for one tenant. What it raises reaches the caller as `EncryptionKeyError`."""

    async def wrap(self, tenant_id: str, key: bytes) -> bytes:
        """The data key, wrapped by the tenant's key, which is made where there is none."""
        ...

    async def unwrap(self, tenant_id: str, wrapped: bytes) -> bytes:
        """The data key again."""
        ...

    async def forget(self, tenant_id: str) -> None:
        """Destroy the tenant's key: nothing that it wrapped can be read any more, in no backup either."""
        ...


def new_key() -> bytes:
    """A key of 256 bits, from the system's source of randomness."""
    return os.urandom(_LENGTH)


class FileKeys:
    """A key for each tenant, in a file of its own in this directory, which only the service's user may read.

    All hosts of a service need the same files. A key that is lost is lost with all that its tenant wrote: back the
    directory up, apart from the database.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def wrap(self, tenant_id: str, key: bytes) -> bytes:
        """As `KeyProvider`; the tenant's file is made where there is none."""
        path = self._path(tenant_id)
        if not path.exists():
            try:
                self._make(path)
            except OSError as error:
                raise EncryptionKeyError(f"{path}: the tenant's key cannot be written ({error.strerror})") from None
        return _wrap(self._key(tenant_id), tenant_id, key)

    async def unwrap(self, tenant_id: str, wrapped: bytes) -> bytes:
        """As `KeyProvider`."""
        return _unwrap(self._key(tenant_id), tenant_id, wrapped)

    async def forget(self, tenant_id: str) -> None:
        """Remove the tenant's file. Copies of it, such as on other hosts and in backups, are yours to remove."""
        try:
            self._path(tenant_id).unlink(missing_ok=True)
        except OSError as error:
            raise EncryptionKeyError(
                f"{self._path(tenant_id)}: the tenant's key cannot be removed ({error.strerror})"
            ) from None

    def _make(self, path: Path) -> None:
        # Nobody reads half a key, and of two that make one, both take the first.
        descriptor, unfinished = tempfile.mkstemp(dir=self._directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(base64.b64encode(new_key()) + b"\n")
                file.flush()
                os.fsync(descriptor)
            with suppress(FileExistsError):
                os.link(unfinished, path)
        finally:
            Path(unfinished).unlink()

    def _path(self, tenant_id: str) -> Path:
        # A tenant's id may have characters that no file's name has.
        return self._directory / f"{hashlib.sha256(tenant_id.encode()).hexdigest()}.key"

    def _key(self, tenant_id: str) -> bytes:
        path = self._path(tenant_id)
        try:
            return _decoded(path.read_bytes(), str(path))
        except OSError as error:
            raise EncryptionKeyError(
                f"{path}: the tenant's key cannot be read ({error.strerror}): put the file back, or give the right "
                f"directory in {_SETTING}; texts whose key was forgotten are gone"
            ) from None


class EnvironmentKeys:
    """One key for all tenants, in the variable THEA_ENCRYPTION_KEY: 32 bytes in base 64.

    It can forget no single tenant: for that, each needs a key of its own.
    """

    async def wrap(self, tenant_id: str, key: bytes) -> bytes:
        """As `KeyProvider`."""
        return _wrap(_of_environment(), tenant_id, key)

    async def unwrap(self, tenant_id: str, wrapped: bytes) -> bytes:
        """As `KeyProvider`."""
        return _unwrap(_of_environment(), tenant_id, wrapped)

    async def forget(self, tenant_id: str) -> None:
        """Always an `EncryptionKeyError`: all tenants have the same key."""
        del tenant_id
        raise EncryptionKeyError(
            f"{_VARIABLE} is the key of all tenants, so that of one cannot be forgotten: keep a key for each, as "
            f"{_SETTING}=file:/directory does"
        )


async def wrapped_by(provider: KeyProvider, tenant_id: str, key: bytes) -> bytes:
    """The data key wrapped; `EncryptionKeyError` whatever the provider raises."""
    with _failing("wrap"):
        return await provider.wrap(tenant_id, key)


async def unwrapped_by(provider: KeyProvider, tenant_id: str, wrapped: bytes) -> bytes:
    """The data key again; `EncryptionKeyError` whatever the provider raises, and for what is no key."""
    with _failing("unwrap"):
        key = await provider.unwrap(tenant_id, wrapped)
    if len(key) != _LENGTH:
        raise EncryptionKeyError("the key provider unwrapped something that is no key of 32 bytes: see what it holds")
    return key


@contextmanager
def _failing(what: str) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        raise EncryptionKeyError(
            f"the key provider did not {what} this tenant's key ({type(error).__name__}): see that it answers, and "
            "that it has the key"
        ) from error


def provider_of(setting: str) -> KeyProvider:
    """The provider that `DATABASE_ENCRYPTION_KEYS` names; `SettingsError` where it names none."""
    cipher(new_key())  # an error now, not at the first call, where the package is missing
    kind, _, place = setting.partition(":")
    if setting == "environment":
        _of_environment()
        return EnvironmentKeys()
    if kind == "file" and place:
        directory = Path(place)
        if not directory.is_dir():
            raise SettingsError(_SETTING, f"there is no directory {directory}: make it, readable by the service alone")
        return FileKeys(directory)
    try:
        found: object = importlib.import_module(kind)
        for name in place.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            _SETTING, f"must be file:/directory, environment, or package.module:NAME of a key provider ({error})"
        ) from None
    if isinstance(found, type) or not isinstance(found, KeyProvider):
        raise SettingsError(_SETTING, "names no object with `wrap`, `unwrap` and `forget`")
    return found


def _of_environment() -> bytes:
    text = os.environ.get(_VARIABLE, "")
    if not text:
        raise EncryptionKeyError(f"{_VARIABLE} is not set: give it 32 random bytes in base 64")
    return _decoded(text.encode(), _VARIABLE)


def _decoded(text: bytes, place: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _LENGTH:
        raise EncryptionKeyError(f"{place}: this is no key: a key is 32 bytes in base 64")
    return key


def _wrap(key: bytes, tenant_id: str, data_key: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + cipher(key).encrypt(nonce, data_key, tenant_id.encode())


def _unwrap(key: bytes, tenant_id: str, wrapped: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an optional extra

    try:
        return cipher(key).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], tenant_id.encode())
    except (InvalidTag, ValueError):
        raise EncryptionKeyError(
            f"the key that {_SETTING} gives for this tenant is not the one that wrapped its data key: give that one"
        ) from None
