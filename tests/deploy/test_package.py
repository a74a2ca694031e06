"""What is handed to packagers and installed by pip: the source archive and the wheel, as setuptools builds them."""

import email
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both from a copy of what is in the repository; return the folder."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone: what belongs to it cannot be told")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("built")
    for name in tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    for kind in ("sdist", "wheel"):
        code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, str(out)], cwd=copy, check=True, capture_output=True
        )
    return out


def tracked() -> set[str]:
    """Return the files of the repository, as git lists them, that exist."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    return {name for name in listed.stdout.decode().splitlines() if (ROOT / name).is_file()}


def test_the_source_archive_is_complete(built: Path) -> None:
    """The source archive holds every file of the repository, so that a distribution can build, document and test it."""
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        inside = {name.partition("/")[2] for name in tar.getnames()}
    assert not sorted(tracked() - inside)


def test_the_wheel_has_what_an_installation_needs(built: Path) -> None:
    """The wheel holds the unit and the example configuration beside the program, and says what it is for whom."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
        data = {name.partition(".data/data/")[2]: archive.read(name) for name in archive.namelist() if ".data/" in name}
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        about = email.message_from_bytes(archive.read(name))
    shipped = {f"share/mirrord/{file.relative_to(ROOT)}": file for file in (ROOT / "conf.d").iterdir()}
    schema = "docs/reference/configuration.schema.json"
    shipped[f"share/mirrord/{schema}"] = ROOT / schema
    shipped["share/man/man1/mirrord.1"] = ROOT / "man/mirrord.1"
    shipped["share/mirrord/systemd/mirrord.service"] = ROOT / "systemd/mirrord.service"
    assert {name: file.read_bytes() for name, file in shipped.items()}.items() <= data.items()
    pages = {str(file.relative_to(ROOT)) for file in (ROOT / "mirrord/serve/pages").rglob("*") if file.suffix != ".pyc"}
    assert {name for name in pages if (ROOT / name).is_file()} <= inside
    assert about["Requires-Python"] == ">=3.11"
    assert about["License-Expression"] == "Apache-2.0"
    assert "mirror" in about["Keywords"]
    assert "Operating System :: POSIX :: Linux" in about.get_all("Classifier", [])


def test_an_installation_has_the_command(built: Path, tmp_path: Path) -> None:
    """`pip install` of the wheel gives the command and the files under the prefix."""
    (wheel,) = built.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed"]
    subprocess.run([*pip, "--prefix", str(tmp_path), str(wheel)], check=True, capture_output=True)
    assert (tmp_path / "bin/mirrord").is_file()
    assert (tmp_path / "share/mirrord/systemd/mirrord.service").is_file()
