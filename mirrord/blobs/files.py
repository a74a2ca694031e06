"""Durable files are `mirrord.files`'s; this is the old address."""

from mirrord.files import make_folder, storage_errors, write_durably
from mirrord.files import sync as sync_folder

__all__ = ["make_folder", "storage_errors", "sync_folder", "write_durably"]
