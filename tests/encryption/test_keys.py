"""What holds the keys, and what a process knows of them; without a database."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from thea_store import EncryptionKeyError, SettingsError
from thea_store.encryption import (
    DataKey,
    EnvironmentKeys,
    FileKeys,
    KeyProvider,
    Keyring,
    TenantKeys,
    WrappedKey,
    new_key,
    provider_of,
    wrapped_by,
)


class Failing:
    """A provider that does not answer, or answers with something else."""

    def __init__(self, answer: bytes | None = None) -> None:
        self.answer = answer

    async def wrap(self, tenant_id: str, key: bytes) -> bytes:
        raise ConnectionRefusedError(tenant_id, key)

    async def unwrap(self, tenant_id: str, wrapped: bytes) -> bytes:
        if self.answer is None:
            raise ConnectionRefusedError(tenant_id, wrapped)
        return self.answer

    async def forget(self, tenant_id: str) -> None:
        raise ConnectionRefusedError(tenant_id)


PROVIDER = Failing()


@pytest.fixture(params=["file", "environment"])
def provider(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyProvider:
    monkeypatch.setenv("THEA_ENCRYPTION_KEY", base64.b64encode(new_key()).decode())
    return provider_of(f"file:{tmp_path}" if request.param == "file" else "environment")


async def test_a_key_comes_back_for_its_tenant_alone(provider: KeyProvider) -> None:
    key = new_key()
    wrapped = await provider.wrap("acme", key)
    await provider.wrap("otro", key)

    assert key not in wrapped
    assert await provider.unwrap("acme", wrapped) == key
    for other, text in (("otro", wrapped), ("acme", wrapped[:-1]), ("acme", b"")):
        with pytest.raises(EncryptionKeyError, match="is not the one that wrapped"):
            await provider.unwrap(other, text)


def _files(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def test_a_file_is_for_its_owner_alone_and_gone_when_it_is_forgotten(tmp_path: Path) -> None:
    files = FileKeys(tmp_path)
    wrapped = await files.wrap("a/../ñ", new_key())
    [path] = _files(tmp_path)

    assert path.stat().st_mode & 0o777 == 0o600
    await files.forget("a/../ñ")
    await files.forget("a/../ñ")
    assert _files(tmp_path) == []
    with pytest.raises(EncryptionKeyError, match="cannot be read"):
        await files.unwrap("a/../ñ", wrapped)


async def test_a_file_that_holds_no_key_is_told(tmp_path: Path) -> None:
    files = FileKeys(tmp_path)
    wrapped = await files.wrap("acme", new_key())
    [path] = _files(tmp_path)
    for text in ("", "ñ", base64.b64encode(b"short").decode()):
        Path.write_text(path, text)
        with pytest.raises(EncryptionKeyError, match="this is no key"):
            await files.unwrap("acme", wrapped)


async def test_the_key_of_all_tenants_cannot_be_forgotten_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EncryptionKeyError, match="cannot be forgotten"):
        await EnvironmentKeys().forget("acme")
    monkeypatch.delenv("THEA_ENCRYPTION_KEY", raising=False)
    with pytest.raises(EncryptionKeyError, match="is not set"):
        provider_of("environment")


def test_a_setting_that_names_no_provider_is_told(tmp_path: Path) -> None:
    assert provider_of(f"{__name__}:PROVIDER") is PROVIDER
    for setting in ("", "file:", f"file:{tmp_path}/none", "nowhere:X", f"{__name__}:None", f"{__name__}:Failing", "x"):
        with pytest.raises(SettingsError, match="^DATABASE_ENCRYPTION_KEYS: "):
            provider_of(setting)


async def test_whatever_a_provider_raises_is_an_error_of_the_key() -> None:
    one = [WrappedKey(version=1, wrapped=b"x")]
    with pytest.raises(EncryptionKeyError, match="did not wrap .*ConnectionRefusedError"):
        await wrapped_by(Failing(), "acme", new_key())
    with pytest.raises(EncryptionKeyError, match="did not unwrap"):
        await Keyring(Failing()).unwrapped("acme", one)
    with pytest.raises(EncryptionKeyError, match="no key of 32 bytes"):
        await Keyring(Failing(b"short")).unwrapped("acme", one)


async def test_keys_are_asked_for_anew_after_a_minute_and_their_lack_when_it_is_doubted(
    provider: KeyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, asked, now = Keyring(provider), list[str](), 0.0
    monkeypatch.setattr("thea_store.encryption.keyring.time.monotonic", lambda: now)
    rows = {"acme": [WrappedKey(version=1, wrapped=await provider.wrap("acme", new_key()))], "plain": []}

    async def known(tenant: str) -> TenantKeys | None:
        async def ask() -> Sequence[WrappedKey]:
            asked.append(tenant)
            return rows[tenant]

        return await ring.of(tenant, ask)

    assert [await known("plain"), await known("plain")] == [None, None]
    first = await known("acme")
    assert first is not None
    assert await known("acme") is first
    now = 61.0
    assert await known("acme") is not first
    assert await known("plain") is None
    assert asked == ["plain", "acme", "acme"]
    assert (ring.doubt("plain"), ring.doubt("acme"), ring.doubt("never")) == (True, False, False)
    await known("plain")
    assert asked[-1] == "plain"


def test_two_texts_are_never_the_same_ciphertext() -> None:
    keys = TenantKeys("acme", [DataKey(1, new_key())])
    rows: list[dict[str, Any]] = [{"content": "x"}, {"content": "x"}]
    for row in rows:
        keys.seal("thea.notes", ["content"], row)

    assert rows[0]["sealed"]["content"] != rows[1]["sealed"]["content"]
    assert [row["content"] for row in rows] == [None, None]
