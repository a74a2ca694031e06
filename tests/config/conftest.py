"""A folder to write configuration into, and a small syncer to validate it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from mirrord.config.load import Configuration, load_folder
from mirrord.config.units import Duration
from mirrord.errors import ConfigError
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Mirror
from mirrord.wire import secret
from tests.support.double import syncer_of


class Layouts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    layouts: str


class Repository(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    repository: str
    tags: tuple[str, ...] = ("latest",)


class Spec(BaseModel):
    """As the image syncer's, and as small as can be."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    from_: Layouts | Repository = Field(alias="from")
    publish: str = "each"
    together_wait: Duration = 600.0
    name_there: str = Field(default="", alias="as")


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    api: str = ""


class FakeSyncer:
    """Reads the configuration of images, and does nothing."""

    kind = "image"
    spec: type[BaseModel] = Spec
    target_spec: type[BaseModel] = Options

    def __init__(self, kind: str = "image") -> None:
        self.kind = kind

    def places(self, mirror: Mirror) -> tuple[str, Mapping[str, str]]:
        spec = mirror.spec
        assert isinstance(spec, Spec)
        name = spec.name_there or mirror.name
        source = spec.from_.layouts if isinstance(spec.from_, Layouts) else spec.from_.repository
        if ":::" in source:
            raise ConfigError(f"{source!r} is no reference; write host/path")
        if source == "bad":
            raise ConfigError(f"{mirror.origin}: mirrors.{mirror.name}.from.repository: is bad; write good")
        return source, {target.name: f"{target.to}/{name}" for target in mirror.targets}

    async def survey(self, *_: Any, **__: Any) -> Any:
        raise AssertionError

    def plan(self, *_: Any, **__: Any) -> Any:
        raise AssertionError

    def open(self, *_: Any, **__: Any) -> Any:
        raise AssertionError


SYNCERS: Mapping[str, Syncer] = {"image": syncer_of(FakeSyncer()), "other": syncer_of(FakeSyncer("other"))}


@pytest.fixture
def syncers() -> Mapping[str, Syncer]:
    return SYNCERS


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test elsewhere may have made `token` a secret, and our messages hold that word."""
    monkeypatch.setattr(secret, "_known", secret._Known())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "conf.d"
    made.mkdir()
    return made


@pytest.fixture
def load(folder: Path) -> Callable[..., Configuration]:
    """Write files (name → text; `a_yaml` is `a.yaml`) and load their folder."""

    def do(text: str = "", environ: Mapping[str, str] | None = None, **files: str) -> Configuration:
        for name, content in {**({"main": text} if text else {}), **files}.items():
            (folder / f"{name}.yaml").write_text(content)
        return load_folder(folder, SYNCERS, environ or {})

    return do


@pytest.fixture
def refusal(load: Callable[..., Configuration], folder: Path) -> Callable[..., tuple[str, ...]]:
    """As `load`, for what must be refused: returns the problems, file names without their folder."""

    def do(*args: Any, **kwargs: Any) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as caught:
            load(*args, **kwargs)
        assert caught.value.exit_code == 78
        return tuple(problem.replace(f"{folder}/", "") for problem in caught.value.problems)

    return do
