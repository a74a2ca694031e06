"""Commands that lead users to the mirror."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from mirrord.cli.grammar.words import CONFIG, JSON, STATE, command, flag, group, mirrors, value, values

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

_REWRITE = command(
    "rewrite",
    """Point the images in manifests, compose files, values of charts and Dockerfiles at the mirror.

Reads YAML (several documents, too), JSON or a Dockerfile, and prints it with other names for the images that are at the
mirror: `image:` of objects of every kind, `{registry, repository, tag, digest}` of values, `newName` of kustomize,
`RELATED_IMAGE_` variables of operators, `image` and `cache_from` of compose, `FROM`, `COPY --from` and `# syntax=` of
Dockerfiles. All other bytes stay, tags and digests too. Without FILE, or for `-`, reads standard input.

  $ helm template app ./chart | mirrord rewrite | kubectl apply -f -
  $ mirrord rewrite --in-place compose.yaml Dockerfile

`pointing:` of the configuration says where to, and which images are meant. What is left is named on standard error with
file, line and reason, but for images that are at the mirror already. When a file cannot be read nothing is written; a
template of a chart has to be rendered first.

  $ mirrord rewrite --check --policy listed deploy/*.yaml

Exit code 0 when it is written or with `--check` when nothing would change, 1 when something would, 2 when the mirror
could not be asked for an image, 64 when a file cannot be read or the place is not clear, 74 when a file cannot be
written, 78 when a file is no YAML, JSON or Dockerfile, or the configuration is wrong.
""",
    click.Argument(
        ["files"],
        nargs=-1,
        type=click.Path(path_type=Path),
        metavar="[FILE]...",
        help="Files of YAML or JSON, or Dockerfiles, each at most 64 MiB. Default: standard input.",
    ),
    click.Option(
        ["--policy"],
        type=click.Choice(["listed", "present", "always"]),
        metavar="POLICY",
        help="Which images are rewritten: those that the configuration names (`listed`), those that the mirror has when"
        " it is asked (`present`), or all that have a name there (`always`). Default: `pointing.policy`.",
    ),
    values("--to", "PLACE", "Point at `front`, `local` or this target. Default: `pointing.to`."),
    flag("--in-place", "Change the files themselves.", "-i"),
    flag("--check", "Change nothing; print which images would be rewritten."),
    CONFIG,
    JSON,
)

_WEBHOOK_CERTIFICATE = command(
    "webhook certificate",
    """Print the `caBundle` with which the API server of Kubernetes trusts the webhook.

It is the certificate of an authority that is made in the state directory when it is not there, lasts for ten years, and
signs the certificates of the webhook, which a running daemon renews. So it is given to the cluster once. Its key never
leaves the state directory.

  $ mirrord webhook certificate

Exit code 0, 64 when `webhook:` has a certificate of somebody else, 74 when the state cannot be written.
""",
    CONFIG,
    STATE,
    JSON,
)

_WEBHOOK_POLICY = command(
    "webhook policy",
    """Print a MutatingAdmissionPolicy, with which the API server of Kubernetes points new Pods by itself.

It needs Kubernetes 1.36 or newer, and no webhook. It only knows names: it points what the front allows and what mirrors
copy, whatever their tag, without asking whether it is there. `pointing:` says where to and what is excepted. What is
left out is named on standard error.

  $ mirrord webhook policy > policy.json

Exit code 0, 64 when no image has a place that follows from its name, or too many have one, 78 when the configuration is
wrong.
""",
    CONFIG,
)

_WEBHOOK = group("webhook", "Point new Pods at the mirror.", _WEBHOOK_CERTIFICATE, _WEBHOOK_POLICY)

_COMMENT = command(
    "comment",
    """Print what to tell a pull request about its build: where its images can be pulled.

The text is Markdown: for each target the commands that pull the images which `mirrord publish` has put there, and
with `--helm` the command that installs a chart with them. Each target is asked whether it has the image.

NAME is a mirror of an image. Write NAME=KEY where the values of the chart call it otherwise, and NAME= where they begin
with `image:`.

  $ mirrord comment craned metric-adapter=metricAdapter --pr 7 --commit $SHA
  $ mirrord comment craned --pr 7 --commit $SHA --helm 'helm install c c/crane'

With `--to` it becomes ONE comment of the pull request, which every later build writes anew. It is found by who wrote it
and by a mark in it. The environment variable `FORGE_TOKEN` has a token that may comment there.

  $ mirrord comment craned --pr 7 --commit $SHA --to https://gitee.com/acme/app

Exit code 0 when every target has every image, 2 when some are missing, 1 when all are, 64 when a name does not fit.
""",
    click.Argument(
        ["names"],
        nargs=-1,
        required=True,
        metavar="NAME[=KEY]...",
        help="Names of mirrors of images, and the keys of their values.",
        shell_complete=mirrors,
    ),
    click.Option(
        ["--pr"], type=click.IntRange(min=1), required=True, metavar="N", help="The number of the pull request."
    ),
    value("--commit", "C", "The commit that was built: 7 to 64 hexadecimal digits."),
    value("--describe", "D", "The output of `git describe`, or any other name, instead of `--commit`."),
    value("--helm", "COMMAND", "What installs the chart; `--set` for each image is written behind it."),
    click.Option(
        ["--language"],
        type=click.Choice(["en", "zh"]),
        metavar="LANGUAGE",
        help="The language: en or zh. Default: zh at Gitee, else en.",
    ),
    value("--to", "URL", "Write it into pull request N of this repository, and print nothing of it."),
    click.Option(
        ["--forge"],
        type=click.Choice(["github", "gitee", "gitlab", "gitea"]),
        metavar="KIND",
        help="What the host of `--to` is: github, gitee, gitlab or gitea (also for Forgejo). Default: by its name.",
    ),
    CONFIG,
)

POINTING: Final = (_CLIENT_CONFIG, _REWRITE, _WEBHOOK, _COMMENT)
