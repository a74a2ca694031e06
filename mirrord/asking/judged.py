"""What somebody asks for, before anybody is asked about it; and what came of a plan or a run. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from mirrord.asking.asked import AskedImage, AskRefusal, AskState
from mirrord.config.asking import AskingRules
from mirrord.errors import DeniedError, MirrordError, MissingError, TakenDownError, UsageError, kind_of
from mirrord.model.memory import LastSeen
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.names.book import NameBook
from mirrord.names.denied import Denied
from mirrord.wire.oci.platform import parse_platform
from mirrord.wire.oci.reference import Reference
from mirrord.wire.secret import bug

_LONGEST = 600  # characters of what is asked for; a name of 255, a tag of 128 and a digest of 135 have 520
_PLATFORMS = 32  # in one question


@dataclass(frozen=True, slots=True)
class AskEnd:
    """How an image ended, of which a plan or a run was made; attributes as of `AskedImage`."""

    state: AskState
    reason: str = ""
    text: str = ""
    copied: bool = False

    @property
    def passes(self) -> bool:
        """Whether a host limits the rate, and the same works later."""
        return self.state is AskState.FAILED and kind_of(self.reason).result == Result.DEFERRED


def refused(image: str, reason: AskRefusal, text: str, after: float = 0.0) -> AskedImage:
    """Return the answer that nothing was begun."""
    return AskedImage("", image[:_LONGEST], (), AskState.REFUSED, reason.value, text, after=after)


def judge(
    image: str, platforms: Sequence[str], rules: AskingRules, names: NameBook, denied: Denied
) -> tuple[Reference, tuple[str, ...]] | AskedImage:
    """Return the image in canonical form and the platforms that are asked for, or why that is refused."""
    try:
        source = _source(image, names)
    except UsageError as error:
        return refused(image, AskRefusal.NOT_AN_IMAGE, str(error))
    name = str(source)
    if not rules.allows(source.name):
        return refused(name, AskRefusal.NOT_ALLOWED, "is not among the images that may be asked for")
    if entry := denied.image(source.name, source.digest or source.tag or ""):
        return refused(name, AskRefusal.TAKEN_DOWN, f"was taken down: {entry.reason}")
    try:
        wanted = _platforms(platforms, rules)
    except UsageError as error:
        return refused(name, AskRefusal.PLATFORM, f"is not copied: {error}")
    if source.digest:  # with some of its platforms it would be another image
        return source, ()
    return source, wanted or rules.platforms


def _source(image: str, names: NameBook) -> Reference:
    if len(image) > _LONGEST:
        raise UsageError(f"{image[:40]!r}… has {len(image)} characters; write such as docker.io/library/nginx:1.25")
    source = names.canonical(Reference.parse(image.strip()))
    return source if source.tag or source.digest else replace(source, tag="latest")


def _platforms(written: Sequence[str], rules: AskingRules) -> tuple[str, ...]:
    if len(written) > _PLATFORMS:
        raise UsageError(f"there are {len(written)} platforms; write at most {_PLATFORMS}")
    wanted = tuple(dict.fromkeys(str(parse_platform(text)) for text in written))
    if rules.platforms and (strange := [one for one in wanted if one not in rules.platforms]):
        raise UsageError(f"{strange[0]} is not copied here; choose among {', '.join(rules.platforms)}")
    return wanted


def with_earlier(wanted: tuple[str, ...], usual: tuple[str, ...], seen: Iterable[LastSeen]) -> tuple[str, ...]:
    """Return the platforms to copy so that nobody loses one that was copied before.

    Args:
        wanted: what is asked for; all if there are none.
        usual: those of the configuration; all if there are none.
        seen: the image at each target.
    """
    if not wanted:
        return ()
    found = dict.fromkeys(wanted)
    for one in seen:
        if not one.origin:  # whole, as at its source
            return usual
        found |= dict.fromkeys(map(_spelled, one.platforms))
    return tuple(found)


def _spelled(platform: str) -> str:
    try:
        return str(parse_platform(platform))
    except UsageError:
        return platform


def planned(plan: Plan) -> AskEnd | None:
    """Return how an image ended with the plan about it alone; None if something has to be copied."""
    if plan.error:
        return _unread(plan.code, plan.error)
    if plan.missing:
        return _unread(plan.missing_code, plan.first_missing)
    if end := _refusing(plan.steps):
        return end
    if not plan.steps:
        return _failed(MirrordError.code, next(iter((*plan.problems, *plan.remarks)), "nothing of it can be copied"))
    return None if plan.active else AskEnd(AskState.DONE)


def ran(run: Run, image: str) -> AskEnd:
    """Return how an image ended with a run about it and others."""
    steps = [step for step in run.plan.steps if step.item == image] if run.plan else []
    receipts = [one for one in run.receipts if one.step.item == image]
    if end := receipted(steps, receipts):
        return end
    if run.error:
        return _failed(run.code, run.error)
    told = [*run.plan.missing, *run.plan.problems, *run.plan.remarks] if run.plan else []
    code = run.plan.missing_code if run.plan and run.plan.missing else MirrordError.code
    return _failed(code, _about(told, image) or "nothing was copied")


def _about(told: Sequence[str], image: str) -> str:
    """Return the sentence about an image, else one about its repository; "" for none."""
    found = (re.compile(rf"{re.escape(name)}(?!\.?[\w/-])") for name in (image, Reference.parse(image).name))
    return next((text for about in found for text in told if about.search(text)), "")


def receipted(steps: Sequence[Step], receipts: Collection[Receipt]) -> AskEnd | None:
    """Return how an image ended by its steps and their receipts; None while some are open, or there are none."""
    if end := _refusing(steps):
        return end
    for one in receipts:
        if not one.good:
            return _failed(one.code or MirrordError.code, one.detail or one.problem or one.outcome.value)
    if not steps or len(receipts) < sum(step.active for step in steps):
        return None
    return AskEnd(AskState.DONE, copied=any(one.outcome is Outcome.DONE for one in receipts))


def _refusing(steps: Iterable[Step]) -> AskEnd | None:
    step = next((step for step in steps if step.action is Action.REFUSE), None)
    return _failed(step.code, step.reason) if step else None


def failed(error: Exception) -> AskEnd:
    """Return the end with an error; a bug is one, too."""
    if isinstance(error, MirrordError):
        return _failed(error.code, str(error))
    return _failed(MirrordError.code, bug(error))


def _failed(code: str, text: str) -> AskEnd:
    return AskEnd(AskState.FAILED, code or MirrordError.code, text)


def _unread(code: str, text: str) -> AskEnd:
    """Return the end with an error of the source: as a refusal, where somebody asked for what cannot be."""
    if code in (MissingError.code, DeniedError.code):
        return AskEnd(AskState.REFUSED, AskRefusal.MISSING.value, text)
    if code == TakenDownError.code:
        return AskEnd(AskState.REFUSED, AskRefusal.TAKEN_DOWN.value, text)
    return _failed(code, text)
