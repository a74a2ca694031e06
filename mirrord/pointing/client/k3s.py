"""registries.yaml of k3s and RKE2, which make containerd's files of it. Pure."""

from __future__ import annotations

from typing import Final

from mirrord.pointing.client.mirror import (
    CA_FILE,
    MARK,
    Client,
    ClientFile,
    ClientMirror,
    ClientSetup,
    Version,
    quoted,
)

_FOLDER: Final = "/etc/rancher/k3s"


def setup(mirror: ClientMirror, _: Version | None) -> ClientSetup:
    """Return registries.yaml."""
    text = f"{MARK}\nmirrors:\n"
    for one in mirror.registries:
        host, _slash, path = one.endpoint.partition("/")
        text += f"  {quoted(one.registry)}:\n    endpoint:\n      - {quoted(f'{mirror.scheme}://{host}')}\n"
        if path:
            text += f"    rewrite:\n      {quoted('^(.*)$')}: {quoted(f'{path}/$1')}\n"
    if mirror.ca:
        text += "configs:\n" + "".join(
            f"  {quoted(host)}:\n    tls:\n      ca_file: {_FOLDER}/{CA_FILE}\n" for host in mirror.hosts
        )
    if mirror.token:
        text += "" if mirror.ca else "# configs:\n"
        text += f"#   {quoted(mirror.host)}:\n#     auth: {{username: token, password: TOKEN}}\n"
    files = [ClientFile(f"{_FOLDER}/registries.yaml", text), *mirror.authority(f"{_FOLDER}/{CA_FILE}")]
    if not mirror.fallback:
        files.append(ClientFile(f"{_FOLDER}/config.yaml", "disable-default-registry-endpoint: true\n", part=True))
    return ClientSetup(
        tuple(files),
        "systemctl restart k3s",
        (
            "every node needs the files; on agents restart `k3s-agent`",
            "RKE2 has its folder at /etc/rancher/rke2, and the services `rke2-server` and `rke2-agent`",
            *(("clients need a token: fill in the comments",) if mirror.token else ()),
        ),
    )


K3S: Final = Client("k3s", setup)
