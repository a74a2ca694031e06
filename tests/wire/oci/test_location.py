"""Where a registry sends uploads: what is said when that leads nowhere."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest

from mirrord.errors import UnreachableError, UntrustedError
from mirrord.model.digest import Digest
from mirrord.testing import Registry
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import Limits
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.reference import Reference

DATA = b"content"
BLOB = Descriptor("application/octet-stream", Digest.of(DATA), len(DATA))


async def content() -> AsyncIterator[bytes]:
    yield DATA


async def put(registry: Registry) -> None:
    async with Http(HostBook(), limits=Limits(attempts=1)) as http:
        await Repository(http, Reference(registry.host, "a/b"), push=True).put_blob(BLOB, content)


async def test_a_location_without_its_port_is_the_registrys_fault() -> None:
    """C7, distribution#2225 and #2572: the port is lost on the way: the error says who sent us where."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        wrong = f"127.0.0.1:{taken.getsockname()[1]}"
        async with Registry() as registry:
            registry.faults.on("POST", "/uploads/").header("Location", f"http://{wrong}/v2/a/b/blobs/uploads/1")
            with pytest.raises(UnreachableError) as caught:
                await put(registry)
    assert f"{registry.host}/a/b: sends uploads to http://{wrong} (Location)" in str(caught.value)
    assert "configure the registry with the address that clients use" in str(caught.value)


async def test_a_doubled_location_names_its_registry() -> None:
    """C7, distribution#431: two URLs in one header: the error names the registry, and what about it is wrong."""
    async with Registry() as registry:
        registry.faults.on("POST", "/uploads/").header("Location", "http://h, h/v2/a/b/blobs/uploads/1")
        with pytest.raises(UntrustedError) as caught:
            await put(registry)
    start = f"{registry.host}/a/b: the Location of an upload that it started: "
    assert str(caught.value).startswith(f"{start}'http://h, h/v2/a/b/blobs/uploads/1': refused: ")
