"""A real object store for tests: one versitygw for all tests of a process, a bucket's prefix for each of them."""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mirrord.testing.ports import free_port
from mirrord.testing.servers import require
from mirrord.wire.bucket import PATIENCE, BucketPatience, ObjectBucket
from mirrord.wire.bucket_address import BucketAddress
from mirrord.wire.secret import Secret

ACCESS: Final = "mirrord-tests"
SECRET: Final = "only-for-tests-0123456789"
BUCKET: Final = "mirrord"
_METHODS: Final = {
    "HeadObject": "HEAD",
    "GetObject": "GET",
    "ListObjectsV2": "GET",
    "PutObject": "PUT",
    "UploadPart": "PUT",
    "CreateMultipartUpload": "POST",
    "CompleteMultipartUpload": "POST",
    "AbortMultipartUpload": "DELETE",
    "DeleteObject": "DELETE",
}
"""Of the requests that we send."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The server.

    Attributes:
        endpoint: its URL.
        folder: where the objects of `BUCKET` are files.
        log: its access log, a whole line for each request.
        pid: of its process.
    """

    endpoint: str
    folder: Path
    log: Path
    pid: int

    def address(self, prefix: str = "", *, endpoint: str = "") -> BucketAddress:
        """Return where a test keeps its objects: below a prefix that no other one has."""
        keys = Secret(ACCESS), Secret(SECRET)
        prefix = prefix or f"t/{secrets.token_hex(8)}"
        return BucketAddress(BUCKET, prefix, endpoint or self.endpoint, "us-east-1", keys)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it hang until the block ends: it takes connections, and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def objects(self, prefix: str) -> Sequence[str]:
        """Return the keys below a prefix, as files."""
        top = self.folder / prefix
        return sorted(str(file.relative_to(top)) for file in top.rglob("*") if file.is_file())

    async def asked(self, prefix: str) -> Counter[str]:
        """Return how often each method was used below a prefix, `GET` of a list included."""
        return Counter(_METHODS.get(operation, operation) for operation, _ in await self.operations(prefix))

    async def operations(self, prefix: str) -> Sequence[tuple[str, str]]:
        """Return what was asked below a prefix, by the names that S3 has for it, and the path that was asked."""
        marker = secrets.token_hex(8)
        await ObjectBucket(self.address(f"marker/{marker}")).head("x")
        while f"/{marker}/x " not in (text := self.log.read_text().rpartition("\n")[0]):  # noqa: ASYNC110 - all of it
            await asyncio.sleep(0.01)
        within = f"/{prefix}", quote(prefix, safe="")  # the second one in the query of a list
        lines = (line.split(" ", 10) for line in text.splitlines() if any(one in line for one in within))
        return [(line[7].removeprefix("s3_"), line[9]) for line in lines]


@cache
def gateway() -> Gateway:
    """Return the server of this process; the running test is skipped where there is none."""
    require("versitygw")
    folder, port = Path(tempfile.mkdtemp(prefix="mirrord-s3-")), free_port()
    data, log, access = folder / "data", folder / "log", folder / "access"
    (data / BUCKET).mkdir(parents=True)
    server = _started(port, data, log, "--access-log", str(access))

    def end() -> None:
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return Gateway(f"http://127.0.0.1:{port}", data / BUCKET, access, server.pid)


@contextmanager
def speaking_tls(certificate: Path, key: Path) -> Iterator[str]:
    """Let the objects of `gateway()` be reached at another URL, whose server shows a certificate, for a while."""
    data, log, port = gateway().folder.parent, certificate.with_suffix(".log"), free_port()
    server = _started(port, data, log, "--cert", str(certificate), "--key", str(key))
    try:
        yield f"https://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _started(port: int, data: Path, log: Path, *options: str) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET}
    command = ["versitygw", "--keep-alive", "--port", f"127.0.0.1:{port}", *options]
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*command, "posix", "--disableotmp", str(data)], stdout=out, stderr=out, env=environ, start_new_session=True
        )
    while "listening on" not in log.read_text():
        assert server.poll() is None, log.read_text()
        time.sleep(0.02)
    return server


def bucket(prefix: str = "", patience: BucketPatience = PATIENCE) -> ObjectBucket:
    """Return the objects of a test."""
    return ObjectBucket(gateway().address(prefix), patience)
