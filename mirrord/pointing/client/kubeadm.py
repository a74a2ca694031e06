"""kubeadm's `imageRepository`: the images of the control plane alone. Pure."""

from __future__ import annotations

from typing import Final

from mirrord.errors import UsageError
from mirrord.pointing.client.mirror import (
    MARK,
    Client,
    ClientFile,
    ClientMirror,
    ClientSetup,
    Version,
    quoted,
)

_REGISTRY: Final = "registry.k8s.io"
_FILE: Final = "kubeadm-mirrord.yaml"


def setup(mirror: ClientMirror, version: Version | None) -> ClientSetup:
    """Return a ClusterConfiguration; without a version, that of the newest form.

    Of a repository that is not its own, kubeadm takes `REPOSITORY/coredns`; at the registry that is one level deeper.

    Raises:
        UsageError: the mirror does not serve Kubernetes' registry.
    """
    place = next((one.place for one in mirror.named() if one.registry == _REGISTRY), "")
    if not place:
        raise UsageError(
            f"kubeadm pulls from {_REGISTRY}, which is not under front.image.upstreams; add it and allow it"
        )
    form = "v1beta3" if version is not None and version < (1, 31) else "v1beta4"
    text = (
        f"{MARK}\napiVersion: kubeadm.k8s.io/{form}\nkind: ClusterConfiguration\n"
        f"imageRepository: {quoted(place)}\ndns:\n  imageRepository: {quoted(f'{place}/coredns')}\n"
    )
    return ClientSetup(
        (ClientFile(_FILE, text),),
        f"kubeadm init --config {_FILE}",
        (
            f"add your own keys to the file, and try it with `kubeadm config images pull --config {_FILE}`",
            "that is the control plane alone: workloads need the files for containerd or CRI-O on each node",
            *(("the mirror speaks plain HTTP: containerd needs its file for that, too",) if mirror.insecure else ()),
        ),
    )


KUBEADM: Final = Client("kubeadm", setup, ("1.22", "1.31"))
