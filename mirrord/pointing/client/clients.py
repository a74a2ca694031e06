"""The clients that are known. Pure."""

from __future__ import annotations

from typing import Final

from mirrord.pointing.client.buildkit import BUILDKIT
from mirrord.pointing.client.compose import COMPOSE
from mirrord.pointing.client.containerd import CONTAINERD
from mirrord.pointing.client.docker import DOCKER
from mirrord.pointing.client.ecs import ECS
from mirrord.pointing.client.helm_values import HELM_VALUES
from mirrord.pointing.client.k3s import K3S
from mirrord.pointing.client.kind import KIND
from mirrord.pointing.client.kubeadm import KUBEADM
from mirrord.pointing.client.kustomize import KUSTOMIZE
from mirrord.pointing.client.openshift import OPENSHIFT
from mirrord.pointing.client.podman import PODMAN
from mirrord.pointing.client.talos import TALOS

CLIENTS: Final = {one.name: one for one in (CONTAINERD, DOCKER, PODMAN, BUILDKIT, K3S, TALOS, OPENSHIFT, KUBEADM, KIND)}
"""Those that ask a mirror by themselves."""
IMAGE_FILES: Final = {one.name: one for one in (KUSTOMIZE, HELM_VALUES, COMPOSE, ECS)}
"""Those that have to name images where they are."""
