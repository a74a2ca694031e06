"""Commands that lead users to the mirror."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from mirrord.cli.grammar.words import CONFIG, JSON, STATE, command, flag, value

_CLIENTS: Final = (
    "containerd",
    "docker",
    "podman",
    "buildkit",
    "k3s",
    "talos",
    "openshift",
    "kubeadm",
    "kind",
    "kustomize",
    "helm-values",
    "compose",
    "ecs",
)

_CLIENT_CONFIG = command(
    "client-config",
    """Print what a client needs to pull from the mirror.

CLIENT is containerd, docker, podman (also for CRI-O, Buildah and skopeo), buildkit, k3s (also for RKE2), talos,
openshift, kubeadm or kind. They then pull from the front under the original names of images, and from the registry
itself where the front does not answer or refuses. Only registries are named that the front serves: those of
`upstreams` that `allow` has a line for.

Each file is printed with its place. What has to be restarted, and other notes, are on standard error.

  $ mirrord client-config containerd --version 1.7
  $ mirrord client-config podman --output ./client

Formats change at containerd 2.0, 2.1 and 2.2, Talos 1.12, kubeadm 1.31 and kind 0.27. Without `--version` the files
are for every version of containerd, and for the newest of the others. No password or token is printed.

kustomize, helm-values, compose and ecs have no such setting: their file names each mirrored image by its place, which
`pointing:` chooses. It is made of what runs have recorded, as `mirrord list mirrored` prints it.

  $ mirrord client-config kustomize --output .

Exit code 0 when it is printed, 64 when there is no front, the client cannot use what it serves, or nothing has run yet.
""",
    click.Argument(
        ["client"], metavar="CLIENT", type=click.Choice(_CLIENTS), help=f"The client: {', '.join(_CLIENTS)}."
    ),
    value("--version", "VERSION", "The version of the client, such as 1.7."),
    click.Option(
        ["--output", "-o"],
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Write the files below this folder, at the paths that they have at the client. What is to be added to a "
        "file gets a name that ends with `.part`.",
    ),
    flag("--no-fallback", "Let clients ask nothing but the front, where they have a setting for that."),
    click.Option(
        ["--ca"],
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Let clients trust the certificate authorities in this PEM file for the front.",
    ),
    CONFIG,
    STATE,
    JSON,
)

POINTING: Final = (_CLIENT_CONFIG,)
