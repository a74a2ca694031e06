"""The folder of an OCI image layout that is a target."""

from __future__ import annotations

from pathlib import Path

from mirrord.errors import UsageError


def layout_folder(path: str, source: Path | None) -> Path:
    """Return the folder of a layout in canonical form, which skopeo accepts after `oci:`, too.

    Args:
        path: what stands behind `oci:`.
        source: the folder of builds that the mirror reads, or None.

    Raises:
        UsageError: it is none.
    """
    if path.startswith("//"):
        raise UsageError(f"oci:{path}: is a URL; write {path[2:]} for a registry, or oci:/DIR for OCI layouts")
    if not path.startswith("/"):
        raise UsageError(f"oci:{path}: is not an absolute path; write oci:/DIR")
    if ".." in path.split("/"):
        raise UsageError(f"oci:{path}: contains `..`; write the path without `..`")
    if ":" in path:
        raise UsageError(f"oci:{path}: has a colon; write the folder only, each tag of the mirror is a name in it")
    if not path.isprintable():
        raise UsageError(f"oci:{ascii(path)[1:-1]}: has characters that cannot be displayed; write a plain path")
    if source is not None and (folder := Path(path)).is_relative_to(source):
        raise UsageError(f"oci:{folder}: is below from.layouts, and would be read as a build; write another folder")
    return Path(path)
