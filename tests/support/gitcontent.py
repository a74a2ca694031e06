"""Content of repositories for tests: much of it, and pointers to what is elsewhere."""

from __future__ import annotations

import hashlib
import random

from mirrord.testing.gitrepos import EPOCH, PERSON, Upstream


def fill(upstream: Upstream, refs: int, size: int, *, commits: int = 50) -> None:
    """Add `size` bytes that nothing compresses over `commits` commits of `main`, and `refs` refs to them."""
    noise = random.Random(7)
    each, parts = size // commits, [b"reset refs/heads/main\n"]
    for number in range(1, commits + 1):
        data, message = noise.randbytes(each), f"commit {number}".encode()
        parts.append(b"commit refs/heads/main\nmark :%d\n" % number)
        parts.append(f"committer {PERSON} {EPOCH + number} +0000\n".encode())
        parts.append(b"data %d\n%s\n" % (len(message), message))
        parts.append(b"M 100644 inline file%d\ndata %d\n%s\n" % (number % 20, len(data), data))
    for number in range(refs - 1):
        kind = "tags/v" if number % 3 else "heads/topic/"
        parts.append(f"reset refs/{kind}{number}\nfrom :{number % commits + 1}\n\n".encode())
    upstream.load(b"".join(parts))


def lfs_pointer(data: bytes) -> bytes:
    """Return the pointer file that stands for `data` (git-lfs specification, version 1)."""
    digest = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(data)}\n".encode()
