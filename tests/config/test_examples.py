"""What we hand out must work: the examples of conf.d, and the reference manual."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel

from mirrord.config.check import known_keys
from mirrord.config.envelopes import Envelope, TargetEnvelope
from mirrord.config.hosts import Host
from mirrord.config.load import Configuration, load_folder
from mirrord.config.settings import Settings
from mirrord.syncer.port import load_syncers

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs/reference/configuration.md").read_text()


@pytest.fixture
def environ(tmp_path: Path) -> Mapping[str, str]:
    token = tmp_path / "ghcr-token"
    token.write_text("not-a-real-token\n")
    token.chmod(0o440)
    tokens = {"DOCKERHUB_TOKEN": "neither-real", "CODING_TOKEN": "nor-this-one", "GITEE_TOKEN": "nor-that"}
    return {**tokens, "CREDENTIALS_DIRECTORY": str(tmp_path)}


def assert_gocrane(configuration: Configuration) -> None:
    images = [mirror for mirror in configuration.mirrors if mirror.kind == "image"]
    assert [mirror.name for mirror in images] == ["craned", "metric-adapter", "crane-agent", "dashboard"]
    for mirror in images:
        assert [target.name for target in mirror.targets] == ["dockerhub", "coding", "ghcr", "local"]
        assert mirror.schedule
        assert mirror.schedule.every == 60
    assert {name: target.to for name, target in configuration.targets.items() if target.kind == "image"} == {
        "dockerhub": "docker.io/gocrane",
        "coding": "finops-docker.pkg.coding.net/gocrane/crane",
        "ghcr": "ghcr.io/gocrane/crane",
    }
    assert configuration.settings == Settings()
    policies = configuration.book.policies
    assert all(policies[host].credential for host in ("docker.io", "finops-docker.pkg.coding.net", "ghcr.io"))


def test_the_examples_load(environ: Mapping[str, str]) -> None:
    """Every file of conf.d loads without a problem and says what the GoCrane project publishes."""
    configuration = load_folder(ROOT / "conf.d", load_syncers(), environ)
    assert_gocrane(configuration)
    assert configuration.notices == ()
    images = [mirror for mirror in configuration.mirrors if mirror.kind == "image"]
    assert {str(mirror.spec.model_dump()["source"]["layouts"]) for mirror in images} == {
        f"/srv/mirrord/builds/{mirror.name}" for mirror in images
    }


def test_the_examples_mirror_charts_and_repositories(environ: Mapping[str, str]) -> None:
    """Three chart repositories go to Coding every six hours; five repositories daily, three of them to Gitee too."""
    configuration = load_folder(ROOT / "conf.d", load_syncers(), environ)
    charts = {mirror.name: mirror for mirror in configuration.mirrors if mirror.kind == "helm"}
    assert set(charts) == {"gocrane", "prometheus-community", "grafana"}
    for mirror in charts.values():
        assert [target.name for target in mirror.targets] == ["coding-charts", "local"]
        assert mirror.schedule
        assert mirror.schedule.every == 6 * 3600
    code = {mirror.name: mirror for mirror in configuration.mirrors if mirror.kind == "git"}
    assert set(code) == {"crane", "helm-charts", "crane-scheduler", "api", "fadvisor"}
    to = {name: [target.name for target in mirror.targets] for name, mirror in code.items()}
    assert {name for name, targets in to.items() if "gitee" in targets} == {"crane", "helm-charts", "crane-scheduler"}
    assert all({"coding-git", "local"} <= set(targets) for targets in to.values())
    assert all(mirror.schedule and mirror.schedule.cron for mirror in code.values())


def rows(heading: str) -> dict[str, list[list[str]]]:
    """Return the rows of a table of the manual by key, which several kinds may have: default and meaning of each."""
    section = MANUAL.partition(f"\n{heading}\n")[2]
    section = re.split(r"\n##+ ", section)[0]
    lines = re.findall(r"^\| `([^`]+)` \|(.*)\|$", section, re.MULTILINE)
    found = defaultdict[str, list[list[str]]](list)
    for key, rest in lines:
        found[key].append([cell.strip() for cell in rest.split(" | ")])
    return found


def documented(heading: str) -> set[str]:
    return set(rows(heading))


def defaults(heading: str, *models: type[BaseModel]) -> None:
    """Check that every row says a default and a meaning, and of the keys of these models the true default."""
    found = rows(heading)
    assert [key for key, those in found.items() for cells in those if len(cells) != 2 or not all(cells)] == []
    for model in models:
        for name, field in model.model_fields.items():
            key, said = field.alias or name, [default for default, _ in found[field.alias or name]]
            assert ("required" in said) is field.is_required(), key
            if isinstance(field.default, bool | str) or type(field.default) is int:
                assert f"`{str(field.default).lower()}`" in said, key


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("## `settings`", Settings),
        ("## `hosts`", Host),
        ("## `mirrors`", Envelope),
    ],
)
def test_the_manual_is_complete(heading: str, model: type[BaseModel]) -> None:
    """Every key is in the manual with its default and meaning, and every key of the manual exists."""
    assert documented(heading) == known_keys(model)
    defaults(heading, model)


def test_the_manual_is_complete_for_targets() -> None:
    """Every key of a target, whatever its kind, is in the manual, and every key of the manual exists."""
    own = (known_keys(syncer.target_spec) for syncer in load_syncers().values())
    assert documented("## `targets`") == known_keys(TargetEnvelope).union(*own)
    defaults("## `targets`", TargetEnvelope, *(syncer.target_spec for syncer in load_syncers().values()))


@pytest.mark.parametrize("kind", load_syncers())
def test_the_manual_is_complete_for_each_kind(kind: str) -> None:
    """Every key of a mirror of this kind is in the manual, and every key of the manual exists."""
    assert documented(f"### Kind `{kind}`") == known_keys(load_syncers()[kind].spec)
    defaults(f"### Kind `{kind}`", load_syncers()[kind].spec)
