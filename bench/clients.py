"""How each tool is told to copy one image to many places: the same for all, each in its own words, nothing tuned.

All are told of the bench's certificate authority by SSL_CERT_FILE, which OpenSSL and Go know.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peers import find

PEERS = ("crane", "regsync", "skopeo")


@dataclass(frozen=True, slots=True)
class Copying:
    """One image to copy.

    Attributes:
        source: `HOST:PORT` of the registry that has it.
        image: `repository:tag`, at the source and at all targets.
        targets: `HOST:PORT` each.
        tls: whether registries speak TLS.
        folder: for what a tool has to be told in files.
    """

    source: str
    image: str
    targets: Sequence[str]
    tls: bool
    folder: Path

    def commands(self, tool: str) -> list[list[str]]:
        """Return what is to be run at once."""
        made: list[list[str]] = getattr(self, f"_{tool}")()
        return made

    @property
    def _from(self) -> str:
        return f"{self.source}/{self.image}"

    @property
    def _to(self) -> list[str]:
        return [f"{target}/{self.image}" for target in self.targets]

    def _mirrord(self) -> list[list[str]]:
        private = ["--allow-private"] if self.tls else []
        return [[sys.executable, "-m", "mirrord", "copy", *private, self._from, *self._to]]

    def _crane(self) -> list[list[str]]:
        return [["crane", "copy", self._from, to] for to in self._to]

    def _skopeo(self) -> list[list[str]]:
        flags = ["--all", "--insecure-policy"]
        flags += [] if self.tls else ["--src-tls-verify=false", "--dest-tls-verify=false"]
        return [["skopeo", "copy", *flags, f"docker://{self._from}", f"docker://{to}"] for to in self._to]

    def _regsync(self) -> list[list[str]]:
        hosts = {self.source, *self.targets}
        config = {
            "version": 1,
            "creds": [{"registry": host, "tls": "enabled" if self.tls else "disabled"} for host in sorted(hosts)],
            "defaults": {"parallel": len(self.targets)},
            "sync": [{"source": self._from, "target": to, "type": "image"} for to in self._to],
        }
        file = self.folder / "regsync.json"
        file.write_text(json.dumps(config))  # JSON is YAML
        return [["regsync", "once", "--config", str(file)]]


def tools() -> tuple[list[str], list[str]]:
    """Return mirrord and the peers that are here, and why the others are not."""
    reasons = {peer: find(peer)[1] for peer in PEERS}
    return ["mirrord", *(peer for peer in PEERS if not reasons[peer])], [
        reason for reason in reasons.values() if reason
    ]
