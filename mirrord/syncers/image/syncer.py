"""Assembles the image syncer from its modules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mirrord.model.memory import Memory
from mirrord.model.plan import Plan
from mirrord.names.book import NameBook
from mirrord.syncer.port import Models, Syncer, Verifies
from mirrord.syncer.through import CheckedFront, PullThrough
from mirrord.syncer.values import (
    LOCAL,
    FrontRules,
    Mirror,
    MirrorParts,
    PruneWish,
    Services,
    Target,
)
from mirrord.syncers.image.kept import LocalRepository, open_target
from mirrord.syncers.image.names import address, asked, hosts, image_name, is_many, places, spec_of
from mirrord.syncers.image.names.typed import publishing
from mirrord.syncers.image.plan.steps import ImageSurvey, plan
from mirrord.syncers.image.transfer.session import ImageSession
from mirrord.syncers.image.upstream.survey import names_held, survey

if TYPE_CHECKING:
    from mirrord.model.verification import VerifyFinding
    from mirrord.syncer.inspection import Inspection
    from mirrord.syncer.restoring import Resetting
    from mirrord.syncer.serving import OpenedThrough, Request, Response
    from mirrord.syncer.takedown import TakesDown
    from mirrord.syncers.image.plan.many import ManySurvey
    from mirrord.syncers.image.spec.front import FrontKeys
    from mirrord.syncers.image.transfer.many import Begin, ManySession
    from mirrord.wire.host import HostBook


Doubted = Mapping[str, frozenset[str]]


def _late(room: str, name: str) -> Callable[..., Any]:
    """Return a function of a room that is imported when it is called: a copy starts without it."""

    def late(*given: Any) -> Any:
        return getattr(import_module(f"mirrord.syncers.image.{room}"), name)(*given)

    return late


_called = _late("plan.called", "called")


async def _survey(mirror: Mirror, services: Services, memory: Memory, now: datetime) -> ImageSurvey | ManySurvey:
    """Survey one repository, or many."""
    if not is_many(mirror):
        return await survey(mirror, services, memory, now)
    from mirrord.syncers.image.upstream.many import survey_many  # noqa: PLC0415 - a copy starts without it

    return await survey_many(mirror, services, memory, now)


def _plan(mirror: Mirror, found: Any, now: datetime) -> Plan:
    """Plan one repository, or many."""
    if not is_many(mirror):
        return plan(mirror, found, now)
    from mirrord.syncers.image.plan.many import plan_many  # noqa: PLC0415 - as above

    return plan_many(mirror, found, now)


def _begin(mirror: Mirror, decisions: Any, services: Services, doubted: Doubted | None = None) -> ImageSession:
    """Begin the session of one repository; `doubted` has by target what a verification found missing or damaged."""
    spec = spec_of(mirror)
    destinations = {target.name: open_target(mirror, target, services) for target in mirror.targets}
    for name, digests in (doubted or {}).items():
        if isinstance(here := destinations.get(name), LocalRepository):
            here.doubt(digests)
    patience = spec.together_wait if spec.publish == "together" else 0.0
    sources, kept, unreachable, unseen = decisions
    label = f"{mirror.name}/" if mirror.name else ""  # a copy has no name
    carried = spec.signatures.carried
    note = partial(_note_children, mirror, services) if carried and services.facts else None
    known = {"kept": kept, "unreachable": unreachable, "unseen": unseen, "signatures": carried, "note": note}
    return ImageSession(sources, destinations, services, patience, label, doubted=doubted, **known)


async def _note_children(mirror: Mirror, services: Services, read: Mapping[str, Sequence[str]]) -> None:
    """Note for the next run which manifests are in the images that were read."""
    from mirrord.syncers.image.upstream.later import note_children  # noqa: PLC0415 - a copy starts without it

    await note_children(mirror, services.facts, read)


@asynccontextmanager
async def _open(
    mirror: Mirror, plan: Plan, services: Services, doubted: Doubted | None = None
) -> AsyncIterator[ImageSession | ManySession]:
    """Begin a run."""
    begin = partial(_begin, doubted=doubted)
    many = is_many(mirror)
    session = _begin_many(mirror, plan, services, begin) if many else begin(mirror, plan.decisions, services)
    try:
        yield session
        await session.finish()
    finally:
        await session.aclose()


def _resets() -> Resetting:
    """Return how tags are set back; see `Syncer.resets`."""
    from mirrord.syncers.image.upstream.restored import resetting  # noqa: PLC0415 - a copy starts without it

    return resetting(SYNCER)


def _begin_many(mirror: Mirror, plan: Plan, services: Services, begin: Begin) -> ManySession:
    """Begin the session of many repositories."""
    from mirrord.syncers.image.transfer.many import ManySession  # noqa: PLC0415 - as above

    return ManySession(mirror, plan.decisions, services, begin)


async def _look(mirror: Mirror, services: Services, inspection: Inspection) -> None:
    """Compare the targets with the record; see `Verifies.look`."""
    from mirrord.syncers.image.upstream.compared import look  # noqa: PLC0415 - a copy starts without it

    await look(mirror, services, inspection)


def _repairing(syncer: Syncer, findings: Sequence[VerifyFinding]) -> Syncer:
    """Return the syncer for a run that repairs; see `Verifies.repairing`."""
    from mirrord.syncers.image.upstream.repaired import repairing  # noqa: PLC0415 - as above

    return repairing(syncer, findings, _open)


def _elsewhere(syncer: Syncer, findings: Sequence[VerifyFinding], digests: Mapping[tuple[str, str], str]) -> Syncer:
    """Return the syncer for a run that repairs without the source; see `Verifies.elsewhere`."""
    from mirrord.syncers.image.upstream.repaired import elsewhere  # noqa: PLC0415 - as above

    return elsewhere(syncer, findings, digests, _open)


async def _held(mirror: Mirror, target: Target, services: Services, names: Collection[str]) -> Mapping[str, str | None]:
    """Return the digests of names of the ledger at a target; see `Syncer.held`."""
    if not is_many(mirror):
        return await names_held(mirror, target, services, names)
    from mirrord.syncers.image.upstream.many import names_of_many  # noqa: PLC0415 - as above

    return await names_of_many(mirror, target, services, names)


def _parts(mirror: Mirror) -> Callable[[], MirrorParts] | None:
    """Return what lists the mirrors of one repository that a mirror of many consists of; see `Syncer.parts`."""
    if not is_many(mirror):
        return None
    from mirrord.syncers.image.upstream.many import parts_of  # noqa: PLC0415 - as above

    return partial(parts_of, mirror)


def _check_files(mirror: Mirror) -> Sequence[str]:
    """Read the files of keys; see `Syncer.check_files`."""
    if not spec_of(mirror).signatures.require:
        return ()
    from mirrord.syncers.image.upstream.signers import check_signers  # noqa: PLC0415 - as above

    return check_signers(mirror)


def _kept(mirror: Mirror, items: Iterable[str]) -> Mapping[str, Callable[[str], str]]:
    """Return the repositories in `local`; see `Syncer.kept`."""
    if not is_many(mirror):
        return {image_name(mirror): str}
    from mirrord.syncers.image.plan.many import key_of, with_key  # noqa: PLC0415 - as above

    name_of = _called(mirror)
    called = {key_of(item): name_of(item)[1].get(LOCAL, "") for item in items}
    named = ((name.removeprefix(f"{LOCAL}/").partition("@")[0].partition(":")[0], key) for key, name in called.items())
    return {name: partial(with_key, key) for name, key in named if name}


def _models() -> Models:
    """Import the configuration models on demand: a copy starts without pydantic."""
    from mirrord.syncers.image.spec import ImageSpec, ImageTarget  # noqa: PLC0415 - as above

    return ImageSpec, ImageTarget


def _front_model() -> type[FrontKeys]:
    """Import the model on demand, as above."""
    from mirrord.syncers.image.spec.front import FrontKeys  # noqa: PLC0415 - a copy starts without pydantic

    return FrontKeys


def _check_front(rules: FrontRules, names: NameBook) -> CheckedFront:
    """Read the lists of the front; see `PullThrough.check`."""
    from mirrord.syncers.image.upstream.allow_file import check_lists  # noqa: PLC0415 - as above

    return check_lists(rules, names)


class _Front:
    """Serves `local` as `front` does; a copy starts without that."""

    prefixes = ("/v2/",)

    async def respond(self, request: Request, services: Services) -> Response:
        """See `Serves.respond`."""
        from mirrord.syncers.image import front  # noqa: PLC0415 - as above

        return await front.respond(request, services)


def _open_front(services: Callable[[], Services]) -> AbstractAsyncContextManager[OpenedThrough]:
    """Open the front; see `PullThrough.open`."""
    from mirrord.syncers.image.through import open_through  # noqa: PLC0415 - only the daemon serves

    return open_through(services)


def _check_create(mirror: Mirror, book: HostBook) -> Sequence[str]:
    """Check what is to be created at targets; see `Syncer.ignored_keys`."""
    from mirrord.syncers.image.kept.creation import check_create  # noqa: PLC0415 - a copy starts without it

    return check_create(mirror, book)


def _pruning(wish: PruneWish) -> Syncer:
    """Return what removes names at targets instead of copying; see `Syncer.pruning`."""
    from mirrord.plan.prune import plan_prune  # noqa: PLC0415 - as above
    from mirrord.syncers.image.transfer.prune import open_prune  # noqa: PLC0415 - as above
    from mirrord.syncers.image.upstream.prune import survey_prune  # noqa: PLC0415 - as above

    return replace(SYNCER, survey=partial(survey_prune, wish), plan=plan_prune, open=open_prune)


def _takes_down() -> TakesDown:
    """Return how images are taken down; see `Syncer.takes_down`."""
    from mirrord.syncer.takedown import TakedownWish, TakesDown  # noqa: PLC0415 - a copy starts without it
    from mirrord.syncers.image.plan.takedown import plan_takedown  # noqa: PLC0415 - as above
    from mirrord.syncers.image.transfer.takedown import opened  # noqa: PLC0415 - as above
    from mirrord.syncers.image.upstream import takedown  # noqa: PLC0415 - as above

    def removing(wish: TakedownWish) -> Syncer:
        look = partial(takedown.survey, wish)
        return replace(SYNCER, survey=look, plan=plan_takedown, open=opened, removes=True)

    return TakesDown(takedown.purge_local, takedown.find, takedown.concerned, removing)


SYNCER = Syncer(
    "image",
    _models,
    places,
    _survey,
    _plan,
    _open,
    publishing=publishing,
    resets=_resets,
    pruning=_pruning,
    takes_down=_takes_down,
    ignored_keys=_check_create,
    sample={"from": {"repository": "docker.io/library/alpine"}},
    hosts=hosts,
    parts=_parts,
    check_files=_check_files,
    written=_late("plan.many", "written"),
    front=_Front(),
    through=PullThrough(_front_model, lambda keys: keys.hosts(), _check_front, _open_front),
    address=address,
    called=_called,
    claims=_late("plan.called", "claimed"),
    held=_held,
    verifies=Verifies(_look, _repairing, elsewhere=_elsewhere),
    uses=_late("plan.uses", "uses"),
    link=_late("plan.uses", "link"),
    kept=_kept,
    example="TAG",
    asked=asked,
)
