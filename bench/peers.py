"""Find the programs that mirrord is measured beside, and build those that Go's module proxy has.

Debian's are skopeo, docker-registry, nginx and fcgiwrap; what is missing is named with its package. crane, regsync,
helm and docker-registry 3 are built once by `go install` into `${XDG_CACHE_HOME:-~/.cache}/mirrord-bench`, where there
is Go. A peer that is not there has no column, and the output says why.

    python -m bench.peers [--only NAME...]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

CACHES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
BUILT = CACHES / "mirrord-bench"
PLACES = (BUILT, CACHES / "mirrord-ci")  # the second one is that of the tests, which build helm too
DEBIAN = {name: name for name in ("skopeo", "docker-registry", "nginx", "fcgiwrap", "git")}  # program: package
GO = {
    "crane": "github.com/google/go-containerregistry/cmd/crane@v0.22.1",
    "regsync": "github.com/regclient/regclient/cmd/regsync@v0.11.7",
    "helm3": "helm.sh/helm/v3/cmd/helm@v3.22.0",
    "helm4": "helm.sh/helm/v4/cmd/helm@v4.3.1",
    "registry3": "github.com/distribution/distribution/v3/cmd/registry@v3.1.2",
}
ASK = {"crane": ["version"], "regsync": ["version"], "nginx": ["-v"], "fcgiwrap": ["-h"], "helm3": ["version"]}
ASK["helm4"] = ASK["helm3"]
PATIENCE = 600  # seconds for one build
_VERSION = re.compile(r"v?(\d+\.\d+[\w.+~-]*)")


def search_path() -> str:
    """Return PATH with the places of what was built, and those where Debian keeps servers."""
    return os.pathsep.join((os.environ.get("PATH", ""), *map(str, PLACES), "/usr/sbin"))


def find(name: str) -> tuple[str, str]:
    """Return the program, built where it can be; "" with the reason where there is none."""
    found = shutil.which(name, path=search_path())
    if found:
        return found, ""
    if name in DEBIAN:
        return "", f"no {name} here; install the Debian package {DEBIAN[name]}"
    if not shutil.which("go"):
        return "", f"no {name} here, and no Go to build {GO[name]}"
    return _built(name)


def _built(name: str) -> tuple[str, str]:
    BUILT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILT) as folder:
        print(f"building {GO[name]}", file=sys.stderr)
        try:
            done = subprocess.run(
                ["go", "install", GO[name]],
                env={**os.environ, "GOBIN": folder},
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "", f"no {name} here, and {GO[name]} was not built within {PATIENCE} s"
        made = list(Path(folder).iterdir())
        if done.returncode or len(made) != 1:
            return "", f"no {name} here, and {GO[name]} cannot be built: {done.stderr.strip()[-300:]}"
        return str(made[0].replace(BUILT / name)), ""


def version(name: str, program: str) -> str:
    """Return what the program says of its version; Debian's package where it says nothing."""
    done = subprocess.run([program, *ASK.get(name, ["--version"])], capture_output=True, text=True, check=False)
    found = _VERSION.search(done.stdout + done.stderr)
    if name == "fcgiwrap" or not found:
        query = ["dpkg-query", "--show", "--showformat=${Version}", DEBIAN.get(name, name)]
        asked = shutil.which("dpkg-query") and subprocess.run(query, capture_output=True, text=True, check=False).stdout
        return asked or "unknown"
    return found[1]


def present(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return what is there: version by name; and a line for each one that is not."""
    versions, missing = {}, []
    for name in names:
        program, reason = find(name)
        if program:
            versions[name] = version(name, program)
        else:
            missing.append(reason)
    return versions, missing


def main() -> None:
    """Find or build, and say what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*DEBIAN, *GO], default=[*DEBIAN, *GO], help="these alone")
    versions, missing = present(parser.parse_args().only)
    for name, number in versions.items():
        print(f"{name:16}{number:16}{find(name)[0]}")
    print(*missing, sep="\n", end="\n" if missing else "")


if __name__ == "__main__":
    main()
