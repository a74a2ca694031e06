"""`pointing:`: where users of images are pointed at, and for which images."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from mirrord.config.check import TEXTS, Strict, as_list, check, validator
from mirrord.config.lines import Problems, Trail, Value, nearest
from mirrord.config.mirrors import Targets
from mirrord.errors import UsageError
from mirrord.names.allows import AllowEntry, parse_allow
from mirrord.names.book import NameBook
from mirrord.names.lists import ListLine
from mirrord.syncer.values import LOCAL, Target

FRONT: Final = "front"
"""In `to`: what clients pull through, with `local`."""
_KIND: Final = "image"
Policy = Literal["listed", "present", "always"]


@validator
def _pattern(text: str) -> str:
    parse_allow(ListLine(0, text.strip(), ""))
    return text.strip()


class PointingKeys(Strict):
    """`pointing`: where users are pointed at."""

    hints: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("target", "targets", "at"), "write to:"),
        **dict.fromkeys(("exclude", "ignore", "skip"), "write except:"),
    }

    to: Annotated[tuple[str, ...], BeforeValidator(as_list), TEXTS] = Field(
        default=(),
        description=(
            "Where users are pointed at: `front`, `local` and names of image targets, the preferred one first; an image"
            " that the first does not have is pointed at the next. Default: `front` where there is one, else the only"
            " place that image mirrors write to."
        ),
        examples=["[front, harbor]"],
    )
    policy: Policy = Field(
        default="present",
        description=(
            "Which images are pointed elsewhere: those that a mirror or a list of this configuration names"
            " (`listed`; no host is asked), those that the mirror has when it is asked (`present`), or all that have"
            " a name there (`always`)."
        ),
    )
    except_: Annotated[
        tuple[Annotated[str, AfterValidator(_pattern)], ...],
        BeforeValidator(as_list),
        TEXTS,
    ] = Field(
        default=(),
        alias="except",
        description=(
            "Images that are never pointed elsewhere: `host/path`, or `host/path/*` for one more segment and"
            " `host/path/**` for any number."
        ),
        examples=["[ghcr.io/corp/**]"],
    )


@dataclass(frozen=True, slots=True)
class Pointing:
    """Where users of images are pointed at.

    Attributes:
        to: `front`, `local` and names of targets in the order of preference; empty where the configuration says none.
        policy: which images are pointed elsewhere.
        excepted: images that are not, whatever the policy.
    """

    to: tuple[str, ...] = ()
    policy: Policy = "present"
    excepted: tuple[AllowEntry, ...] = ()


def read_pointing(
    value: Value, targets: Targets, fronts: Container[str], names: NameBook, problems: Problems
) -> Pointing:
    """Validate `pointing:`; what is wrong is noted, and nothing is then pointed anywhere.

    `fronts` are the kinds that have a front, be that right or wrong.
    """
    trail = ("pointing",)
    keys = check(PointingKeys, value or {}, trail, problems)
    if keys is None:
        return Pointing()
    known = {name for name, one in targets.items() if one is None or (one.kind == _KIND and not _is_folder(one))}
    _check_to(keys.to, value, {*known, LOCAL, *([FRONT] if _KIND in fronts else [])}, targets, problems)
    excepted = tuple(parse_allow(ListLine(0, text, ""), names.canonical) for text in keys.except_)
    return Pointing(keys.to, keys.policy, excepted)


def _check_to(to: tuple[str, ...], value: Value, known: Collection[str], targets: Targets, problems: Problems) -> None:
    in_list = isinstance(value, dict) and isinstance(value.get("to"), list)
    for number, name in enumerate(to):
        here: Trail = ("pointing", "to", number) if in_list else ("pointing", "to")
        target = targets.get(name)
        if name in to[:number]:
            problems.add(here, f"{name!r} is listed twice; keep one of them")
        elif name == FRONT and FRONT not in known:
            problems.add(here, "there is no front for images; write front: {image: …}, or name a target")
        elif target is not None and _is_folder(target):
            problems.add(here, f"{name!r} is a folder of this machine, from which no client pulls; name a registry")
        elif name not in known:
            problems.add(here, f"{name[:60]!r} is not an image target; {nearest(name, {*known})}")


def _is_folder(target: Target) -> bool:
    return target.to.startswith("oci:")


def unset(places: Collection[str]) -> UsageError:
    """Return the error that `to` has to be written, since there is not one place alone."""
    if not places:
        return UsageError("there is no place to point at; add a target of kind image, or front: {image: …}")
    listed = ", ".join(places)
    return UsageError(f"several places have images ({listed}); write pointing: {{to: [{listed}]}}, the preferred first")
