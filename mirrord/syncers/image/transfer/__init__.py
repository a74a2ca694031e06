"""Carries images: content by digest to every target, then the names."""

from mirrord.syncers.image.transfer.destinations import (
    Destination,
    LayoutDestination,
    LocalDestination,
    RegistryDestination,
)
from mirrord.syncers.image.transfer.session import ImageSession

__all__ = ["Destination", "ImageSession", "LayoutDestination", "LocalDestination", "RegistryDestination"]
