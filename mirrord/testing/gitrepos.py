r"""Real repositories for tests: the same commits each time, made by `git fast-import`.

upstream = Upstream(host.create("team/app.git"))
upstream.commit("main", {"README.md": b"hello\n"})
upstream.tag("v1.0.0", "main", annotated=True)
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

PERSON = "Ada <ada@example.com>"
EPOCH = 1_700_000_000


class Upstream:
    """A bare repository that a test changes."""

    def __init__(self, path: Path) -> None:
        """Work on the repository at `path`, which exists."""
        self.path = path
        self._clock = EPOCH

    def commit(self, branch: str, files: Mapping[str, bytes], *, parent: str | None = "") -> str:
        """Add a commit to a branch; return its id. A `parent` of None begins a history of its own.

        Any other `parent` is what it shall follow instead of the branch's tip.
        """
        self._clock += 60
        follows = self.refs().get(f"refs/heads/{branch}", "") if parent == "" else parent or ""
        message = f"change {self._clock} of {branch}".encode()
        parts = [b"reset refs/mirrord-test/tip\n", b"commit refs/mirrord-test/tip\nmark :1\n"]
        parts.append(f"committer {PERSON} {self._clock} +0000\n".encode())
        parts.append(b"data %d\n%s\n" % (len(message), message))
        if follows:
            parts.append(f"from {follows}\n".encode())
        for name, data in files.items():
            parts.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(data), data))
        self.load(b"".join(parts))
        tip = self.git("rev-parse", "refs/mirrord-test/tip").strip()
        self.git("update-ref", "-d", "refs/mirrord-test/tip")
        self.set(f"refs/heads/{branch}", tip)
        return tip

    def rewrite(self, branch: str, files: Mapping[str, bytes] | None = None) -> str:
        """Replace the last commit of a branch, as a force push does."""
        old = self.git("rev-list", "--max-count=2", f"refs/heads/{branch}").split()
        return self.commit(branch, files or {"rewritten": b"x\n"}, parent=old[1] if len(old) > 1 else None)

    def replace(self) -> None:
        """Put another, unrelated history in the place of every branch and tag."""
        for name in self.refs():
            self.delete(name)
        self.commit("main", {"other": b"another project\n"}, parent=None)

    def tag(self, name: str, target: str, *, annotated: bool = False) -> str:
        """Set a tag to a branch or commit, wherever it was; return the id of what it points to."""
        commit = self.git("rev-parse", f"{target}^0").strip()
        if not annotated:
            return self.set(f"refs/tags/{name}", commit)
        self._clock += 60
        body = f"object {commit}\ntype commit\ntag {name}\ntagger {PERSON} {self._clock} +0000\n\n{name}\n"
        return self.set(f"refs/tags/{name}", self.git("mktag", stdin=body.encode()).strip())

    def set(self, ref: str, oid: str) -> str:
        """Point a ref to an object."""
        self.git("update-ref", "--", ref, oid)
        return oid

    def delete(self, *refs: str) -> None:
        """Delete refs by their full names."""
        for ref in refs:
            self.git("update-ref", "-d", "--", ref)

    def empty(self) -> None:
        """Delete every ref."""
        self.delete(*self.refs())

    def head(self, branch: str) -> None:
        """Let HEAD point to a branch."""
        self.git("symbolic-ref", "HEAD", f"refs/heads/{branch}")

    def refs(self) -> dict[str, str]:
        """Return every ref."""
        out = self.git("for-each-ref", "--format=%(refname) %(objectname)")
        return dict(line.split(" ") for line in out.split("\n") if line)  # a name may hold U+2028

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run git on it."""
        return self._run(arguments, stdin).decode()

    def load(self, stream: bytes) -> None:
        """Feed `git fast-import`."""
        self._run(("fast-import", "--quiet", "--force"), stream)

    def _run(self, arguments: Iterable[str], stdin: bytes) -> bytes:
        environ = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        command = ["git", "-C", str(self.path), *arguments]
        return subprocess.run(command, input=stdin, check=True, capture_output=True, env=environ).stdout
