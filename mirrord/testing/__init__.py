"""Shipped doubles, real images, runners for real servers, and the contract suites.

The service never imports this package.
"""

from mirrord.testing.content import Content
from mirrord.testing.distribution import Immutable
from mirrord.testing.exchange import Exchange, Moment, Wire
from mirrord.testing.faults import Fault, Faults
from mirrord.testing.images import Image, build_image
from mirrord.testing.pushing import push
from mirrord.testing.registry import Registry
from mirrord.testing.servers import DockerRegistry, available, require

__all__ = [
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
    "build_image",
    "push",
    "require",
]
