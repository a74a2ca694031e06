"""TLS of our own: real clients, files that change, and certificates that expire."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mirrord.files import LocalFile
from mirrord.serve.app import make_app
from mirrord.serve.door import Listener, bind
from mirrord.serve.tls import ServedCertificate
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import Services
from mirrord.testing.running import run
from mirrord.wire.certificate import expiry
from tests.support.frontserver import Shown
from tests.support.tls import Authority

NOW = datetime(2026, 11, 21, tzinfo=UTC)
FAR = NOW + timedelta(days=400)


class Front:
    """Serves one file, and remembers what it was asked."""

    prefixes = ("/v2/",)

    def __init__(self, file: Path) -> None:
        self.file = file
        self.asked: list[Request] = []

    async def respond(self, request: Request, services: Services) -> Response:
        self.asked.append(request)
        return Response(200, {"ETag": '"x"'}, LocalFile.of(self.file))


class Site:
    """A server with a certificate in files of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.authority = folder, Authority(folder)
        self.pair = folder / "served.pem", folder / "served.key"
        self.said: list[tuple[str, str]] = []
        self.now = NOW
        self.renew("127.0.0.1", not_after=FAR)
        self.news = asyncio.Event()
        certificate, key = map(str, self.pair)
        self.certificate = ServedCertificate(certificate, key, self.say, lambda: self.now)
        self.front = Front(folder / "file")
        self.front.file.write_bytes(os.urandom(3_000_000))
        self.port = 0

    def say(self, level: str, text: str) -> None:
        self.said.append((level, text))
        self.news.set()

    def renew(self, name: str, **more: Any) -> None:
        """Replace the files, as certificate managers do."""
        for made, served in zip(self.authority.pair(name, **more), self.pair, strict=True):
            shutil.copy(made, made.with_suffix(".new"))
            made.with_suffix(".new").rename(served)

    async def curl(self, *words: str) -> tuple[int, str]:
        ran = await run("curl", "-sS", "--cacert", self.authority.ca, *words, f"https://127.0.0.1:{self.port}/v2/x")
        return ran.status, ran.output

    async def shown(self) -> bytes:
        """Return the fingerprint of the certificate that a client gets that sends no server name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        der: bytes = writer.get_extra_info("ssl_object").getpeercert(True)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return hashlib.sha256(der).digest()


def fingerprint(file: Path) -> bytes:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(file.read_text())).digest()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made, nobody = Site(tmp_path), None
    services: Any = nobody
    listener, connection = Listener(make_app(Shown(services, made.front)), grace=0.05), bind("127.0.0.1:0")
    await listener.listen(connection, made.certificate.context)
    made.port = connection.getsockname()[1]
    try:
        yield made
    finally:
        await listener.close()
        connection.close()


async def test_content_over_tls(site: Site) -> None:
    """A file comes byte for byte to a client that checks the certificate, whole and in parts, on one connection."""
    out = site.folder / "out"
    assert await site.curl("-o", str(out)) == (0, "")
    assert out.read_bytes() == site.front.file.read_bytes()
    assert (await site.curl("-o", str(out), "-r", "1000000-2999999"))[0] == 0
    assert out.read_bytes() == site.front.file.read_bytes()[1_000_000:]
    assert [one.scheme for one in site.front.asked] == ["https", "https"]
    assert site.front.asked[0].origin == f"https://127.0.0.1:{site.port}"


@pytest.mark.parametrize(("words", "good"), [(("--tls-max", "1.2"), True), (("--tls-max", "1.1"), False)])
async def test_versions(site: Site, words: tuple[str, ...], good: bool) -> None:
    """TLS 1.2 is spoken, and nothing older."""
    assert ((await site.curl(*words, "-o", "/dev/null"))[0] == 0) is good


async def test_plain_http_on_the_port(site: Site) -> None:
    """Plain HTTP gets no content there, and hurts no other client."""
    ran = await run("curl", "-sS", f"http://127.0.0.1:{site.port}/v2/x", "-o", "/dev/null")
    assert ran.status != 0
    assert site.front.asked == []
    assert (await site.curl("-o", "/dev/null"))[0] == 0


async def test_a_renewed_certificate(site: Site) -> None:
    """New files are shown to the next client, also without a server name; what did not change stays (fault F29)."""
    before = await site.shown()
    assert site.certificate.refresh() is None
    site.renew("127.0.0.1", not_after=FAR + timedelta(days=1))
    assert await site.shown() == before
    assert site.certificate.refresh() == ("info", "settings.tls: a new certificate is in use until 2027-12-27")
    assert await site.shown() == fingerprint(site.pair[0])
    assert await site.shown() != before
    assert (await site.curl("-o", "/dev/null"))[0] == 0


async def test_a_secret_that_kubernetes_renews(site: Site) -> None:
    """Files below `..data` are new when that link is another one, and nothing else changed (fault F29)."""
    mounted = site.folder / "mounted"
    for name in ("..1", "..2"):
        (mounted / name).mkdir(parents=True)
        for made, file in zip(site.authority.pair("127.0.0.1", not_after=FAR), ("tls.crt", "tls.key"), strict=True):
            shutil.copy(made, mounted / name / file)
    (mounted / "..data").symlink_to("..1")
    for file in ("tls.crt", "tls.key"):
        (mounted / file).symlink_to(f"..data/{file}")
    served = ServedCertificate(str(mounted / "tls.crt"), str(mounted / "tls.key"), site.say, lambda: site.now)
    assert served.refresh() is None
    (mounted / "..new").symlink_to("..2")
    (mounted / "..new").rename(mounted / "..data")
    assert served.refresh() == ("info", "settings.tls: a new certificate is in use until 2027-12-26")
    assert served.refresh() is None


@pytest.mark.parametrize("wrong", ["mismatch", "garbage", "gone", "encrypted"])
async def test_a_bad_pair(site: Site, wrong: str) -> None:
    """A pair that is wrong, or half written, is reported once and the one before stays; a good one ends that."""
    before = await site.shown()
    certificate, key = site.pair
    if wrong == "mismatch":
        shutil.copy(site.authority.pair("other.example")[1], key)
    elif wrong == "garbage":
        certificate.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    elif wrong == "gone":
        key.unlink()
    else:
        done = await run("openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:word", "-out", f"{key}.x")
        assert done.status == 0
        Path(f"{key}.x").rename(key)
    level, text = site.certificate.refresh() or ("", "")
    assert level == "error"
    assert text.startswith(f"settings.tls: {certificate} and {key} ")
    assert text.endswith("; the certificate before stays in use")
    assert "PRIVATE" not in text
    assert site.certificate.error
    assert site.certificate.refresh() is None
    assert await site.shown() == before
    site.renew("127.0.0.1")
    assert (site.certificate.refresh() or ("",))[0] == "info"
    assert site.certificate.error == ""
    assert await site.shown() == fingerprint(certificate)


async def test_expiry_is_warned_of(site: Site) -> None:
    """From 14 days before its end on a certificate is warned of once a day, and a renewed one no more."""
    site.certificate.check_expiry()
    assert site.said == []
    site.now = FAR - timedelta(days=13)
    for _ in range(3):
        site.certificate.check_expiry()
    (said,) = site.said
    assert said == ("warning", f"{site.pair[0]}: the certificate expires on 2027-12-26 00:00 UTC; renew it")
    site.now += timedelta(days=1, minutes=1)
    site.certificate.check_expiry()
    site.now = FAR + timedelta(days=1)
    site.certificate.check_expiry()
    assert "the certificate expired on" in site.said[-1][1]
    assert len(site.said) == 3
    site.renew("127.0.0.1", not_after=FAR + timedelta(days=100))
    site.certificate.refresh()
    site.certificate.check_expiry()
    assert len(site.said) == 3


async def test_files_are_followed(site: Site) -> None:
    """The loop that the daemon runs finds a new pair, and says so."""
    following = asyncio.create_task(site.certificate.follow(0.01))
    site.renew("127.0.0.1")
    await site.news.wait()
    following.cancel()
    assert site.said[0][1].startswith("settings.tls: a new certificate is in use")
    assert await site.shown() == fingerprint(site.pair[0])


def test_expiry(tmp_path: Path) -> None:
    """The end of a certificate is read as openssl reads it; of nonsense there is none."""
    authority = Authority(tmp_path)
    for end in (NOW, datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)):
        assert expiry(authority.pair("a.example", not_after=end)[0].read_bytes()) == end
    good = authority.pair("a.example")[0].read_bytes()
    for bad in (b"", b"x", good[:200], good.replace(b"MII", b"MIX", 1), b"-----BEGIN CERTIFICATE-----\n\n" * 9):
        assert expiry(bad) is None
