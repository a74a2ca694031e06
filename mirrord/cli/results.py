"""Prints plans and runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from enum import StrEnum
from typing import Final, TypeVar

from mirrord.cli.console import around_verbatim, say, short, shortened, table
from mirrord.model.plan import Action, Plan, Step, TagVerdict
from mirrord.model.run import BESIDE, Outcome, Receipt, Result, Run
from mirrord.printable import plain, size

ALIKE: Final = 10  # good steps with one result, or sentences of one kind, that get a line each; more share one line
ROWS: Final = 100  # of one table, or lines about refusals; more are counted
NAMED: Final = 3  # names in a folded line
UNTAGGED: Final = "no tag, digest only"  # in the place of names
SHORT: Final = 3  # characters of a name that may be part of other words

_MARKS = {Outcome.KEPT: "there", Outcome.LEFT_OUT: "left out", Outcome.FAILED: "FAILED"}  # else the outcome's own word
_HEX = re.compile(r"\b[0-9a-f]{7,128}\b")
_GROUP = re.compile(r"(?<=newest)( [0-9]+)? of [^,]*?(?= by date|,|$)")  # of which tags are the newest
_Thing = TypeVar("_Thing")


class Show(StrEnum):
    """How much of a plan or a run is printed."""

    FOLDED = "folded"  # one row for steps with the same result
    ALL = "all"  # a row for each step, whole digests
    FAILURES = "failures"  # nothing when everything succeeded

    @classmethod
    def of(cls, *, quiet: bool = False, verbose: bool = False) -> Show:
        """Return what `--quiet` and `--verbose` ask for; `--quiet` overrides `--verbose`."""
        return cls.FAILURES if quiet else cls.ALL if verbose else cls.FOLDED


def mark(receipt: Receipt) -> str:
    """Return the result of a step as one word."""
    if receipt.step.action is Action.DELETE and receipt.outcome is Outcome.DONE:
        return "deleted"
    return _MARKS.get(receipt.outcome, receipt.outcome.value)


def say_plans(plans: Sequence[Plan], show: Show, *, explain: bool, kept: str = "up to date") -> None:
    """Print plans, and with several of them their sum at the end; `kept` is said of what needs nothing."""
    for plan in plans:
        _say_plan(plan, show, explain=explain, kept=kept)
    if len(plans) > 1:
        failed = sum(bool(plan.error) for plan in plans)
        counts = _to_do([step for plan in plans for step in plan.steps], kept)
        say(f"{len(plans)} mirrors: {counts}{f'; {failed} cannot be planned' if failed else ''}")


def _to_do(steps: Sequence[Step], kept: str) -> str:
    """Sum up steps: `12 to do (1.2 GiB), 3 up to date, 1 refused`."""
    counts = Counter[Action]()
    for step in steps:
        counts[step.action] += max(step.count, step.action is not Action.KEEP)
    sizes = [step.size for step in steps if step.active and step.size is not None]
    copied = sum(step.action is Action.COPY for step in steps)
    known = f" ({'' if len(sizes) == copied else 'at least '}{size(sum(sizes))})" if sizes else ""
    refused = f", {counts[Action.REFUSE]} refused" if counts[Action.REFUSE] else ""
    return f"{counts[Action.COPY] + counts[Action.DELETE]} to do{known}, {counts[Action.KEEP]} {kept}{refused}"


def _say_plan(plan: Plan, show: Show, *, explain: bool, kept: str) -> None:
    """Print what would be done, and with `explain` also what is up to date."""
    if plan.error:
        say(f"{plan.mirror} ({plan.kind}): cannot be planned")
        say(f"error: {_text(plan.error, show)}")
        return
    say(f"{plan.mirror} ({plan.kind}): {_to_do(plan.steps, kept)}")
    hidden = {Action.KEEP, Action.COPY, Action.DELETE} if show is Show.FAILURES else set() if explain else {Action.KEEP}
    steps = [step for step in plan.steps if step.action not in hidden]
    rows = []
    ends = {Action.REFUSE: Outcome.REFUSED}
    ahead = [Receipt(step, ends.get(step.action, Outcome.KEPT), step.reason) for step in steps]
    for at, reason, same in _alike(ahead, plan, show, lambda one: (one.step.action, _shared(one.detail, one.step))):
        sizes = [one.step.size for one in same if one.step.size is not None]
        count = size(sum(sizes)) if sizes else ""
        rows.append((same[0].step.action.value, at, _names(same), _digest(same, show), count, _text(reason, show)))
    _say_table(("ACTION", "TARGET", "NAMES", "DIGEST", "BYTES", "REASON"), rows, show)
    say_verdicts(plan.verdicts, show)
    _say_beside(plan, show)


def say_verdicts(verdicts: Sequence[TagVerdict], show: Show) -> None:
    """Print why each tag is chosen or left out, chosen ones first; many with one reason share a row."""
    ordered = sorted(verdicts, key=lambda one: not one.chosen)
    most = len(verdicts) if show is Show.ALL else ALIKE
    rows = []
    for same in _folded(ordered, lambda one: _GROUP.sub(r"\1 of …", one.why), lambda _: most):
        whys = {one.why for one in same}
        why = whys.pop() if len(whys) == 1 else _GROUP.sub(r"\1 of …", same[0].why)
        rows.append((_listed([one.tag for one in same]), why))
    _say_table(("TAG", "WHY"), rows, show)
    if verdicts:
        say(f"{sum(one.chosen for one in verdicts)} of {len(verdicts)} tags chosen")


def _shared(text: str, step: Step) -> str:
    """Return a sentence about a step without the step's own names and without digests, by which steps are folded."""
    own = {*step.names, step.item}

    def without(part: str) -> str:
        return _HEX.sub("…", " ".join(word for word in part.split(" ") if word.rstrip(",:") not in own))

    return around_verbatim(text, without)


def _folded(
    things: Sequence[_Thing], key: Callable[[_Thing], Hashable], most: Callable[[_Thing], int]
) -> Iterator[Sequence[_Thing]]:
    """Yield things in their order; more than `most` with one key come together, in the place of the first."""
    groups: dict[Hashable, list[_Thing]] = {}
    keys = [key(thing) for thing in things]
    for thing, its in zip(things, keys, strict=True):
        groups.setdefault(its, []).append(thing)
    for thing, its in zip(things, keys, strict=True):
        same = groups[its]
        if len(same) <= most(thing):
            yield [thing]
        elif same[0] is thing:
            yield same


def _alike(
    receipts: Sequence[Receipt], plan: Plan | None, show: Show, result: Callable[[Receipt], Hashable]
) -> Iterator[tuple[str, str, Sequence[Receipt]]]:
    """Yield the targets, the reason and the receipts of each row: bad ones of one cause, others of one `result`."""
    shared: dict[tuple[str, str], dict[str, None]] = {}  # targets by item and cause
    for one in receipts if show is not Show.ALL else ():
        if one.bad:
            shared.setdefault((one.step.item, one.detail), {})[one.step.target] = None
    every = len({step.target for step in plan.steps}) if plan else 0

    def at(one: Receipt) -> str:
        own = {one.step.target: None}
        return target_names(list(shared.get((one.step.item, one.detail), own) if one.bad else own), every)

    def key(one: Receipt) -> Hashable:
        return at(one), result(one), _shared(one.detail, one.step) if one.bad else ""

    def most(one: Receipt) -> int:
        return len(receipts) if show is Show.ALL else 1 if one.bad else ALIKE

    for same in _folded(receipts, key, most):
        first = same[0]
        alike = len({one.detail for one in same}) == 1
        reason = first.detail if alike else _shared(first.detail, first.step)
        yield at(first), reason.removeprefix(f"{first.step.item}: "), same


def target_names(targets: Sequence[str], every: int) -> str:
    """Name targets of a mirror that has `every` many: `one`, `one, two`, or `all targets`."""
    return "all targets" if len(targets) == every > 1 else ", ".join(targets)


def _names(receipts: Sequence[Receipt], left: Sequence[str] = (), *, one: bool = False) -> str:
    """List the names of steps, without those in `left`: `main-0123abc, main`; `no tag, digest only` for none.

    Of many repositories each name has its own in front (`docker.io/library/nginx:1.29`), but not in a copy of `one`.
    """
    each = dict.fromkeys((receipt.step.item, receipt.step.names) for receipt in receipts)  # once for all targets
    kept = ((item.partition("@")[0], [name for name in names if name not in left]) for item, names in each)
    texts = ((item, ", ".join(names) or UNTAGGED) for item, names in kept)
    many = ((f"{item} ({text})" if text is UNTAGGED and "/" in item else item, text) for item, text in texts)
    return _listed([item if not one and item.endswith((f":{text}", f"({text})")) else text for item, text in many])


def _listed(names: Sequence[str], most: int = NAMED) -> str:
    """List names, and of many the first ones."""
    more = f" and {len(names) - most} more (-v shows all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _digest(receipts: Sequence[Receipt], show: Show) -> str:
    """Return the digest of a single item, "" for several items."""
    found = {(one.step.item, one.step.digest) for one in receipts}
    digest = found.pop()[1]
    return "" if found else digest if show is Show.ALL else short(digest)


def _text(text: str, show: Show) -> str:
    return plain(text if show is Show.ALL else shortened(text))


def _say_beside(decided: Plan | Run, show: Show) -> None:
    """Print what is missing, the problems and the remarks of a plan or a run."""
    plan = decided if isinstance(decided, Plan) else decided.plan
    texts = [("missing", plan.missing if plan else ())]
    if show is not Show.FAILURES:
        texts += [("problem", decided.problems), ("remark", decided.remarks)]
    for word, sentences in texts:
        _say_sentences(word, sentences, show)


def _say_sentences(word: str, sentences: Sequence[str], show: Show) -> None:
    """Print a line for each sentence, or for many that differ in a name alone."""
    most = len(sentences) if show is Show.ALL else ALIKE
    lines = list(_folded(sentences, _of_any, lambda _: most))
    for same in lines[:most]:
        names = _listed([sentence.partition(": ")[0] for sentence in same])
        say(f"{word}: {_text(same[0] if len(same) == 1 else f'{names}: {_of_any(same[0])}', show)}")
    if more := sum(map(len, lines[most:])):
        say(f"{word}: and {more} more (-v shows all)")


def _of_any(sentence: str) -> str:
    """Return a sentence such as `app-1.0.0: GET /app-1.0.0.tgz: status 404` without the name at its beginning."""
    name, colon, text = sentence.partition(": ")
    return text.replace(name, "…") if colon and len(name) > SHORT else text or sentence


def say_runs(runs: Sequence[Run], show: Show, *, goes_on: bool = True) -> None:
    """Print the results of runs, and with several of them their sum at the end; `goes_on` as in `say_run`."""
    for run in runs:
        say_run(run, show, goes_on=goes_on)
    if len(runs) > 1 and show is not Show.FAILURES:
        results: dict[Result, list[str]] = {}
        for run in runs:
            results.setdefault(run.result, []).append(run.mirror)
        good = (Result.SUCCESS, Result.NOOP)
        ended = ", ".join(
            f"{len(names)} {result.value}" + ("" if result in good else f" ({_listed(names, ALIKE)})")
            for result, names in results.items()
        )
        say(f"{len(runs)} mirrors: {ended}; {_moved(runs)}")


def _moved(runs: Sequence[Run]) -> str:
    """Sum up bytes: `1.2 MiB read, 2.4 MiB sent`."""
    sent = size(sum(receipt.sent for run in runs for receipt in run.receipts))
    return f"{size(sum(run.read for run in runs))} read, {sent} sent"


def say_run(run: Run, show: Show = Show.FOLDED, *, copied: bool = False, goes_on: bool = True) -> None:
    """Print the result of a run, of `mirrord copy` (`copied`) or of one that a daemon continues (`goes_on`)."""
    if show is Show.FAILURES and run.result in (Result.SUCCESS, Result.NOOP):
        return
    keep = [step for step in run.plan.steps if step.action is Action.KEEP] if run.plan else []
    kept = "left there" if run.trigger in BESIDE else "up to date"
    unchanged = f", {count} {kept}" if (count := sum(step.count for step in keep)) else ""
    counted = f", {count} problem{'' if count == 1 else 's'}" if (count := len(run.problems)) else ""
    later = "; continues at" if goes_on and not copied else "; run it again after"
    later = f"{later} {run.until:%Y-%m-%d %H:%M} UTC" if run.until else ""
    carried = sum(dict(sorted((one.step.digest, one.referrers or 0) for one in run.receipts)).values())  # each once
    about = f"; signatures and attestations: {carried}" if carried else ""
    seconds = f"{(run.finished - run.started).total_seconds():.1f} s"
    say(f"{run.mirror}: {run.result.value} in {seconds}, {_moved([run])}{unchanged}{counted}{about}{later}")
    turn = {step: number for number, step in enumerate(run.plan.steps if run.plan else ())}
    receipts = [*run.receipts]
    receipts += (Receipt(step, Outcome.KEPT, step.reason) for step in keep if copied or show is Show.ALL)
    receipts.sort(key=lambda receipt: turn[receipt.step])  # in the order of the plan
    printed = [one for one in receipts if one.bad or (one.good and show is not Show.FAILURES)]
    _say_receipts(printed, run.plan, show, copied=copied)
    if run.plan:
        _say_refused(run.plan, show)
    _say_beside(run, show)
    if run.error:
        say(f"error: {_text(run.error, show)}")


def _say_refused(plan: Plan, show: Show) -> None:
    """Print a line for each reason of refusal."""
    refused = [Receipt(step, Outcome.REFUSED, step.reason) for step in plan.steps if step.action is Action.REFUSE]
    lines = list(_alike(refused, plan, show, mark))
    shown = lines if show is Show.ALL else lines[:ROWS]
    for at, reason, same in shown:
        items = _listed(list(dict.fromkeys(one.step.item for one in same if not one.step.whole)))
        about = f"refused at {at}: {items}: " if items else f"refused at {at}: "
        say(f"{about}{_text(reason.removeprefix('refused: '), show)}")
    if more := sum(len(same) for _, _, same in lines[len(shown) :]):
        say(f"refused: and {more} more (-v shows all)")


def _say_receipts(receipts: Sequence[Receipt], plan: Plan | None, show: Show, *, copied: bool) -> None:
    """Print a row for each receipt, or for many with one result; receipts with one cause of failure share one row."""
    rows = []
    for at, reason, same in _alike(receipts, plan, show, mark):
        first = same[0]
        detail = "" if first.good and show is not Show.ALL else _text(reason, show)
        ended = (mark(first), size(sum(one.sent for one in same)), f"{max(one.seconds for one in same):.1f} s", detail)
        rows.append((at, _names(same, first.left, one=copied), _digest(same, show), *ended))
    _say_table(("TARGET", "NAMES", "DIGEST", "RESULT", "SENT", "TIME", ""), rows, show)


def _say_table(head: Sequence[str], rows: Sequence[Sequence[str]], show: Show) -> None:
    """Print rows, if any, without empty columns; of very many the first ones."""
    more = 0 if show is Show.ALL else len(rows) - ROWS
    rows = rows[:ROWS] if more > 0 else rows
    used = [column for column in range(len(head)) if any(row[column] for row in rows)]
    if rows:
        table([head[column] for column in used], [[row[column] for column in used] for row in rows])
    if more > 0:
        say(f"and {more} more (-v shows all)")
