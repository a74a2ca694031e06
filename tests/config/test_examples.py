"""What we hand out must work: the examples of conf.d, and the reference manual."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel

from mirrord.config.hosts import Host
from mirrord.config.load import Configuration, load_folder
from mirrord.config.mirrors import Envelope, TargetEnvelope
from mirrord.config.settings import Settings
from mirrord.config.shape import known_keys
from mirrord.syncer import Syncer, load_syncers
from mirrord.syncers.image.spec import ImageSpec

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs/reference/configuration.md").read_text()


@pytest.fixture
def environ(tmp_path: Path) -> Mapping[str, str]:
    token = tmp_path / "ghcr-token"
    token.write_text("not-a-real-token\n")
    token.chmod(0o440)
    tokens = {"DOCKERHUB_TOKEN": "neither-real", "CODING_TOKEN": "nor-this-one"}
    return {**tokens, "CREDENTIALS_DIRECTORY": str(tmp_path)}


def assert_gocrane(configuration: Configuration) -> None:
    assert [mirror.name for mirror in configuration.mirrors] == ["craned", "metric-adapter", "crane-agent", "dashboard"]
    for mirror in configuration.mirrors:
        assert [target.name for target in mirror.targets] == ["dockerhub", "coding", "ghcr", "local"]
        assert mirror.schedule
        assert mirror.schedule.every == 60
    assert {name: target.to for name, target in configuration.targets.items()} == {
        "dockerhub": "docker.io/gocrane",
        "coding": "finops-docker.pkg.coding.net/gocrane/crane",
        "ghcr": "ghcr.io/gocrane/crane",
    }
    assert configuration.settings == Settings()
    policies = configuration.book.policies
    assert all(policies[host].credential for host in ("docker.io", "finops-docker.pkg.coding.net", "ghcr.io"))


def test_the_examples_load(environ: Mapping[str, str], syncers: Mapping[str, Syncer]) -> None:
    """Every file of conf.d loads without a problem and says what the GoCrane project publishes."""
    configuration = load_folder(ROOT / "conf.d", syncers, environ)
    assert_gocrane(configuration)
    assert configuration.notices == ()
    sources = [mirror.spec.model_dump()["from_"] for mirror in configuration.mirrors]
    assert {source["layouts"] for source in sources} == {
        f"/var/lib/mirrord/builds/{mirror.name}" for mirror in configuration.mirrors
    }


def test_the_examples_load_with_the_real_syncer(environ: Mapping[str, str]) -> None:
    """The installed image syncer takes its part of the examples as well."""
    assert_gocrane(load_folder(ROOT / "conf.d", load_syncers(), environ))


def documented(heading: str) -> set[str]:
    section = MANUAL.partition(f"\n{heading}\n")[2]
    section = re.split(r"\n##+ ", section)[0]
    return set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("## `settings`", Settings),
        ("## `hosts`", Host),
        ("## `targets`", TargetEnvelope),
        ("## `mirrors`", Envelope),
    ],
)
def test_the_manual_is_complete(heading: str, model: type[BaseModel]) -> None:
    """Every key is in the manual, and every key of the manual exists."""
    assert documented(heading) == known_keys(model)


def test_the_manual_is_complete_for_images() -> None:
    """Every key of an image mirror is in the manual, and every key of the manual exists."""
    assert documented("### Kind `image`") == known_keys(ImageSpec)
