"""`names:`: aliases of registries, hosts of our own, and what images are called at targets and in `local`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from mirrord.config.check import Strict, check, validator
from mirrord.config.lines import Problems, Value
from mirrord.errors import UsageError
from mirrord.names.book import ANY, NameBook, our_host
from mirrord.names.naming import BUILT_IN, Naming, parse_naming, registry_prefix


@validator
def _naming(value: object) -> Naming:
    if isinstance(value, Naming):
        return value
    if isinstance(value, dict):
        wrong = next((key for key, to in value.items() if not isinstance(to, str)), None)
        if wrong is not None:
            raise UsageError(f'{wrong[:80]!r} has no text; write what replaces it, or "" to leave it out')
    elif not isinstance(value, str):
        known = ", ".join(BUILT_IN)
        raise UsageError(f"is neither a text nor a mapping; write {known}, a template, or a table of prefixes")
    return parse_naming(value)


_registry = validator(registry_prefix)
Registry = Annotated[str, AfterValidator(_registry)]
OurHost = Annotated[str, AfterValidator(validator(our_host))]
AnyRegistry = Annotated[str, AfterValidator(lambda text: text if text == ANY else _registry(text))]
NamingKey = Annotated[
    Naming,
    PlainValidator(_naming),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
            ]
        }
    ),
]
"""What images are called, as text or as a table of prefixes."""


class NameKeys(Strict):
    """`names`: what names mean."""

    hints: ClassVar[Mapping[str, str]] = {
        "alias": "write aliases:",
        "host": "write hosts:",
        "template": "write naming:",
    }

    aliases: dict[Registry, Registry] = Field(
        default={},
        description=(
            "`host` or `host/path`, and the one that it stands for, such as `k8s.gcr.io: registry.k8s.io`. The longest"
            " applies. A source is called at targets as what it stands for; it is read from where `from` says."
        ),
        examples=["{k8s.gcr.io: registry.k8s.io}"],
    )
    hosts: dict[OurHost, AnyRegistry] = Field(
        default={},
        description=(
            "A host of yours and the registry that images below it are from, such as"
            " `docker.m.example.org: docker.io`; `'*'` where the path begins with the registry. `mirrord name` reads"
            " references with it, and `front` requests for that host. The name must lead to mirrord by DNS, and the"
            " certificate must have it; this key does neither."
        ),
        examples=["{docker.m.example.org: docker.io}"],
    )
    naming: NamingKey | None = Field(
        default=None,
        description=(
            "What an image is called below `to` of targets without `naming` of their own, and in `local`: `path`,"
            " `nwcd`, `flat`, a template, or a table of prefixes; see below."
            " Mirrors of many repositories are named by `path` without it. Default: `as:`, or the mirror's name."
        ),
        examples=["path"],
    )


def read_names(value: Value, problems: Problems) -> NameBook:
    """Validate `names:`; what is wrong is noted, and the book is then empty."""
    trail = ("names",)
    keys = check(NameKeys, value or {}, trail, problems) or NameKeys()
    try:
        return NameBook(keys.aliases, keys.hosts, keys.naming)
    except UsageError as error:  # each name is right: aliases lead back to themselves
        problems.add((*trail, "aliases"), str(error))
    return NameBook()
