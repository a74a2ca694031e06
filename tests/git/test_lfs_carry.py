"""LFS objects on the wire: where requests and headers go, and what becomes of objects that come in another way."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mirrord.errors import (
    DigestError,
    MirrordError,
    MissingError,
    RefusedError,
    StorageError,
    UnreachableError,
    UntrustedError,
)
from mirrord.wire.git.address import Address
from mirrord.wire.git.cache.repair import disk
from mirrord.wire.git.command import Git
from mirrord.wire.git.lfs import carry, objects
from mirrord.wire.git.lfs.carry import download, upload
from mirrord.wire.git.lfs.objects import Pointer, place, size_of
from mirrord.wire.git.lfs.server import LfsServer
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import WireRequest
from mirrord.wire.secret import Credential, Secret, redact
from tests.support.canary import Canary
from tests.support.disks import fill, small_disk
from tests.support.gitworld import GitWorld
from tests.support.lfshost import LfsHost
from tests.support.played import Played, Said

NAME = "app.git"
BIG = hashlib.shake_256(b"big").digest(3 << 20)
HOME, STORE = "git.example", "store.example"


def pointer(data: bytes) -> Pointer:
    return Pointer(hashlib.sha256(data).hexdigest(), len(data))


def silent(_: int) -> None:
    """Hear nothing."""


@dataclass(slots=True)
class Public:
    """Public hosts, played: an LFS server that answers as it is told, and whatever else it leads to."""

    git: Git
    server: LfsServer
    cache: Path
    played: Played
    action: dict[str, Any] = field(default_factory=dict)
    others: Callable[[WireRequest], Said] = lambda _: Said(500)

    async def ask(self, action: Mapping[str, Any], data: bytes = b"data", *, operation: str = "download") -> Any:
        """Carry one object for which the server tells `action`; return its error."""
        self.action = {"actions": {operation: dict(action)}}
        if operation == "upload":
            place(self.cache, pointer(data).oid).parent.mkdir(parents=True)
            place(self.cache, pointer(data).oid).write_bytes(data)
        call = download if operation == "download" else upload
        return (await call(self.server, self.cache, [pointer(data)], silent)).get(pointer(data).oid)

    def seen(self, host: str) -> list[Mapping[str, str]]:
        return [one.headers for one in self.played.asked if one.authority == host]


@pytest.fixture
async def public(tmp_path: Path) -> AsyncIterator[Public]:
    def play(request: WireRequest) -> Said:
        if request.url != f"https://{HOME}/{NAME}/info/lfs/objects/batch":
            return made.others(request)
        assert isinstance(request.body, bytes)
        (asked,) = json.loads(request.body)["objects"]
        return Said(200, {}, json.dumps({"objects": [asked | made.action]}).encode())

    played = Played(play)
    policy = HostPolicy(HOME, Credential("robot", Secret(Canary.make("robot").text)))
    book = HostBook({HOME: policy})
    async with Http(book, connect=lambda _, __: played, jitter=lambda: 0.0) as http:
        git = Git(tmp_path / "home", book)
        server = LfsServer(git, http, Address.parse(f"https://{HOME}/{NAME}"))
        made = Public(git, server, tmp_path / "app.git", played)
        yield made


@pytest.mark.parametrize(
    ("href", "reason"),
    [
        ("http://169.254.169.254/computeMetadata/v1/token", "downgrade"),
        ("https://169.254.169.254/computeMetadata/v1/token", "address"),
        ("https://127.0.0.1:6379/", "address"),
        ("https://localhost/", "address"),
        ("https://10.0.0.8/internal", "address"),
        ("https://[::ffff:192.168.1.1]/", "address"),
        ("https://[fd00::1]/", "address"),
        ("http://store.example/x", "downgrade"),
        ("file:///etc/passwd", "scheme"),
        ("https://a:b@store.example/x", "userinfo"),
        ("https://store.example/x\r\nHost: y", "url"),
    ],
)
@pytest.mark.parametrize("operation", ["download", "upload"])
async def test_an_lfs_server_cannot_send_us_anywhere(public: Public, href: str, reason: str, operation: str) -> None:
    """Where it says that an object is, is judged like a redirect: nothing is sent there, and who wants it is told."""
    error = await public.ask({"href": href, "header": {"Metadata-Flavor": "Google"}}, operation=operation)
    assert isinstance(error, UntrustedError)
    assert error.reason == reason
    assert str(error).startswith(f"{HOME}: its LFS server gives an address that is not allowed: refused: ")
    assert {one.authority for one in public.played.asked} == {HOME}


async def test_what_an_lfs_server_issues_goes_to_that_address_alone(public: Public) -> None:
    """Its headers go where it says that the object is, and not where that leads; our credential goes to neither."""

    def others(request: WireRequest) -> Said:
        if request.authority == STORE:
            return Said(307, {"location": "https://cdn.example/data"})
        return Said(200, {"content-length": "4"}, b"data")

    public.others = others
    issued = {"Authorization": "RemoteAuth 1f3a", "X-Amz-Date": "today", "Transfer-Encoding": "chunked", "Host": "evil"}
    assert await public.ask({"href": f"https://{STORE}/data?X-Amz-Signature=1", "header": issued}) is None
    assert place(public.cache, pointer(b"data").oid).read_bytes() == b"data"
    ours = public.git.book.policy(HOME).credential
    assert ours is not None
    assert [one["Authorization"] for one in public.seen(HOME)] == [ours.basic]
    (there,) = public.seen(STORE)
    assert (there["Authorization"], there["X-Amz-Date"]) == ("RemoteAuth 1f3a", "today")
    assert not {"Transfer-Encoding", "Host"} & there.keys()
    (cdn,) = public.seen("cdn.example")
    assert not {"Authorization", "X-Amz-Date"} & cdn.keys()


async def test_what_an_lfs_server_issues_is_in_no_text(public: Public) -> None:
    """Who repeats a token that a server issued, whole or in part, has it masked in whatever is written of that."""
    issued = {"Authorization": "RemoteAuth 1f3a-77canary", "X-Amz-Date": "20240517"}
    public.others = lambda _: Said(200, {"content-length": "4"}, b"data")
    assert await public.ask({"href": f"https://{STORE}/data", "header": issued}) is None
    said = "no: RemoteAuth 1f3a-77canary, token 1f3a-77canary, of 20240517"
    assert redact(said) == "no: ***, token ***, of 20240517"


async def test_a_challenge_elsewhere_is_not_answered(public: Public) -> None:
    """A host for which the operator wrote a credential does not get it because an LFS server leads there."""
    policies = public.git.book.policies
    assert isinstance(policies, dict)
    policies[STORE] = HostPolicy(STORE, Credential("robot", Secret("pass-77aa")))
    public.others = lambda _: Said(401, {"www-authenticate": "Basic"})
    error = await public.ask({"href": f"https://{STORE}/data"})
    assert isinstance(error, RefusedError)
    assert f"{STORE}, which {HOME} names for it, does not give an LFS object: status 401" in str(error)
    assert all("Authorization" not in one for one in public.seen(STORE))


async def test_objects_at_home_are_asked_for_as_the_host_wants(public: Public) -> None:
    """Below the server's own host a challenge is answered with our credential, where the server issues nothing."""
    challenge = Said(401, {"www-authenticate": "Basic"})
    public.others = lambda one: Said(200, {}, b"data") if "Authorization" in one.headers else challenge
    assert await public.ask({"href": f"https://{HOME}/objects/1"}) is None


@pytest.mark.parametrize(
    "header", [{"X-Y": "a\r\nb: c"}, {"X Y": "a"}, {"": "a"}, {"X-Y": "a" * 10_000}, {"X-Y": "☃"}], ids=str
)
async def test_headers_that_nobody_can_send(public: Public, header: dict[str, str]) -> None:
    """A header with a line break, or otherwise no header, is refused with the object."""
    error = await public.ask({"href": f"https://{STORE}/data", "header": header})
    assert "headers that cannot be sent" in str(error)
    assert public.seen(STORE) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>sign in</html>", "as an LFS server does"),
        (b"[" * 100_000, "as an LFS server does"),
        (b'{"objects": 1}', "as an LFS server does"),
        (b'{"objects": [1, null, [], {"size": 1}]}', "as an LFS server does"),
        (b'{"transfer": "tus", "objects": []}', "the transfer 'tus'"),
        (b'{"objects": []}', "did not answer for an object"),
        (b" " * (5 << 20), "more than"),
    ],
    ids=["page", "deep", "number", "entries", "tus", "nothing", "long"],
)
async def test_answers_that_are_none(public: Public, body: bytes, words: str) -> None:
    """What is not the batch API, or has no end, is told as such."""
    played = Played(lambda _: Said(200, {}, body))
    async with Http(public.git.book, connect=lambda _, __: played) as http:
        server = LfsServer(public.git, http, public.server.address)
        (error,) = (await download(server, public.cache, [pointer(b"data")], silent)).values()
    assert words in str(error)


@pytest.mark.parametrize(
    "odd",
    [
        {"error": 404},
        {"actions": [1]},
        {"actions": {"download": {}}},
        {"actions": {"download": {"href": "x", "header": 1}}},
        {"actions": {"download": {"href": f"https://{STORE}/\ud800"}}},
    ],
)
async def test_what_is_odd_about_one_object_is_its_own(public: Public, odd: Mapping[str, Any]) -> None:
    """What a server says of one object and nobody can read costs that object, and not the other 99 of the answer."""
    good, bad = pointer(b"good"), pointer(b"bad")
    action = {"actions": {"download": {"href": f"https://{STORE}/good"}}}
    body = json.dumps({"objects": [7, {"oid": bad.oid, **odd}, {"oid": good.oid, **action}]}).encode()
    played = Played(lambda request: Said(200, {}, b"good" if STORE in request.url else body))
    async with Http(public.git.book, connect=lambda _, __: played) as http:
        server = LfsServer(public.git, http, public.server.address)
        errors = await download(server, public.cache, [good, bad], silent)
    assert errors.keys() == {bad.oid}
    assert re.search("about an object cannot be read|bytes that are not UTF-8", str(errors[bad.oid]))
    assert size_of(public.cache, good.oid) == 4


@dataclass(slots=True)
class Real:
    """A real LFS server on loopback, and a cache."""

    host: LfsHost
    server: LfsServer
    cache: Path
    came: int = 0

    def heard(self, count: int) -> None:
        self.came += count

    async def get(self, *data: bytes) -> dict[str, MirrordError]:
        return await download(self.server, self.cache, [pointer(one) for one in data], self.heard)

    async def give(self, *data: bytes) -> dict[str, MirrordError]:
        return await upload(self.server, self.cache, [pointer(one) for one in data], self.heard)

    def here(self, data: bytes) -> bool:
        path = place(self.cache, pointer(data).oid)
        return path.exists() and path.read_bytes() == data

    def keep(self, data: bytes) -> Path:
        path = place(self.cache, pointer(data).oid)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path


@pytest.fixture
async def real(world: GitWorld) -> Real:
    host = await world.stack.enter_async_context(LfsHost(world.folder / "host"))
    git = Git(world.folder / "home", world.services.http.book)
    server = LfsServer(git, world.services.http, Address.parse(host.url(NAME)))
    return Real(host, server, world.folder / "cache.git")


async def test_a_download_goes_on_where_it_broke(real: Real) -> None:
    """A connection that ends in the middle costs only what is missing."""
    oid = real.host.put(NAME, BIG)
    real.host.faults.on("GET", oid).truncate(2 << 20)
    assert await real.get(BIG) == {}
    assert real.here(BIG)
    assert real.came == len(BIG)
    first, second = [one.headers.get("range", "") for one in real.host.log if one.method == "GET"]
    assert first == ""
    assert 1 << 20 <= int(second.removeprefix("bytes=").removesuffix("-")) <= 2 << 20


async def test_a_download_goes_on_with_the_next_run(real: Real) -> None:
    """What came before everything broke is kept, and the next run asks for the rest; what is no longer wanted goes."""
    oid = real.host.put(NAME, BIG)
    broken = real.host.faults.on("GET", oid, times=None).truncate(100_000)
    (error,) = (await real.get(BIG)).values()
    assert error.retry
    assert broken.hits <= carry.ROUNDS * carry.TRIES
    real.host.faults.clear()
    real.host.forget()
    parts = real.cache / "lfs" / "incomplete"
    (kept,) = parts.iterdir()
    size = kept.stat().st_size
    (parts / ("0" * 64)).write_bytes(b"of another")
    objects.sweep(real.cache, [pointer(BIG)])
    assert await real.get(BIG) == {}
    assert real.here(BIG)
    assert size
    assert [one.headers["range"] for one in real.host.log if one.method == "GET"] == [f"bytes={size}-"]
    assert list(parts.iterdir()) == []


@pytest.mark.parametrize("wrong", ["flipped", "short", "long"])
async def test_wrong_bytes_are_asked_for_again_and_never_kept(real: Real, wrong: str) -> None:
    """An object is what its id says or it is not there; a server that sends it right the second time heals it."""
    data = BIG[:100_000]
    oid = real.host.put(NAME, data)
    for times, whole in ((None, False), (1, True)):
        fault = real.host.faults.on("GET", oid, times=times)
        if wrong == "flipped":
            fault.corrupt(50)
        else:
            fault.answer(data[:-1] if wrong == "short" else data + b"x")
        errors = await real.get(data)
        assert [type(error) for error in errors.values()] == ([] if whole else [DigestError])
        assert real.here(data) == whole
        assert fault.hits == (carry.ROUNDS if times is None else 1)
        real.host.faults.clear()


async def test_what_fails_hurts_no_other(real: Real) -> None:
    """Of many objects those come that can: some are missing, one is refused, one has a server that fails."""
    data = [b"%d" % number * 100 for number in range(230)]
    for one in data[3:]:
        real.host.put(NAME, one)
    lost, closed, failing = (pointer(one).oid for one in data[3:6])
    real.host.faults.on("GET", lost, times=None).status(404)
    real.host.faults.on("GET", closed, times=None).status(403)
    real.host.faults.on("GET", failing, times=None).status(500)
    errors = await real.get(*data)
    codes = {oid: error.code for oid, error in errors.items()}
    assert codes == {
        **dict.fromkeys((pointer(one).oid for one in data[:3]), "missing"),
        lost: "missing",
        closed: "denied",
        failing: "server",
    }
    assert all(real.here(one) for one in data[6:])
    assert max(len(asked) for _, asked in real.host.asked) == 100


async def test_a_server_from_which_nothing_comes_is_not_asked_for_each(real: Real) -> None:
    """After some objects in a row that the host does not give, the rest is left to the next run."""
    data = [b"%d" % number * 100 for number in range(250)]
    for one in data:
        real.host.put(NAME, one)
    real.host.faults.on("GET", "lfs-objects", times=None).status(503)
    errors = await real.get(*data)
    assert len(errors) == 250
    gets = sum(method == "GET" for method, _, _ in real.host.requests)
    assert gets <= (carry.HOPELESS + carry.AT_ONCE) * 4  # each is asked four times, as all requests are
    assert len(real.host.asked) == 1


async def test_a_server_that_wants_fewer_at_a_time_is_asked_so(real: Real) -> None:
    """413 for a request halves it."""
    data = [b"%d" % number * 100 for number in range(20)]
    for one in data:
        real.host.put(NAME, one)
    real.host.most = 6
    assert await real.get(*data) == {}
    assert [len(asked) for _, asked in real.host.asked] == [20, 10, 5, 5, 10, 5, 5]


async def test_an_upload_with_headers_and_a_verification(real: Real) -> None:
    """What the host has is not sent again; the rest goes with the headers that it wants, and is verified on demand."""
    one, two = b"one" * 1000, b"two" * 1000
    real.keep(one)
    real.keep(two)
    real.host.put(NAME, two)
    real.host.issues, real.host.verifies = {"Authorization": "Basic abc", "X-Custom": "y"}, True
    assert await real.give(one, two) == {}
    assert real.host.objects == {(NAME, pointer(one).oid): one, (NAME, pointer(two).oid): two}
    assert real.host.verified == [pointer(one).oid]
    assert [method for method, _, _ in real.host.requests] == ["POST", "PUT", "POST"]
    assert real.came == len(one)


async def test_an_upload_that_breaks_is_tried_again(real: Real) -> None:
    """A failing store gets the object with the next answer; what is not here is told, and costs no request."""
    real.keep(BIG)
    fault = real.host.faults.on("PUT", "lfs-objects").status(502)
    assert await real.give(BIG) == {}
    assert fault.hits == 1
    (error,) = (await real.give(b"elsewhere")).values()
    assert isinstance(error, MissingError)


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What reads or writes files of objects: it is kept here, so that no garbage collection closes a file."""
    kept: list[object] = []

    def keeping(make: Callable[..., object]) -> Callable[..., object]:
        def call(cache: Path, pointer: Pointer) -> object:
            kept.append(make(cache, pointer))
            return kept[-1]

        return call

    for name in ("Part", "pieces"):
        monkeypatch.setattr(carry, name, keeping(getattr(carry, name)))
    return kept


def is_open(cache: Path) -> bool:
    """Whether a file below a cache is open in this process."""
    return any(os.path.realpath(one).startswith(f"{cache}/") for one in Path("/proc/self/fd").iterdir())


async def closed(cache: Path) -> None:
    """Wait until no file below a cache is open: a thread closes it."""
    async with asyncio.timeout(30):
        while is_open(cache):  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0)


async def test_an_upload_that_breaks_leaves_no_file_open(real: Real, readers: list[object]) -> None:
    """The file of an object is closed although nobody wants the rest of it."""
    real.keep(BIG)
    real.host.faults.on("PUT", "lfs-objects").refuse_after(1 << 20, 422)
    (error,) = (await real.give(BIG)).values()
    assert "status 422" in str(error)
    assert len(readers) == 1
    await closed(real.cache)


@pytest.mark.parametrize("operation", ["get", "give"])
async def test_a_transfer_that_is_cancelled_leaves_no_file_open(
    real: Real, readers: list[object], monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """A thread may be about to open the file then: it is closed when the thread is done."""
    began, go, left = (threading.Event() for _ in range(3))

    @contextlib.contextmanager
    def slow(path: Path) -> Iterator[None]:
        began.set()
        go.wait(30)
        try:
            with disk(path):
                yield
        finally:
            left.set()

    monkeypatch.setattr(objects, "disk", slow)
    real.host.put(NAME, BIG) if operation == "get" else real.keep(BIG)
    running = asyncio.create_task(getattr(real, operation)(BIG))
    await asyncio.to_thread(began.wait, 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    go.set()
    assert await asyncio.to_thread(left.wait, 30)
    await closed(real.cache)
    assert len(readers) == 1


async def test_a_damaged_object_is_not_uploaded(real: Real) -> None:
    """Bytes that are not those of the id never complete an upload; the damaged copy goes, so that it comes anew."""
    path = real.keep(BIG)
    path.write_bytes(BIG[:-1] + b"?")
    (error,) = (await real.give(BIG)).values()
    assert "damaged" in str(error)
    assert real.host.objects == {}
    assert not path.exists()


async def test_a_disk_that_fills_up_is_given_its_room_back(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came of an object goes when the disk is full, and others come when there is room."""
    monkeypatch.setattr(objects, "SPARE", 0)
    oid = real.host.put(NAME, BIG)
    try:
        with small_disk(real.cache, 4 << 20):
            late = real.host.faults.on("GET", oid)
            late.do(lambda: fill(real.cache / "filler", leave=1 << 20))
            (error,) = (await real.get(BIG)).values()
            assert isinstance(error, StorageError)
            assert list((real.cache / "lfs" / "incomplete").iterdir()) == []
            (real.cache / "filler").unlink()
            assert await real.get(BIG) == {}
            assert real.here(BIG)
    except UnreachableError as error:
        pytest.skip(str(error))


async def test_what_does_not_fit_is_told_before_it_is_read(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object for which the disk has no room is not even asked for; one that fits comes."""
    small = b"small"
    for one in (BIG, small):
        real.host.put(NAME, one)
    monkeypatch.setattr(objects, "SPARE", 1 << 20)
    try:
        with small_disk(real.cache, 3 << 20):
            errors = await real.get(BIG, small)
            assert {oid: type(error) for oid, error in errors.items()} == {pointer(BIG).oid: StorageError}
            assert real.here(small)
            assert sum(method == "GET" for method, _, _ in real.host.requests) == 1
    except UnreachableError as error:
        pytest.skip(str(error))
