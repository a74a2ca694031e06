"""What Git hosts say and what is in their files: a value, or an error of ours."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mirrord.errors import MirrordError
from mirrord.wire.forges.known import parse_page
from mirrord.wire.git.address import Address
from mirrord.wire.git.commands import read_advertisement, read_refs, read_report
from mirrord.wire.git.lfs.pointers import read
from mirrord.wire.git.lsrefs import _read_listing

BOUNDED = settings(deadline=None, derandomize=True, max_examples=200)  # a loaded machine is no failure
OID = "1" * 40
LINE = st.sampled_from(
    [
        b"# service=git-receive-pack\n",
        f"{OID} refs/heads/main\0report-status side-band-64k".encode(),
        f"{OID} .have".encode(),
        f"{OID} ".encode(),
        b"shallow x",
        b"unpack ok\n",
        b"ng refs/heads/main",
        b"\1ok refs/heads/main\n",
        b"\2\xff\r",
        b"",
    ]
)


def packets(lines: list[bytes]) -> bytes:
    return b"".join(b"%04x%b" % (len(line) + 4, line) if line else b"0000" for line in lines)


WIRE = st.lists(LINE, max_size=6).map(packets) | st.binary(max_size=40) | st.lists(LINE, max_size=4).map(b"".join)


@BOUNDED
@given(WIRE, st.integers(0, 300), st.frozensets(st.sampled_from(["report-status", "side-band-64k"])))
@example(b"0003", 300, frozenset())
@example(b"-001x", 300, frozenset({"report-status"}))
def test_whatever_a_host_says_of_refs(body: bytes, end: int, offered: frozenset[str]) -> None:
    """An advertisement or a report, whole, cut off or made up."""
    for reading in (read_advertisement, read_refs):
        with suppress(MirrordError):
            reading(body[:end])
    with suppress(MirrordError):
        read_report(body[:end], [], offered)


@BOUNDED
@given(st.binary(max_size=60) | st.from_regex(rb"(ref: )?[0-9a-f]{0,40}\t?(HEAD|refs/heads/[a-z^{}]{0,5})?\n?"))
def test_whatever_ls_remote_prints(out: bytes) -> None:
    """Only full names of branches and tags with an object are refs."""
    refs = _read_listing(out).refs
    assert all(name.startswith(("refs/heads/", "refs/tags/")) and len(oid) in (40, 64) for name, oid in refs.items())


@BOUNDED
@given(st.text(max_size=40) | st.from_regex(r"(https?://|ssh://|git@)?[a-zA-Z0-9.:@/_\[\]?#%~-]{0,40}", fullmatch=True))
def test_any_address(text: str) -> None:
    """What is read as an address is read the same again; a page of a forge is one or none."""
    with suppress(MirrordError):
        address = Address.parse(text)
        assert Address.parse(address.url) == address
    with suppress(MirrordError):
        parse_page(text)


@BOUNDED
@given(st.binary(max_size=200), st.integers(0, 10**18 - 1))
def test_a_pointer_of_lfs(data: bytes, size: int) -> None:
    """A pointer is read with its size; other content is none."""
    assert read(data) is None or data.startswith(b"version ")
    pointer = read(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize {size}\n".encode())
    assert pointer is not None
    assert pointer.size == size
