"""How a bucket is entered: by TLS with an authority of one's own, and with keys that change."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from mirrord.blobs.s3 import S3Store
from mirrord.blobs.store import read_stored
from mirrord.config.secrets import SecretSource, read_secret
from mirrord.errors import StorageError
from mirrord.model.digest import Digest
from mirrord.wire import bucket
from mirrord.wire.bucket import BucketPatience, ObjectBucket
from mirrord.wire.secret import Secret
from tests.support.gateway import ACCESS, SECRET, gateway, speaking_tls
from tests.support.tls import Authority

HURRIED = BucketPatience(stalled=5.0, attempts=0, whole=5.0)
SMALL, LARGE = b"small" * 100, bytes(range(256)) * 80_000


async def test_an_authority_of_ones_own(tmp_path: Path) -> None:
    """With `ca` content is written, read, and fetched by its redirect; with another one a line says what is wrong."""
    (tmp_path / "other").mkdir()
    authority, other, file = Authority(tmp_path), Authority(tmp_path / "other"), tmp_path / "file"
    gateway()
    with speaking_tls(*authority.pair("127.0.0.1")) as endpoint:
        address = replace(gateway().address(endpoint=endpoint), ca=str(authority.ca))
        store = S3Store(ObjectBucket(address, HURRIED), redirect=True)
        await store.open_()
        async with aiohttp.ClientSession() as client:
            for data in (SMALL, LARGE):
                file.write_bytes(data)
                await store.adopt(Digest.of(data), file)
                found = await store.find(Digest.of(data))
                assert found
                assert await read_stored(found, len(data)) == data
                assert found.url
                assert found.url.startswith(f"{endpoint}/")
                trust = ssl.create_default_context(cafile=str(authority.ca))
                async with client.get(found.url, ssl=trust) as answer:
                    assert await answer.read() == data
        for ca in (str(other.ca), ""):
            with pytest.raises(StorageError) as caught:
                await S3Store(ObjectBucket(replace(address, ca=ca), HURRIED)).open_()
            text = str(caught.value)
            assert text.startswith(f"{address}: cannot write mirrord: ")
            assert text.endswith("UnknownIssuer; name the authority of its certificate as `ca` of `settings.blobs`")
            assert "\n" not in text


async def test_keys_that_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read again while mirrord runs; a file that is gone is named, and no key is said."""
    monkeypatch.setattr(bucket, "_KEPT", timedelta(0))
    file = tmp_path / "key"
    file.write_text("an-old-secret-of-ours")
    file.chmod(0o600)

    def fresh() -> tuple[Secret, Secret]:
        return Secret(ACCESS), read_secret(SecretSource(file=str(file)), {})

    objects = ObjectBucket(replace(gateway().address(), fresh=fresh), HURRIED)
    with pytest.raises(StorageError, match="SignatureDoesNotMatch"):
        await objects.write("x", b"1", "text/plain")
    file.write_text(SECRET)

    async def written() -> bool:
        with contextlib.suppress(StorageError):
            return bool(await objects.write("x", b"1", "text/plain"))
        return False

    async with asyncio.timeout(60):
        while not await written():  # noqa: ASYNC110 - obstore reads them again in its own time
            await asyncio.sleep(0.02)
    file.unlink()
    async with asyncio.timeout(60):
        while await written():
            pass
    with pytest.raises(StorageError) as caught:
        await objects.head("x")
    assert f": cannot look at x: secret file {file} does not exist; " in str(caught.value)
