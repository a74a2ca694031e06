"""Clusters of kind: containerd's files, mounted into each node. Pure."""

from __future__ import annotations

from typing import Final

from mirrord.pointing.client.containerd import CERTS, hosts_files
from mirrord.pointing.client.mirror import MARK, Client, ClientFile, ClientMirror, ClientSetup, Version

_FILE, _FOLDER = "kind-mirrord.yaml", "kind-certs.d"
_PATCH = f"""containerdConfigPatches:
  - |-
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "{CERTS}"
"""


def setup(mirror: ClientMirror, version: Version | None) -> ClientSetup:
    """Return the cluster, and the folder that its node mounts; images of kind 0.27 and later need no patch."""
    patch = _PATCH if version is not None and version < (0, 27) else ""
    text = (
        f"{MARK}\nkind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n{patch}nodes:\n  - role: control-plane\n"
        f"    extraMounts:\n      - hostPath: ./{_FOLDER}\n        containerPath: {CERTS}\n        readOnly: true\n"
    )
    loopback = mirror.host.startswith(("localhost", "127.", "[::1]"))
    return ClientSetup(
        (ClientFile(_FILE, text), *hosts_files(mirror, _FOLDER, None, CERTS)),
        f"kind create cluster --config {_FILE}",
        (
            "write the same extraMounts below each further node",
            *((f"{mirror.host} is the node itself there: use an address of this machine",) if loopback else ()),
            *(("registries with a token: fill in the commented header",) if mirror.token else ()),
        ),
    )


KIND: Final = Client("kind", setup, ("0.20", "0.27"))
