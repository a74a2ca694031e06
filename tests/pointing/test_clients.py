"""The files of each client, letter by letter: `clients/*.txt` was reviewed against what the clients' own documents say.

To write them anew after a change: `MIRRORD_WRITE_DOCS=1 pytest tests/pointing/test_clients.py`; then read the diff.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from mirrord.errors import UsageError
from mirrord.pointing.client.clients import CLIENTS
from mirrord.pointing.client.mirror import MARK, ClientMirror, ClientSetup, PointedRegistry

FOLDER = Path(__file__).with_name("clients")
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
HOST = "mirror.example.com"
FRONT = (
    PointedRegistry("docker.io", HOST, f"{HOST}/docker.io"),
    PointedRegistry("registry.k8s.io", HOST, f"{HOST}/registry.k8s.io"),
    PointedRegistry("registry.corp.example.com:5000", HOST, ""),
)
PLAIN = ClientMirror("https", HOST, FRONT, hub=HOST)
CLOSED = ClientMirror("https", HOST, FRONT, hub=HOST, fallback=False, ca=CA, token=True)
INSECURE = ClientMirror(
    "http", "10.0.0.5:8080", (PointedRegistry("docker.io", "docker.m:8080", "docker.m:8080"),), "docker.m:8080"
)
BELOW = ClientMirror("https", HOST, (PointedRegistry("quay.io", "reg.example/mirror/quay", "reg.example/mirror/quay"),))
MIRRORS = {"plain": PLAIN, "closed": CLOSED, "insecure": INSECURE, "below": BELOW}
REFUSING = {("docker", "below"), ("kubeadm", "insecure"), ("kubeadm", "below")}


def cases() -> list[tuple[str, str, str]]:
    """Every client at each version at which something changes, and all forms of a mirror."""
    versions = [(name, "plain", version) for name, one in CLIENTS.items() for version in one.versions]
    return [*((name, mirror, "") for name in CLIENTS for mirror in MIRRORS), *versions]


def made(name: str, mirror: str, version: str) -> ClientSetup:
    client = CLIENTS[name]
    return client.setup(MIRRORS[mirror], client.version(version) if version else None)


def whole(setup: ClientSetup) -> str:
    files = "".join(f"==> {file.path}{' (part)' if file.part else ''}\n{file.text}\n" for file in setup.files)
    return files + "".join(f"{line}\n" for line in (f"then: {setup.after}", *setup.notes))


@pytest.mark.parametrize(("name", "mirror", "version"), cases())
def test_letter_by_letter(name: str, mirror: str, version: str) -> None:
    """The files, the command after which they are in use, and the notes."""
    if (name, mirror) in REFUSING:
        with pytest.raises(UsageError, match=r"docker\.io|registry\.k8s\.io"):
            made(name, mirror, version)
        return
    golden = FOLDER / f"{'-'.join(filter(None, (name, mirror, version)))}.txt"
    text = whole(made(name, mirror, version))
    if os.environ.get("MIRRORD_WRITE_DOCS"):
        golden.write_text(text)
    assert golden.read_text() == text


@pytest.mark.parametrize(("name", "mirror", "version"), [case for case in cases() if case[:2] not in REFUSING])
def test_each_file_is_one(name: str, mirror: str, version: str) -> None:
    """Each is valid TOML, YAML or JSON, no path is there twice, and what is whole says by whom it was written."""
    setup = made(name, mirror, version)
    assert len({file.path for file in setup.files}) == len(setup.files)
    for file in setup.files:
        parsed(file.path, file.text)
        assert file.part or file.text.startswith(MARK) or file.text == CA


def parsed(path: str, text: str) -> list[Any]:
    if path.endswith((".toml", ".conf")):
        return [tomllib.loads(text)]
    if path.endswith(".json"):
        return [json.loads(text)]
    return [] if path.endswith(".crt") else list(yaml.safe_load_all(text))


def test_no_golden_file_is_left_over() -> None:
    """Each is compared by a test."""
    names = {"-".join(filter(None, case)) for case in cases() if case[:2] not in REFUSING}
    assert {file.stem for file in FOLDER.glob("*.txt")} == names


@pytest.mark.parametrize("version", ["1.6", "1.7.28", "2.0", "v2.0.5"])
def test_containerd_before_its_new_words(version: str) -> None:
    """An unknown capability makes containerd ignore a whole file: `referrers` is for 2.2, `dial_timeout` for 2.1."""
    text = whole(made("containerd", "plain", version))
    assert "referrers" not in text
    assert "dial_timeout" not in text


@pytest.mark.parametrize(
    ("client", "version"),
    [("containerd", "1.5"), ("containerd", "new"), ("podman", "5.0"), ("talos", ""), ("kubeadm", "1." + "9" * 50)],
)
def test_versions_of_which_nothing_is_known(client: str, version: str) -> None:
    """Each is refused in one sentence that says what to write."""
    with pytest.raises(UsageError, match=r"known are|leave it out"):
        CLIENTS[client].version(version)
