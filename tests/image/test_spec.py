"""What an image mirror's own keys may say together."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest
from pydantic import ValidationError

from mirrord.errors import UsageError
from mirrord.plan.repositories import RepositoryChoice
from mirrord.syncer.values import Mirror, Publication
from mirrord.syncers.image.names import Images, Pruning, Source
from mirrord.syncers.image.names.signatures import Signatures
from mirrord.syncers.image.names.typed import parse_source, publishing
from mirrord.syncers.image.spec import ImageSpec

REPOSITORY = {"repository": "r.example/a:v1"}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        pytest.param({"from": {"layout": "/x"}, "immutable": ["v*"]}, "immutable needs", id="immutable-layout"),
        pytest.param({"from": {"archive": "/x"}, "immutable": ["v*"]}, "immutable needs", id="immutable-archive"),
        pytest.param({"from": {"layouts": "/x"}, "immutable": ["v*"]}, "immutable needs", id="immutable-layouts"),
        pytest.param({"from": REPOSITORY, "together_wait": "5m"}, "together_wait needs", id="wait-by-default"),
        pytest.param(
            {"from": REPOSITORY, "together_wait": "5m", "publish": "each"}, "together_wait needs", id="wait-each"
        ),
    ],
)
def test_keys_without_effect_are_refused(keys: dict[str, Any], said: str) -> None:
    """A key that would change nothing is an error, and says with what it goes (67)."""
    with pytest.raises(ValidationError, match=said):
        ImageSpec.model_validate(keys)


def test_waiting_has_an_end() -> None:
    """Nobody waits for targets longer than a month."""
    with pytest.raises(ValidationError, match="is outside 0s to 30d"):
        ImageSpec.model_validate({"from": REPOSITORY, "publish": "together", "together_wait": "999999999999d"})


def test_keys_that_go_together() -> None:
    """The same keys are taken where they count."""
    spec = ImageSpec.model_validate(
        {"from": REPOSITORY, "immutable": ["v*"], "publish": "together", "together_wait": "5m"}
    )
    assert (spec.immutable, spec.together_wait) == (("v*",), 300.0)
    assert ImageSpec.model_validate({"from": {"layout": "/x"}}).immutable == ()


@pytest.mark.parametrize("key", ["tags", "immutable"])
@pytest.mark.parametrize("wrong", ["a b", "../x", "v[1", "v1]", "x@y", "", "a/b", "v[]"])
def test_patterns_that_no_tag_can_match_are_refused(key: str, wrong: str) -> None:
    """What would select nothing, for ever and without a word, is an error that names it (67)."""
    source = {"repository": "r.example/a"}
    keys = {"from": source | {"tags": [wrong]}} if key == "tags" else {"from": source, "immutable": [wrong]}
    with pytest.raises(ValidationError, match="matches no tag"):
        ImageSpec.model_validate(keys)


def test_tags_that_name_none_are_refused() -> None:
    """An empty list is not taken for "the one in the reference"."""
    with pytest.raises(ValidationError, match="tags is empty"):
        ImageSpec.model_validate({"from": {"repository": "r.example/a", "tags": []}})


@pytest.mark.parametrize("right", ["v1", "v1.*", "*", "v?", "v[0-9].[!a]*", "_x", "1.2-rc.1"])
def test_patterns_are_taken(right: str) -> None:
    """Tags and globs are."""
    assert ImageSpec.model_validate({"from": {"repository": "r.example/a", "tags": [right]}}).source.tags == (right,)


def test_what_a_configuration_says_is_what_an_image_mirror_is_asked_for() -> None:
    """The models have the attributes of the values that a copy or a publish makes without a configuration."""
    spec = ImageSpec.model_validate({"from": {"repository": "r.example/a"}})
    for value, model in ((Images, spec), (Source, spec.source), (Signatures, spec.signatures), (Pruning, spec.prune)):
        read = {"tags", "choice", "repositories"} if value is Source else set()  # properties of two keys
        assert {one.name for one in fields(value)} - read == set(type(model).model_fields) - {"selection", "wanted"}
    made = Images(parse_source("r.example/a"))
    nested = {"source", "signatures", "prune"}
    assert all(getattr(spec, one.name) == getattr(made, one.name) for one in fields(made) if one.name not in nested)
    for own, theirs in ((made.source, spec.source), (made.signatures, spec.signatures)):
        assert all(getattr(theirs, one.name) == getattr(own, one.name) for one in fields(own))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"registry": "quay.io"}, "registry and repositories go together"),
        ({"repositories": ["a/b"]}, "needs registry; write {registry: quay.io, repositories: [team/*]}"),
        ({"registry": "quay.io", "repositories": []}, "at least 1 item"),
        ({"registry": "quay.io/team", "repositories": ["a"]}, "has a path; write the host alone: quay.io"),
        ({"registry": "team", "repositories": ["a"]}, "does not begin with a registry"),
        ({"registry": "quay.io", "repositories": ["Team/*"]}, "matches no repository"),
        ({"registry": "quay.io", "repositories": ["a:v1"]}, "matches no repository"),
        ({"registry": "quay.io", "repositories": {}}, "is empty; write at least one key, such as match"),
        ({"registry": "quay.io", "repositories": {"match": []}}, "at least 1 item"),
        ({"registry": "quay.io", "repositories": {"exclude": []}}, "at least 1 item"),
        ({"registry": "quay.io", "repositories": {"match": ["a/*"], "exclude": ["A"]}}, "'A' matches no repository"),
        ({"registry": "quay.io", "repositories": {"match": ["a/*"], "exclude": ["/a(/"]}}, "missing )"),
        ({"registry": "quay.io", "repositories": ["/a[/"]}, "not a regular expression: 'a['; missing ]"),
        (
            {"registry": "docker.io", "repositories": {"exclude": ["*/x"]}},
            "*: Docker Hub lists one namespace at a time",
        ),
        (
            {"registry": "docker.io", "repositories": ["/library/(nginx|redis)|team.*/"]},
            "|team.*/: Docker Hub lists one namespace at a time; write it in front of each alternative, such as /team/",
        ),
        ({"repository": "nginx", "repositories": {"match": ["a/*"]}}, "needs registry; write"),
        (
            {"registry": "quay.io", "repositories": {"match": ["a/b", "a/c"], "exclude": ["a/*"]}},
            "exclude leaves out every path that match names",
        ),
        (
            {"registry": "docker.io", "repositories": ["a/b", "*"]},
            "*: Docker Hub lists one namespace at a time; write it",
        ),
        (
            {"registry": "registry.gitlab.com", "repositories": ["te*m/x"]},
            "te*m/x: GitLab lists one namespace at a time",
        ),
        ({"list": "a.txt", "registry": "quay.io", "repositories": ["a"]}, "found registry and list"),
        ({"list": "a.txt", "form": "allows"}, "'tags', 'patterns', 'daily' or 'weekly'"),
        ({"repository": "nginx", "form": "tags"}, "form needs list, and does not fit repository"),
        ({"list": "a.txt", "names": ["v1"]}, "names needs a single image, and does not fit list"),
    ],
)
def test_sources_of_many_repositories_that_are_none(source: dict[str, Any], said: str) -> None:
    """What names no registry, no repository and no list is an error that says what to write."""
    with pytest.raises(ValidationError, match=re.escape(said)):
        ImageSpec.model_validate({"from": source})


def test_many_repositories_have_no_name_of_their_own() -> None:
    """`as:` is the name of one image; `immutable` is for the tags of all."""
    with pytest.raises(ValidationError, match="as is the name of one image"):
        ImageSpec.model_validate({"from": {"list": "a.txt"}, "as": "team/app"})
    assert ImageSpec.model_validate({"from": {"list": "a.txt"}, "immutable": ["v*"]}).immutable == ("v*",)
    source = ImageSpec.model_validate({"from": {"registry": "Quay.IO", "repositories": ["a/*"]}}).source
    assert (source.registry, source.repositories) == ("quay.io", RepositoryChoice(("a/*",)))


@pytest.mark.parametrize(
    ("written", "choice"),
    [
        (["a/*", "b"], RepositoryChoice(("a/*", "b"))),
        (["/team/(api|web)/"], RepositoryChoice(("/team/(api|web)/",))),
        (
            {"match": ["a/*"], "exclude": ["*/scratch", "/a/[0-9]+/"]},
            RepositoryChoice(("a/*",), ("*/scratch", "/a/[0-9]+/")),
        ),
        ({"exclude": ["*/scratch"]}, RepositoryChoice(("*",), ("*/scratch",))),
    ],
)
def test_repositories_are_a_list_or_rules(written: object, choice: RepositoryChoice) -> None:
    """Both forms take paths, globs and regular expressions; without `match` the rules are about all repositories."""
    source = ImageSpec.model_validate({"from": {"registry": "r.example", "repositories": written}}).source
    assert source.repositories == choice


def test_a_build_goes_to_a_mirror_of_one_image() -> None:
    """`publish` to a mirror of many repositories says why it cannot."""
    mirror = Mirror("many", "image", ImageSpec.model_validate({"from": {"list": "a.txt"}}), ())
    with pytest.raises(UsageError, match="many mirrors many repositories; publish to a mirror of one"):
        publishing(mirror, Publication("oci:/build", ("v1",)))
