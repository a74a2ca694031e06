"""`mirrord client-config`: what of the configuration clients are pointed at, and where the files go."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrord.errors import StorageError
from tests.support.commands import Desk, Said
from tests.support.tls import Authority

Typed = Callable[..., Said]
CONFIGURATION = """
settings: {url: "https://mirror.example.com"}
hosts: {ghcr.io: {auth: {username: robot, password: {env: SECRET}}}}
names:
  aliases: {k8s.gcr.io: registry.k8s.io, corp.example.com: "registry.corp.example.com:5000"}
front:
  image:
    upstreams: [docker.io, registry.k8s.io, {ghcr.io: {credentials: true}}, corp.example.com, quay.io]
    allow: [docker.io/library/*, registry.k8s.io/**, ghcr.io/team/app, corp.example.com/team/*]
"""
HOSTS = "names: {hosts: {docker.m.example: docker.io}}\n"
FRONT = "front: {image: {upstreams: [docker.io], allow: [docker.io/library/*]}}\n"
URL = 'settings: {url: "https://m.example:8443"}\n'


def pointed(said: Said) -> list[str]:
    assert said.status == 0, said.err
    return re.findall(r"certs\.d/([^/]+)/hosts\.toml", said.out)


def test_what_the_front_serves(desk: Desk, typed: Typed) -> None:
    """All upstreams that `allow` has a line for, and hosts that are aliases of them; no others, and no secret."""
    desk.configure(CONFIGURATION)
    said = typed("client-config", "containerd")
    port = "registry.corp.example.com_5000_"
    assert pointed(said) == ["docker.io", "registry.k8s.io", "k8s.gcr.io", "ghcr.io", port, "corp.example.com"]
    assert "mirrord token add" not in said.out
    assert "Basic TOKEN" in said.out  # what is read with credentials is for clients with a token
    assert "robot" not in said.out + said.err
    assert "systemctl restart containerd" in said.err


def test_names_without_a_path(desk: Desk, typed: Typed) -> None:
    """A registry with a port is called by its alias in the name of an image; Docker's mirror has no path at all."""
    desk.configure(CONFIGURATION)
    said = typed("client-config", "podman")
    assert 'location = "mirror.example.com/corp.example.com"' in said.out
    assert 'prefix = "quay.io"' not in said.out
    assert typed("client-config", "docker").out.count("https://mirror.example.com") == 1


def test_a_host_that_stands_for_docker_hub(desk: Desk, typed: Typed) -> None:
    """Docker asks it, since a path without a registry can mean a repository of `local` at our own address."""
    desk.configure(URL + HOSTS + FRONT)
    assert '"https://docker.m.example"' in typed("client-config", "docker").out


def test_our_address_stands_for_one_registry(desk: Desk, typed: Typed) -> None:
    """Then no other registry can be asked there, with `?ns=` neither."""
    quay = "front: {image: {upstreams: [docker.io, quay.io], allow: [docker.io/**, quay.io/**]}}\n"
    desk.configure("settings: {url: 'https://m.example'}\nnames: {hosts: {m.example: quay.io}}\n" + quay)
    said = typed("client-config", "podman")
    assert 'location = "m.example"\n' in said.out
    assert "docker.io" not in said.out
    assert typed("client-config", "docker").status == 64


def test_this_machine_alone(desk: Desk, typed: Typed) -> None:
    """Without an address for others there is a notice, and plain HTTP."""
    desk.configure(FRONT)
    said = typed("client-config", "containerd")
    assert 'host."http://127.0.0.1:8080"' in said.out
    assert "settings: {url:" in said.err


@pytest.mark.parametrize(
    ("text", "client", "says"),
    [
        ("mirrors: []\n", "podman", "front: {image:"),
        (
            FRONT.replace("[docker.io]", "[docker.io, quay.io]").replace("docker.io/library", "ghcr.io/a"),
            "podman",
            "allow",
        ),
        (URL + FRONT.replace("docker.io", "quay.io"), "docker", "Docker asks mirrors for docker.io alone"),
        (URL + FRONT, "kubeadm", "registry.k8s.io"),
    ],
)
def test_nothing_to_point_at(desk: Desk, typed: Typed, text: str, client: str, says: str) -> None:
    """One sentence says what to write."""
    desk.configure(text)
    said = typed("client-config", client)
    assert (said.status, said.out) == (64, "")
    assert says in said.err


def test_an_unknown_address(desk: Desk, typed: Typed) -> None:
    """With a port that is not known before the daemon listens, the error says to write the address."""
    desk.configure(FRONT + "settings: {listen: '127.0.0.1:0'}\n")
    said = typed("client-config", "podman")
    assert (said.status, said.out) == (78, "")
    assert "settings.url" in said.err


def test_a_registry_that_is_excepted(desk: Desk, typed: Typed) -> None:
    """A registry that `pointing.except` has as a whole is pointed nowhere."""
    desk.configure(CONFIGURATION + "pointing: {except: ['ghcr.io/**', docker.io/library/nginx]}\n")
    assert {"ghcr.io", "docker.io"} & {*pointed(typed("client-config", "containerd"))} == {"docker.io"}


def test_an_allow_list_that_is_elsewhere(desk: Desk, typed: Typed) -> None:
    """Where the list is not on this machine, all upstreams are pointed at, and a notice says so."""
    desk.configure(URL + "front: {image: {upstreams: [docker.io, quay.io], allow: /etc/nowhere/allows.txt}}\n")
    said = typed("client-config", "containerd")
    assert pointed(said) == ["docker.io", "quay.io"]
    assert "allows.txt" in said.err


def test_files_below_a_folder(desk: Desk, typed: Typed) -> None:
    """Each is at its path, readable for all; again replaces ours, and never what somebody else has written."""
    desk.configure(CONFIGURATION)
    folder = desk.folder / "out"
    assert typed("client-config", "containerd", "--output", str(folder)).status == 0
    assert typed("client-config", "containerd", "--version", "2.2", "--output", str(folder)).status == 0
    hosts = folder / "etc/containerd/certs.d/docker.io/hosts.toml"
    assert "referrers" in hosts.read_text()
    assert hosts.stat().st_mode & 0o777 == 0o644
    assert "certs.d" in (folder / "etc/containerd/config.toml.part").read_text()
    assert not (folder / "etc/containerd/config.toml").exists()
    hosts.write_text('server = "https://own.example"\n')
    said = typed("client-config", "containerd", "--output", str(folder))
    assert said.status == 64
    assert str(hosts) in said.err
    assert hosts.read_text() == 'server = "https://own.example"\n'
    assert "referrers" in (folder / "etc/containerd/certs.d/ghcr.io/hosts.toml").read_text()
    hosts.unlink()
    hosts.mkdir()
    said = typed("client-config", "containerd", "--output", str(folder))
    assert (said.status, str(hosts) in said.err) == (StorageError.exit_code, True), said
    (desk.folder / "file").touch()
    said = typed("client-config", "containerd", "--output", str(desk.folder / "file"))
    assert said.status == StorageError.exit_code, said


def test_json(desk: Desk, typed: Typed) -> None:
    """Programs get the files, the command and the notes."""
    desk.configure(URL + FRONT)
    document = typed("client-config", "docker", "--json").document
    assert document["client"] == "docker"
    assert [(file["path"], file["part"]) for file in document["files"]] == [("/etc/docker/daemon.json", True)]
    assert document["after"] == "systemctl reload docker"


def test_an_authority(desk: Desk, typed: Typed, tmp_path: Path) -> None:
    """Of the file of --ca only certificates are copied: a key that is in it stays."""
    desk.configure(URL + FRONT)
    authority = Authority(tmp_path)
    pem = tmp_path / "both.pem"
    key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
    pem.write_text(key + authority.ca.read_text())
    said = typed("client-config", "podman", "--ca", str(pem))
    assert said.status == 0, said.err
    assert "/etc/containers/certs.d/m.example:8443/ca.crt" in said.out
    assert "BEGIN CERTIFICATE" in said.out
    assert "PRIVATE" not in said.out
    ours = desk.folder / "out" / "etc/containers/certs.d/m.example:8443/ca.crt"
    for _ in range(2):
        assert typed("client-config", "podman", "--ca", str(pem), "--output", "out").status == 0
    ours.write_text("a bundle of an administrator\n")
    assert typed("client-config", "podman", "--ca", str(pem), "--output", "out").status == 64
    assert ours.read_text() == "a bundle of an administrator\n"
    for inner in ("no", "d\u00e9"):
        pem.write_text(f"-----BEGIN CERTIFICATE-----\n{inner}\n-----END CERTIFICATE-----\n")
        assert typed("client-config", "podman", "--ca", str(pem)).status == 64
    for wrong in (key, ""):
        pem.write_text(wrong)
        assert typed("client-config", "podman", "--ca", str(pem)).status == 64


@pytest.mark.parametrize("options", [("--version", "1.5"), ("--version", "x"), ("--version", "")])
def test_wrong_versions(desk: Desk, typed: Typed, options: tuple[str, ...]) -> None:
    """The error says from which version on something is known, and where formats change."""
    desk.configure(URL + FRONT)
    said = typed("client-config", "containerd", *options)
    assert said.status == 64
    assert "1.6" in said.err
    assert "2.2" in said.err
