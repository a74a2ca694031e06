"""Shipped doubles, real images, runners for real servers, and the contract suites.

The service never imports this package.
"""

from mirrord.testing.auth import Auth
from mirrord.testing.content import Content
from mirrord.testing.distribution import Immutable
from mirrord.testing.exchange import Exchange, Moment, Wire
from mirrord.testing.faults import Fault, Faults
from mirrord.testing.images import Image, build_artifact, build_image, build_nested, build_schema1
from mirrord.testing.pushing import push
from mirrord.testing.registry import Registry
from mirrord.testing.servers import DockerRegistry, available, require

__all__ = [
    "Auth",
    "Content",
    "DockerRegistry",
    "Exchange",
    "Fault",
    "Faults",
    "Image",
    "Immutable",
    "Moment",
    "Registry",
    "Wire",
    "available",
    "build_artifact",
    "build_image",
    "build_nested",
    "build_schema1",
    "push",
    "require",
]
