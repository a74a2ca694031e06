"""The webhook over TLS, with a certificate of its own authority, and what nobody may wait for."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import ssl
from collections.abc import AsyncIterator, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from mirrord.errors import StorageError
from mirrord.events import AnswerBroken, Event, Reviewed
from mirrord.pointing.admission.review import LARGEST
from mirrord.pointing.budget import PromptPointing
from mirrord.pointing.places import Decision, Left, MirrorPlace, Places
from mirrord.serve import webhook
from mirrord.serve.door import Listener, bind
from mirrord.serve.own_certificate import OwnCertificate
from mirrord.serve.tls import ServedCertificate
from mirrord.serve.webhook import make_webhook
from mirrord.wire.authority import AUTHORITY_LASTS, CERTIFICATE_LASTS, RENEWED_BEFORE
from mirrord.wire.certificate import expiry
from mirrord.wire.oci.reference import Reference
from tests.support.pods import HERE, decide, patch_in, pod, review

NOW = datetime.now(UTC).replace(microsecond=0)
NAMES = ("webhook.shop.svc", "127.0.0.1")


class Site:
    """A webhook, and a client that trusts its authority alone."""

    def __init__(self, folder: Path) -> None:
        self.own = OwnCertificate(folder)
        self.own.renew(NAMES, NOW)
        file = str(self.own.file)
        self.certificate = ServedCertificate(file, file, lambda *_: None, lambda: NOW, name="webhook")
        self.events: list[Event] = []
        self.broken = False
        self.url = ""
        self.trust = ssl.create_default_context(cadata=self.own.authority(NOW).decode())

    async def decide(self, texts: Collection[str]) -> Mapping[str, Decision]:
        """Decide at once, or fail as a bug would."""
        if self.broken:
            raise ZeroDivisionError("a bug")
        return {text: decide(text) for text in texts}

    async def ask(self, body: bytes, name: str = "webhook.shop.svc", **more: Any) -> tuple[int, bytes]:
        """Ask on a connection of its own, as an API server does that calls a Service."""
        async with (
            aiohttp.ClientSession() as client,
            client.post(
                f"{self.url}/mutate", data=io.BytesIO(body), ssl=self.trust, server_hostname=name, **more
            ) as answer,
        ):
            assert "X-Content-Type-Options" in answer.headers
            return answer.status, await answer.read()

    @property
    def last(self) -> Reviewed:
        """The last review."""
        return [one for one in self.events if isinstance(one, Reviewed)][-1]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A webhook that points all at a mirror."""
    made = await asyncio.to_thread(Site, tmp_path)
    app = make_webhook(made.decide, made.events.append, ("kube-system",))
    listener, connection = Listener(app, grace=0.05), bind("127.0.0.1:0")
    await listener.listen(connection, made.certificate.context)
    made.url = f"https://127.0.0.1:{connection.getsockname()[1]}"
    try:
        yield made
    finally:
        await listener.close()
        connection.close()


async def test_a_review_over_tls(site: Site) -> None:
    """The answer has the patch, and the event says what was decided; the client checks name and issuer."""
    status, body = await site.ask(json.dumps(review(pod("nginx:1", ":::"))).encode())
    assert (status, json.loads(body)["response"]["allowed"]) == (200, True)
    assert patch_in(body)[0] == {
        "op": "replace",
        "path": "/spec/containers/0/image",
        "value": f"{HERE}/docker.io/library/nginx:1",
    }
    assert (site.last.outcome, site.last.images, site.last.pod) == ("pointed", {"pointed": 1, "invalid": 1}, "shop/web")
    await site.ask(json.dumps(review(pod("nginx:1"), namespace="kube-system")).encode())
    assert site.last.outcome == "ignored"
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await site.ask(b"{}", name="another.svc")


async def test_what_is_no_review(site: Site) -> None:
    """It is refused and counted; nothing of it ends the next one (bad input 75)."""
    large = json.dumps(review(pod(annotations={"a": "x" * (200 << 10)}))).encode()
    assert [(await site.ask(body))[0] for body in (b"", b"{", b"[1]", large, b" " * (LARGEST + 1))] == [
        *(400, 400, 400, 200, 413)
    ]
    assert (await site.ask(b"\x1f\x8b", headers={"Content-Encoding": "gzip"}))[0] == 400
    assert site.last.outcome == "refused"
    async with aiohttp.ClientSession() as client:
        for method, path, status in (("GET", "/mutate", 405), ("POST", "/", 404), ("GET", "/v2/", 404)):
            async with client.request(method, site.url + path, ssl=site.trust) as answer:
                assert answer.status == status


async def test_slow_bodies_keep_no_places(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large body that does not go on gives its place back while an API server would still wait."""
    monkeypatch.setattr(webhook, "_PATIENCE", 0.05)
    app = make_webhook(site.decide, site.events.append)
    listener, connection = Listener(app, grace=0.05), bind("127.0.0.1:0")
    await listener.listen(connection)
    reader, writer = await asyncio.open_connection(*connection.getsockname())
    writer.write(b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + b" " * 70_000)
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    await listener.close()


async def test_a_bug_keeps_no_pod_from_being_created(site: Site) -> None:
    """It is answered allowed and unchanged with a warning, and logged."""
    site.broken = True
    status, body = await site.ask(json.dumps(review(pod("nginx"))).encode())
    response = json.loads(body)["response"]
    assert (status, response["allowed"], "patch" in response, len(response["warnings"])) == (200, True, False, 1)
    assert AnswerBroken("/mutate", "ZeroDivisionError: a bug") in site.events


async def test_rotation_during_load(site: Site) -> None:
    """A new certificate is in use for the next connection, and no review fails (fault F29, bad input 78)."""
    body = json.dumps(review(pod("nginx"))).encode()
    asked = [asyncio.create_task(site.ask(body)) for _ in range(10)]
    await asyncio.sleep(0)
    assert site.own.renew((*NAMES, "more.svc"), NOW)
    found = site.certificate.refresh()
    assert found is not None
    assert found[1].startswith("webhook: a new certificate is in use")
    asked += [asyncio.create_task(site.ask(body, name)) for name in ("webhook.shop.svc", "more.svc") * 5]
    assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 20


def test_an_authority_is_made_once(tmp_path: Path) -> None:
    """Two processes that make one at a time get the same; it lasts ten years, and nobody else reads its key."""
    with ThreadPoolExecutor(8) as pool:
        [first, *rest] = pool.map(lambda _: OwnCertificate(tmp_path).authority(NOW), range(8))
    assert set(rest) == {first}
    assert b"PRIVATE" not in first
    assert expiry(first) == NOW + AUTHORITY_LASTS
    assert {one.name: oct(one.stat().st_mode & 0o777) for one in (tmp_path / "webhook").iterdir()} == {
        "authority.pem": "0o600"
    }


def test_an_authority_where_files_have_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links has an authority, too, and nothing beside it; nobody else reads its key."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    first = OwnCertificate(tmp_path).authority(NOW)
    assert OwnCertificate(tmp_path).authority(NOW) == first
    assert {one.name: oct(one.stat().st_mode & 0o777) for one in (tmp_path / "webhook").iterdir()} == {
        "authority.pem": "0o600"
    }


def test_a_certificate_is_renewed_in_time(tmp_path: Path) -> None:
    """Thirty days before its end, for other names, and when it or its key is damaged or of another (bad input 78)."""
    own = OwnCertificate(tmp_path)
    assert own.renew(NAMES, NOW)
    assert not own.renew(NAMES, NOW + CERTIFICATE_LASTS - RENEWED_BEFORE - timedelta(seconds=1))
    assert own.renew(NAMES, NOW + CERTIFICATE_LASTS - RENEWED_BEFORE)
    assert own.renew(("other",), NOW + CERTIFICATE_LASTS - RENEWED_BEFORE)
    good = own.file.read_bytes()
    authority = (tmp_path / "webhook" / "authority.pem").read_bytes()
    key = authority[authority.index(b"-----BEGIN PRIVATE") :]
    for damaged in (b"x", good[:-60], good[: good.index(b"-----BEGIN PRIVATE")] + key):
        own.file.write_bytes(damaged)
        assert own.renew(NAMES, NOW)
        assert not own.renew(NAMES, NOW)
    OwnCertificate(tmp_path / "b").renew(NAMES, NOW)
    (tmp_path / "b" / "webhook" / "certificate.pem").replace(own.file)
    assert own.renew(NAMES, NOW)
    assert not own.renew(NAMES, NOW)


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """Files with keys that nobody finished go after an hour; one that a process is at work on stays."""
    own, left = OwnCertificate(tmp_path), tmp_path / "webhook" / ".authority.pem.0a1b2c3d.tmp"
    own.renew(NAMES, NOW)
    left.write_bytes(b"key")
    own.renew(NAMES, NOW)
    assert left.exists()
    os.utime(left, (0, 0))
    own.renew(NAMES, NOW)
    assert {one.name for one in left.parent.iterdir()} == {"authority.pem", "certificate.pem"}


@pytest.mark.parametrize("first", [True, False])
def test_the_key_of_an_authority_is_never_given_out(tmp_path: Path, *, first: bool) -> None:
    """Not where its file has the key in another form, as `openssl ecparam` writes it, nor before the certificate."""
    own, file = OwnCertificate(tmp_path), tmp_path / "webhook" / "authority.pem"
    certificate = own.authority(NOW)
    key = load_pem_private_key(file.read_bytes(), None).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    file.write_bytes(key + certificate if first else certificate + key)
    assert own.authority(NOW) == certificate
    assert own.renew(NAMES, NOW)


@pytest.mark.parametrize("left", [0, 1, 200, 620, -60])
def test_a_damaged_authority(tmp_path: Path, left: int) -> None:
    """It is never replaced in silence, since the cluster would not trust the next one; nor is half of it given out."""
    own, file = OwnCertificate(tmp_path), tmp_path / "webhook" / "authority.pem"
    own.renew(NAMES, NOW)
    file.write_bytes(file.read_bytes()[:left])
    for ask in (lambda: own.renew(NAMES, NOW), lambda: own.authority(NOW)):
        with pytest.raises(StorageError, match=r"authority\.pem: is no authority with its key; .* move it away"):
            ask()


def test_an_authority_that_gives_no_certificates(tmp_path: Path) -> None:
    """One that has ended says when, as after a jump of the clock; the key of another one is none."""
    own, other = OwnCertificate(tmp_path / "a"), OwnCertificate(tmp_path / "b")
    first, second = own.authority(NOW), other.authority(NOW)
    with pytest.raises(StorageError, match=rf"ended on {NOW + AUTHORITY_LASTS:%Y-%m-%d}; is the clock right\?"):
        own.renew(NAMES, NOW + AUTHORITY_LASTS)
    assert own.renew(NAMES, NOW)
    file = tmp_path / "b" / "webhook" / "authority.pem"
    file.write_bytes(file.read_bytes().replace(second, first))
    with pytest.raises(StorageError, match="with that of another one"):
        other.authority(NOW)


class Slow:
    """A mirror that answers when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.free = asyncio.Event()
        self.ended = asyncio.Event()
        self.known = False

    async def present(self, _: MirrorPlace) -> bool | str:
        """Say that it is there."""
        self.asked += 1
        if not self.known:
            await self.free.wait()
            self.known = True
            self.ended.set()
        return True


async def test_nobody_waits_for_a_slow_mirror() -> None:
    """What has no answer in time is left; the question goes on, so that the next Pod has the answer."""
    place = MirrorPlace(Reference.parse(f"{HERE}/a:1"), "t", None, listed=True)
    places = cast("Places", SimpleNamespace(read=Reference.parse, candidates=lambda _: [place], policy="present"))
    slow = Slow()
    prompt = PromptPointing(places, slow, budget=0.01)
    [first] = (await prompt.decide(["a:1"])).values()
    assert isinstance(first, Left)
    assert (first.reason, first.text) == ("unknown", "the mirror did not answer within 1 s")
    slow.free.set()
    await slow.ended.wait()
    assert await prompt.decide(["a:1"]) == {"a:1": place}
    assert slow.asked == 2
    await prompt.aclose()


async def test_late_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror that never answers holds a bounded number of questions, and none after the end."""
    monkeypatch.setattr("mirrord.pointing.budget._MOST_LATE", 3)
    place = MirrorPlace(Reference.parse(f"{HERE}/a:1"), "t", None, listed=True)
    places = cast("Places", SimpleNamespace(read=Reference.parse, candidates=lambda _: [place], policy="present"))
    prompt = PromptPointing(places, Slow(), budget=0.01)
    await prompt.decide([f"a:{at}" for at in range(10)])
    await asyncio.sleep(0)
    assert len(prompt._late) == 3
    await prompt.aclose()
    assert not prompt._late
