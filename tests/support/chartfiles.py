"""Chart archives and provenance files, assembled on the spot and the same each time."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from typing import Any

import yaml


def pack_chart(name: str, version: str, *, size: int = 0, **metadata: Any) -> bytes:
    """Return a chart archive, the same each time; `size` incompressible bytes make it larger."""
    document = {"apiVersion": "v2", "name": name, "version": version, **metadata}
    filler = hashlib.shake_256(f"{name}-{version}".encode()).digest(size)
    files = {"Chart.yaml": yaml.safe_dump(document).encode(), "values.yaml": b"{}\n", "files/filler": filler}
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", 6, packed, mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(f"{name}/{path}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def sign_chart(archive: bytes) -> bytes:
    """Return a provenance file with the right sum, and a signature that is none."""
    metadata = chart_metadata(archive)
    file = f"{metadata['name']}-{metadata['version']}.tgz"
    sums = {"files": {file: f"sha256:{hashlib.sha256(archive).hexdigest()}"}}
    text = f"{yaml.safe_dump(metadata)}\n...\n{yaml.safe_dump(sums)}"
    signature = "-----BEGIN PGP SIGNATURE-----\n\nbm9uZQ==\n-----END PGP SIGNATURE-----\n"
    return f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{text}{signature}".encode()


def chart_metadata(archive: bytes) -> dict[str, Any]:
    """Return what Chart.yaml says; for charts of `pack_chart`, since others may hold numbers where helm reads text.

    Raises:
        ValueError: no chart.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar:
                if member.name.count("/") == 1 and member.name.endswith("/Chart.yaml"):
                    content = tar.extractfile(member)
                    assert content is not None
                    document: dict[str, Any] = yaml.safe_load(content.read())
                    return document
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(str(error)) from error
    raise ValueError("no Chart.yaml")


def form_fields(content_type: str, body: bytes) -> Mapping[str, bytes]:
    """Return the fields of a form (RFC 7578), or the whole body as `chart`."""
    found = re.fullmatch(r"multipart/form-data; boundary=([\w-]+)", content_type)
    if found is None:
        return {"chart": body}
    mark = f"--{found[1]}".encode()
    first, *parts, last = (b"\r\n" + body).split(b"\r\n" + mark)
    assert (first, last) == (b"", b"--\r\n"), "not a form"
    fields = {}
    for part in parts:
        head, _, data = part.partition(b"\r\n\r\n")
        name = re.search(rb'; name="(\w+)"', head)
        assert name is not None, "a part without a name"
        fields[name[1].decode()] = data
    return fields
