"""Each issue is answered once: queued, done or refused, whatever happens to the process and however many there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from mirrord.asking import issue_desk, issues
from mirrord.asking.asked import AskRefusal, AskState
from mirrord.asking.issues import ASKS, OVER
from mirrord.errors import BrokenError, DeniedError, FencedError, MirrordError, RefusedError, TooLargeError
from mirrord.wire.forges.issues import IssueComment
from tests.support.forge import BOT, LABEL, RULES, Scene

NGINX = "docker.io/library/nginx:1.27"
DONE, REFUSED = f"{LABEL}: done", f"{LABEL}: refused"


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(issue_desk, "_FIRST", 0.0)
    scene = Scene()
    yield scene
    await scene.stop()


def closed(scene: Scene, number: str, label: str) -> bool:
    issue = scene.forge.issues[number]
    return not issue.open and label in issue.labels


async def test_an_image_is_queued_copied_and_closed(scene: Scene) -> None:
    """Two comments, one label, and the command to pull it; the labels were made before."""
    number = scene.forge.open("nginx:1.27", body="linux/arm64")
    scene.start()
    await scene.forge.until(lambda: scene.forge.ours(number))
    assert "`linux/arm64`) is queued" in scene.forge.ours(number)[0]
    looks = len(scene.forge.listed)
    await scene.forge.until(lambda: len(scene.forge.listed) > looks + 3)
    assert scene.forge.issues[number].open
    assert scene.forge.read["comments"] == 1, "what waits costs nothing but the list"
    scene.asker.end(NGINX)
    await scene.forge.until(lambda: closed(scene, number, DONE))
    assert f"docker pull m.example/{NGINX}\n" in scene.forge.ours(number)[1]
    assert scene.forge.writes == ["comment 1", "comment 1", "close 1"]
    assert scene.asker.asked == [(NGINX, ("linux/arm64",), ("github octocat",))]
    assert scene.forge.labels == [LABEL, DONE, REFUSED]


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("Nginx:1.27", f"Did you mean `{NGINX}`?"),
        ("please help me @octocat <b>", "`please help me ＠octocat ＜b＞` is not an image"),  # noqa: RUF001 - full-width
        ("ghcr.io/evil/app:v1", "not among the images that may be asked for"),
        ("ghcr.io/gone/app:v1", "not at its registry"),
    ],
)
async def test_what_cannot_be_copied_is_refused_with_a_reason(scene: Scene, title: str, said: str) -> None:
    """One comment with what to do, the label, and closed; a suggestion is not copied unasked."""
    scene.asker.refuses = {"ghcr.io/evil/app:v1": AskRefusal.NOT_ALLOWED, "ghcr.io/gone/app:v1": AskRefusal.MISSING}
    number = scene.forge.open(title)
    scene.start()
    await scene.forge.until(lambda: closed(scene, number, REFUSED))
    (comment,) = scene.forge.ours(number)
    assert said in comment
    assert "@" not in comment
    assert not scene.asker.known


async def test_a_failure_is_told_without_what_is_inside(scene: Scene) -> None:
    """The reason of an error of ours is in the log, and not in public."""
    number = scene.forge.open("nginx:1.27")
    scene.start()
    await scene.forge.until(lambda: scene.forge.ours(number))
    scene.asker.end(NGINX, AskState.FAILED, "unreachable")
    await scene.forge.until(lambda: closed(scene, number, REFUSED))
    assert "find the reason in its log" in scene.forge.ours(number)[1]


async def test_other_issues_are_left_alone(scene: Scene) -> None:
    """Without the label, and without the mark of the template, an issue is none of ours; each of them is enough."""
    other = scene.forge.open("nginx:1.27", labels=("bug",))
    marked = scene.forge.open("Nginx", body=f"x\n{ASKS}", labels=())
    labelled = scene.forge.open("Nginx", labels=("Sync Image",))
    scene.start()
    await scene.forge.until(lambda: closed(scene, marked, REFUSED) and closed(scene, labelled, REFUSED))
    assert scene.forge.issues[other].open
    assert not scene.forge.said[other]


@pytest.mark.parametrize("moment", ["comment 1", "close 1"])
@pytest.mark.parametrize("with_record", [True, False])
@pytest.mark.parametrize("title", ["nginx:1.27", "Nginx:1.27"])
async def test_a_process_that_ends_says_nothing_twice(
    scene: Scene, moment: str, title: str, *, with_record: bool
) -> None:
    """It is killed after a comment or after closing; the next one goes on, also where the record was lost."""
    number = scene.forge.open(title)
    scene.forge.faults[moment] = asyncio.CancelledError()
    if moment == "close 1" and title == "nginx:1.27":
        await scene.asker.ask(NGINX, (), ())
        scene.asker.end(NGINX)
    scene.start()
    await asyncio.gather(*scene.tasks, return_exceptions=True)
    assert scene.forge.writes[-1] == moment
    if not with_record:
        scene.facts.kept.clear()
    scene.start()
    if NGINX in scene.asker.known or title == "nginx:1.27":
        if scene.forge.issues[number].open:
            await scene.forge.until(lambda: len(scene.forge.listed) > 2)
        scene.asker.end(NGINX)
    await scene.forge.until(lambda: not scene.forge.issues[number].open)
    await scene.forge.until(lambda: len(scene.forge.listed) > 4)
    marks = [text.rpartition("mirrord:")[2].partition(" ")[0] for text in scene.forge.ours(number)]
    assert sorted(set(marks)) == sorted(marks)
    assert scene.forge.writes.count("close 1") == 1


async def test_a_lost_answer_is_looked_for(scene: Scene) -> None:
    """A comment was written, and the forge's answer to that was lost: it is not written again."""
    number = scene.forge.open("nginx:1.27")
    scene.forge.faults["comment 1"] = BrokenError("reset")
    scene.start()
    await scene.forge.until(lambda: len(scene.forge.listed) > 3)
    assert len(scene.forge.ours(number)) == 1
    assert [name for level, name, _ in scene.lines if level == "warning"] == ["issue.failed"]
    scene.asker.end(NGINX)
    await scene.forge.until(lambda: closed(scene, number, DONE))


async def test_marks_of_others_do_not_count(scene: Scene) -> None:
    """Whoever writes our mark into a comment gets an answer all the same."""
    number = scene.forge.open("nginx:1.27")
    scene.forge.said[number] = [IssueComment("octocat", "x\n\n<!-- mirrord:done -->")]
    scene.start()
    await scene.forge.until(lambda: scene.forge.ours(number))
    scene.asker.end(NGINX)
    await scene.forge.until(lambda: closed(scene, number, DONE))
    assert scene.forge.writes == ["comment 1", "comment 1", "close 1"]


async def test_an_issue_that_is_over_stays_over(scene: Scene) -> None:
    """A person opens it again, and may talk there: nobody answers, in this process and the next."""
    number = scene.forge.open("Nginx")
    desk = scene.start()
    await scene.forge.until(lambda: closed(scene, number, REFUSED))
    scene.forge.issues[number] = replace(scene.forge.issues[number], open=True)
    desk.ring(number)
    looks = len(scene.forge.listed)
    await scene.forge.until(lambda: len(scene.forge.listed) > looks + 2)
    await scene.stop()
    scene.start()
    await scene.forge.until(lambda: len(scene.forge.listed) > looks + 5)
    assert scene.forge.writes == ["comment 1", "close 1"]


async def test_an_issue_that_a_person_closes_is_forgotten(scene: Scene) -> None:
    """While its image waits: nothing is said when that is there, and nothing is kept for it."""
    number = scene.forge.open("nginx:1.27")
    desk = scene.start()
    await scene.forge.until(lambda: scene.forge.ours(number))
    scene.forge.issues[number] = replace(scene.forge.issues[number], open=False)
    scene.asker.end(NGINX)
    looks = len(scene.forge.listed)
    await scene.forge.until(lambda: scene.forge.read["issue"] and len(scene.forge.listed) > looks + 2)
    assert scene.forge.writes == ["comment 1"]
    assert not desk._conversations._known.asked


async def test_a_flood_of_one_author_is_bounded(scene: Scene) -> None:
    """Two an hour are read, the limit is told once, the rest is closed; others are answered as ever."""
    flood = [scene.forge.open("Nginx", author="mallory") for _ in range(20)]
    other = scene.forge.open("nginx:1.27", author="alice")
    scene.start(an_hour=2)
    await scene.forge.until(lambda: scene.forge.ours(other))
    await scene.forge.until(lambda: all(closed(scene, number, REFUSED) for number in flood))
    texts = [text for number in flood for text in scene.forge.ours(number)]
    assert len(texts) == 3
    assert sum("limit of 2 images an hour" in text for text in texts) == 1


async def test_a_full_queue_leaves_issues_open(scene: Scene) -> None:
    """Nothing is said while there is no room; as soon as there is, it is queued, and counts once for the limit."""
    number = scene.forge.open("nginx:1.27")
    scene.asker.refuses[NGINX] = AskRefusal.FULL
    scene.start(an_hour=1)
    await scene.forge.until(lambda: len(scene.asker.asked) > 3)
    assert not scene.forge.said[number]
    del scene.asker.refuses[NGINX]
    await scene.forge.until(lambda: scene.forge.ours(number))
    assert set(scene.forge.listed) == {None}, "what was left for later is in the next list"


@pytest.mark.parametrize("error", [DeniedError("the conversation is locked", 403), TooLargeError("more than 8 MiB")])
async def test_a_locked_issue_stops_no_other(scene: Scene, error: MirrordError) -> None:
    """It takes no comment, or has comments without end: this is told once, and the next issue is answered."""
    locked, other = scene.forge.open("Nginx"), scene.forge.open("Nginx")
    scene.forge.locked[locked] = error
    scene.start()
    await scene.forge.until(lambda: closed(scene, other, REFUSED))
    await scene.forge.until(lambda: len(scene.forge.listed) > 3)
    assert [fields["number"] for level, _, fields in scene.lines if level == "warning"] == [locked]


async def test_a_refused_token_is_not_the_fault_of_an_issue(scene: Scene) -> None:
    """It is told without a number, and the issue is answered once the token is good again."""
    number = scene.forge.open("Nginx")
    scene.forge.locked[number] = DeniedError("bad credentials", 401)
    scene.start()
    await scene.forge.until(lambda: len(scene.forge.listed) > 2)
    assert [fields.get("number") for _, _, fields in scene.lines] == [None]
    del scene.forge.locked[number]
    await scene.forge.until(lambda: closed(scene, number, REFUSED))


async def test_a_locked_issue_is_looked_at_after_an_hour(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not changed since, and is listed all the same as long as it was left alone."""
    later = 0.0
    monkeypatch.setattr(issues, "time", lambda: asyncio.get_running_loop().time() + later)
    number = scene.forge.open("Nginx")
    scene.forge.locked[number] = DeniedError("the conversation is locked", 403)
    scene.start()
    await scene.forge.until(lambda: len(scene.forge.listed) > 4)
    assert set(scene.forge.listed) == {None}
    del scene.forge.locked[number]
    later = issues.HOUR
    await scene.forge.until(lambda: closed(scene, number, REFUSED))


@pytest.mark.parametrize("error", [RefusedError("status 451", 451), TooLargeError("more than 8 MiB")])
async def test_an_issue_that_cannot_be_read_stops_no_other(scene: Scene, error: MirrordError) -> None:
    """A bell for one that is refused, or too large, is answered with a line in the log, and the next bell rings."""
    scene.forge.unread["1"] = error
    large, other = scene.forge.open("Nginx", labels=()), scene.forge.open("Nginx", labels=())
    desk = scene.start(rules=replace(RULES, every=3600.0))
    await scene.forge.until(lambda: scene.forge.listed)
    scene.forge.issues[other] = replace(scene.forge.issues[other], labels=(LABEL,))
    desk.ring(large)
    desk.ring(other)
    await scene.forge.until(lambda: closed(scene, other, REFUSED))
    assert [fields["number"] for level, _, fields in scene.lines if level == "warning"] == [large]


async def test_a_list_that_is_too_large_stops_no_issue_in_it(scene: Scene) -> None:
    """What could be read is answered, then the log says what is wrong."""
    scene.forge.large = TooLargeError("more than 8 MiB")
    number = scene.forge.open("Nginx")
    scene.start()
    await scene.forge.until(lambda: closed(scene, number, REFUSED) and len(scene.forge.listed) > 1)
    assert [fields["error"] for level, _, fields in scene.lines if level == "warning"] == ["more than 8 MiB"]


async def test_only_what_changed_is_listed(scene: Scene) -> None:
    """The first look takes all open issues, later ones those that changed since, and a bell finds one at once."""
    desk = scene.start(rules=replace(RULES, every=0.01))
    await scene.forge.until(lambda: len(scene.forge.listed) > 1)
    assert scene.forge.listed[0] is None
    assert scene.forge.listed[1] is not None
    await scene.stop()
    scene.forge.listed.clear()
    desk = scene.start(rules=replace(RULES, every=3600.0))
    await scene.forge.until(lambda: scene.forge.listed)
    number = scene.forge.open("Nginx")
    desk.ring(number)
    desk.ring("404")
    await scene.forge.until(lambda: closed(scene, number, REFUSED))
    assert scene.forge.listed == [None]


async def test_a_bell_that_failed_rings_again(scene: Scene) -> None:
    """The answer to a comment is lost long before the next look: the issue is closed all the same."""
    desk = scene.start(rules=replace(RULES, every=3600.0))
    await scene.forge.until(lambda: scene.forge.listed)
    number = scene.forge.open("Nginx")
    scene.forge.faults[f"comment {number}"] = BrokenError("reset")
    desk.ring(number)
    await scene.forge.until(lambda: closed(scene, number, REFUSED))
    assert len(scene.forge.ours(number)) == 1


async def test_a_forge_that_is_gone_is_told_once(scene: Scene) -> None:
    """However often it fails in the same way; when it is back, all open issues are looked at."""
    number = scene.forge.open("Nginx")
    scene.forge.down = BrokenError("reset")
    scene.start()
    await scene.forge.until(lambda: len(scene.forge.listed) > 4)
    scene.forge.down = None
    await scene.forge.until(lambda: closed(scene, number, REFUSED))
    assert [fields["error"] for level, _, fields in scene.lines if level == "warning"] == ["reset"]
    assert set(scene.forge.listed[:5]) == {None}


async def test_a_long_list_is_read_whole_each_time(scene: Scene) -> None:
    """Where there may be more issues than one look takes, none is missed for not having changed."""
    for _ in range(60):
        scene.forge.open("a question", labels=())
    scene.start()
    await scene.forge.until(lambda: len(scene.forge.listed) > 3)
    assert set(scene.forge.listed) == {None}
    assert scene.forge.read == {"issue": 0, "comments": 0}


async def test_very_many_issues_are_looked_at_in_turn(scene: Scene) -> None:
    """A look takes some pages, and the next one those behind them: none waits for ever, however many are older.

    One that was left for later in an early part of the turn is in the next turn, though it has not changed.
    """
    scene.forge.page = 2
    locked = scene.forge.open("Nginx")
    scene.forge.locked[locked] = DeniedError("the conversation is locked", 403)
    for _ in range(24):
        scene.forge.open("a question", labels=())
    last = scene.forge.open("Nginx")
    desk = scene.start()
    await scene.forge.until(lambda: scene.forge.pages == [1, 6])
    assert desk.status.last_look is None, "not all were looked at yet"
    await scene.forge.until(lambda: closed(scene, last, REFUSED))
    await scene.forge.until(lambda: len(scene.forge.pages) > 6)
    assert scene.forge.pages[:6] == [1, 6, 11] * 2
    assert set(scene.forge.listed) == {None}
    assert desk.status.last_look
    assert (desk.status.open, desk.status.answered) == (1, 1)


async def test_how_a_repository_stands(scene: Scene) -> None:
    """What is open and what was answered, and since when and why its forge cannot be asked."""
    waiting, odd = scene.forge.open("nginx:1.27"), scene.forge.open("Nginx")
    scene.forge.open("a question", labels=())
    desk = scene.start()
    assert (desk.status.name, desk.status.open, desk.status.last_look) == ("github/acme/mirror", 0, None)
    await scene.forge.until(lambda: scene.forge.ours(waiting) and closed(scene, odd, REFUSED))
    await scene.forge.until(lambda: len(scene.forge.listed) > 2)
    here = desk.status
    assert (here.open, here.answered, here.failing_since, here.last_error) == (1, 1, None, "")
    assert here.last_look
    scene.forge.down = BrokenError("reset")
    await scene.forge.until(lambda: desk.status.last_error)
    since = desk.status.failing_since
    looks = len(scene.forge.listed)
    await scene.forge.until(lambda: len(scene.forge.listed) > looks + 2)
    assert since
    assert (desk.status.failing_since, desk.status.last_error) == (since, "reset")
    scene.forge.down = None
    scene.asker.end(NGINX)
    await scene.forge.until(lambda: closed(scene, waiting, DONE))
    await scene.forge.until(lambda: not desk.status.last_error and desk.status.open == 0)
    assert (desk.status.answered, desk.status.failing_since) == (2, None)


async def test_bells_and_memory_are_bounded(scene: Scene) -> None:
    """A thousand bells cost a list, and of thousands of issues the newest thousand are remembered."""
    name = "issues.github.com/acme/mirror"
    scene.facts.kept["", name] = {
        f"{number}": f"2020-01-01T00:00:{number:05}" for number in range(90_000, 90_000 + OVER)
    }
    number = scene.forge.open("Nginx")
    desk = scene.start()
    for bell in range(5000):
        desk.ring(f"9{bell}")
    await scene.forge.until(lambda: closed(scene, number, REFUSED))
    await scene.forge.until(lambda: len(scene.facts.kept["", name]) == OVER and number in scene.facts.kept["", name])
    assert scene.forge.read["issue"] <= issue_desk.RUNG


async def test_who_leads_no_more_writes_nothing(scene: Scene) -> None:
    """A replica that was stopped looks, before it comments or closes, whether another one answers by now."""

    async def fenced() -> None:
        raise FencedError("another replica leads by now")

    asked, ended = scene.forge.open("nginx:1.27"), scene.forge.open("nginx:1.28")
    scene.forge.said[ended].append(IssueComment(BOT, "It is there.\n\n<!-- mirrord:done -->"))
    scene.start(insist=fenced)
    await scene.forge.until(lambda: len(scene.forge.listed) > 2)
    assert not scene.forge.writes
    assert [line[2]["error"] for line in scene.lines] == ["another replica leads by now"]
    await scene.stop()
    scene.start()
    await scene.forge.until(lambda: scene.forge.ours(asked) and not scene.forge.issues[ended].open)
    assert sorted(scene.forge.writes) == [f"close {ended}", f"comment {asked}"]
