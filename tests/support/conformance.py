"""The conformance program of the distribution specification, as a judge of registries."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import aiohttp

KEEP: Final = {f"OCI_API_{what}_DELETE": "false" for what in ("BLOBS", "MANIFESTS", "TAGS")}
REPOSITORY: Final = "team/suite"


async def conformance(folder: Path, host: str, **settings: str) -> tuple[int, Sequence[str]]:
    """Run the program against the registry at `host`; returns how many cases passed, and what each failed one said.

    Args:
        folder: is made, for what it writes.
        host: `HOST:PORT` without TLS.
        settings: of its environment; `OCI_REPO1` is `REPOSITORY` unless it stands there.
    """
    folder.mkdir()
    environ = {
        "OCI_REGISTRY": host,
        "OCI_TLS": "disabled",
        "OCI_REPO1": REPOSITORY,
        "OCI_REPO2": f"{REPOSITORY}-2",
        "OCI_VERSION": "1.1",
        "OCI_RESULTS_DIR": str(folder),
        "HOME": str(folder),
        **KEEP,
        **settings,
    }
    program = shutil.which("oci-conformance")
    assert program
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(program, cwd=folder, env=environ, stdout=log, stderr=log)
        await process.wait()
    # The report it prints; the files that it writes after that are missing in its read-only mode, where it crashes.
    lines = [line.strip() for line in (folder / "log").read_text().splitlines()]
    cases = [line for line in lines if line.startswith("OCI Conformance Test")]
    failed = [line for line in lines if "failed test" in line or line.endswith(": FAIL")]
    return sum(line.endswith(": Pass") for line in cases), failed


async def contents(host: str) -> Mapping[str, str]:
    """List all that a registry has in the repository, as the program wants to be told of it."""
    root = f"http://{host}/v2/{REPOSITORY}"
    accept = {"Accept": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"}
    manifests: dict[str, None] = {}
    blobs: dict[str, None] = {}
    subjects: dict[str, None] = {}
    async with aiohttp.ClientSession() as client:
        async with client.get(f"{root}/tags/list") as answer:
            tags = (await answer.json())["tags"]
        left = list(tags)
        while left:
            async with client.get(f"{root}/manifests/{left.pop()}", headers=accept) as answer:
                digest, document = answer.headers["Docker-Content-Digest"], json.loads(await answer.read())
            manifests[digest] = None
            left += [one["digest"] for one in document.get("manifests", ()) if one["digest"] not in manifests]
            parts = [document[key] for key in ("config",) if key in document] + document.get("layers", [])
            blobs |= {one["digest"]: None for one in parts if "nondistributable" not in one["mediaType"]}
            if "subject" in document:
                subjects[document["subject"]["digest"]] = None
    found = {"TAGS": tags, "MANIFESTS": manifests, "BLOBS": blobs, "REFERRERS": subjects}
    return {f"OCI_RO_DATA_{key}": " ".join(value) for key, value in found.items()}
