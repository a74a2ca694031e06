"""Models of syncers that we do not know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from mirrord.config.check import check
from mirrord.config.lines import Problems


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    depth: Annotated[float, Field(gt=0)] = 1.0


class Semver(BaseModel):
    model_config = ConfigDict(extra="forbid")
    semver: str


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")
    table: dict[str, Inner] = {}
    select: tuple[Literal["a", "b"] | Semver, ...] = ()
    login: dict[str, int] = {}
    hook: Callable[[], None] | None = None


def told(value: object) -> list[str]:
    problems = Problems()
    assert check(Model, value, ("mirrors", 0), problems) is None  # type: ignore[arg-type]  # any value may be written
    return [what for _, what in problems._found]


def test_models_without_a_schema_get_messages_without_suggestions() -> None:
    """A model that no JSON schema can describe still has its faults told."""
    assert told({"tabel": {}}) == ["mirrors[0].tabel: unknown key; no key is allowed here"]
    assert told({"table": {"x": {"depth": "0"}}}) == [
        "mirrors[0].table.x.depth: '0' is not allowed; write a value greater than 0"
    ]
    assert told({"table": {"x": {"depth": "deep"}}}) == [
        "mirrors[0].table.x.depth: 'deep' is not a number; write a number, such as 0.5"
    ]


def test_one_form_of_a_union_is_told() -> None:
    """Of a union only the form that was most likely meant is told, not all of them."""
    assert told({"select": ["a", {"semver": ["x"]}]}) == ["mirrors[0].select[1].semver: a list is not text; write text"]
    assert told({"select": ["c"]}) == ["mirrors[0].select[0]: 'c' is not allowed; use one of: a, b"]


@pytest.mark.parametrize("key", ["token", "api_key", "password"])
def test_secrets_are_not_repeated(key: str) -> None:
    """A value under a key that sounds like a secret is never quoted."""
    assert told({"login": {key: "canary"}}) == [
        f"mirrors[0].login.{key}: this value is not a whole number; write a whole number, such as 6"
    ]
