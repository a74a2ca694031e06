"""What git and the hosts say, row by row: the error, whether it passes by itself, and the next step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mirrord import errors
from mirrord.errors import (
    BrokenError,
    BusyError,
    ContentError,
    ImmutableError,
    MirrordError,
    MissingError,
    RefusedError,
    ServerError,
    StalledError,
    StorageError,
    ThrottledError,
    UnreachableError,
    UntrustedError,
)
from mirrord.wire.git.command import ErrorText
from mirrord.wire.git.failures import classify, lacks_objects, per_ref, words
from mirrord.wire.secret import Secret

UNABLE = "fatal: unable to access 'https://h/r.git/': "
HUNG = "fatal: the remote end hung up unexpectedly\n"
SSH = """fatal: Could not read from remote repository.

Please make sure you have the correct access rights
and the repository exists.
"""

SAID = (Path(__file__).parent / "said.txt").read_text()
TABLE = re.findall(r"^\[([^\]\n]+)\] (\w+)\n(.*?)(?=^\[|\Z)", SAID, re.MULTILINE | re.DOTALL)
CASES = [pytest.param(text, getattr(errors, kind), id=name) for name, kind, text in TABLE]


def test_every_row_is_a_case() -> None:
    """The table is read row by row: none is taken for a part of another one."""
    assert len(CASES) == len({name for name, _, _ in TABLE}) == SAID.count("\n[")
    assert not any("\n[" in text for _, _, text in TABLE)


@pytest.mark.parametrize(("text", "kind"), CASES)
def test_table(text: str, kind: type[MirrordError]) -> None:
    """Every text of the table becomes its error, tells the host and what was said, and is one line."""
    error = classify(128, text, "h.example")
    assert type(error) is kind
    assert str(error).startswith("h.example: ")
    assert str(error).isprintable()
    if kind is not MirrordError:
        assert re.search(r" \([^()]*(?:\([^()]*\)[^()]*)*\)\Z", str(error)), "no next step"


TRANSIENT = (UnreachableError, StalledError, BrokenError, ThrottledError, ServerError)


@pytest.mark.parametrize(("text", "kind"), CASES)
def test_a_tokens_fault_is_not_the_networks(text: str, kind: type[MirrordError]) -> None:
    """Only what passes by itself is worth another try; what a person must change is not."""
    assert classify(128, text, "h").retry == (kind in TRANSIENT)


@pytest.mark.parametrize(
    "text",
    [
        UNABLE + "server certificate verification failed. CAfile: none CRLfile: none",
        UNABLE + "SSL certificate problem: self-signed certificate",
        UNABLE + "Received HTTP code 407 from proxy after CONNECT",
        UNABLE + "CONNECT tunnel failed, response 403",
        UNABLE + "The requested URL returned error: 407",
    ],
)
def test_what_does_not_heal(text: str) -> None:
    """A certificate or a proxy that says no is out of reach, and is not tried again at once."""
    error = classify(128, text, "h")
    assert isinstance(error, UnreachableError)
    assert not error.retry


def test_64_changed_host_key() -> None:
    """Bad input 64: a changed host key is refused for good, and the text has the fingerprint."""
    said = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
The fingerprint for the ED25519 key sent by the remote host is
SHA256:7o8Ek7mkh3kH3lVfk1aQx9T0Hc5l1m2n3o4p5q6r7s8.
Host key verification failed.
"""
    error = classify(128, said + SSH, "h")
    assert isinstance(error, UntrustedError)
    assert (error.reason, error.retry) == ("host_key", False)
    assert "SHA256:7o8Ek7mkh3kH3lVfk1aQx9T0Hc5l1m2n3o4p5q6r7s8" in str(error)
    assert "@@@" not in str(error)


def test_the_hosts_own_words_come_first() -> None:
    """What the host says is told before what git says; git's stage directions are left out; each line comes once."""
    frozen = "remote: Repository is frozen.\n"
    said = f"To https://h/r.git\nfatal: unable to access\n{frozen}remote: \n{frozen}"
    assert words(said + HUNG) == "Repository is frozen.; unable to access"
    assert words(HUNG) == "the remote end hung up unexpectedly"
    assert words("") == ""


def test_a_host_that_talks_on_hides_nothing() -> None:
    """Of a flood of words the first are told, and git's last ones; both are a bounded text."""
    flood = "".join(f"remote: still at work, line {number}\n" for number in range(1000))
    told = words(f"{flood}fatal: protocol error: bad pack header\n")
    assert told.startswith("still at work, line 0; still at work, line 1; ")
    assert told.endswith(" … protocol error: bad pack header")
    assert len(told) < 1000
    assert len(words(f"fatal: {'x' * 5000}")) < 1000


def test_status_of_refusals() -> None:
    """Where git tells the HTTP status, the error has it."""
    error = classify(128, UNABLE + "The requested URL returned error: 451", "h")
    assert isinstance(error, MissingError)
    assert error.status == 451


def test_66_no_secret_in_a_message() -> None:
    """Bad input 66: neither a secret that we hold nor one in somebody's URL is repeated."""
    secret = Secret("canary-9f2d1c")
    said = f"remote: canary-9f2d1c is wrong\nfatal: Authentication failed for 'https://me:other@h/{secret.reveal()}'"
    text = str(classify(128, said, "h"))
    assert "canary" not in text
    assert "other" not in text


@pytest.mark.parametrize(("host", "kind"), [("h", BrokenError), ("", StorageError)])
def test_f40_ended_by_a_signal(host: str, kind: type[MirrordError]) -> None:
    """Fault 40: a git that was killed from outside, without a word, is told so."""
    error = classify(-9, "", host)
    assert type(error) is kind
    assert "signal 9" in str(error)


REASONS = [
    ("deny updating a hidden ref", RefusedError),
    ("protected branch hook declined", RefusedError),
    ("pre-receive hook declined", RefusedError),
    ("deletion of the current branch prohibited", RefusedError),
    ("non-fast-forward", RefusedError),
    ("stale info", BusyError),
    ("fetch first", BusyError),
    ("cannot lock ref 'refs/heads/x': is at 1234 but expected 5678", BusyError),
    ("already exists", ImmutableError),
    ("unpacker error", ContentError),
    ("failed to update ref", ServerError),
    ("no idea", RefusedError),
]


def test_a_limit_for_sizes_is_no_rule_against_force() -> None:
    """A hook that declines for a size is told with what helps against that."""
    said = "pre-receive hook declined: Push rejected for repository size exceeds limit."
    told = str(per_ref("refs/heads/x", said))
    assert "ask there for more" in told
    assert "forced pushes" not in told


@pytest.mark.parametrize(
    "said",
    [
        "pre-receive hook declined: GH008: Your push referenced at least 1 unknown Git LFS object:; 1a2b",
        "pre-receive hook declined: GitLab: LFS objects are missing. Ensure LFS is properly set up",
    ],
)
def test_missing_objects_are_no_rule_against_force(said: str) -> None:
    """A host that refuses a ref for its LFS objects is told with that, and the run looks at all of them again."""
    told = str(per_ref("refs/heads/x", said))
    assert "the host misses LFS objects" in told
    assert "forced pushes" not in told
    assert lacks_objects(told)
    assert not lacks_objects(str(per_ref("refs/heads/x", "pre-receive hook declined")))


@pytest.mark.parametrize(("reason", "kind"), REASONS, ids=[row[0] for row in REASONS])
def test_62_one_ref(reason: str, kind: type[MirrordError]) -> None:
    """Bad input 62, fault 26: a rejected ref is told by name, with the host's reason."""
    error = per_ref("refs/heads/x", reason)
    assert type(error) is kind
    assert str(error).startswith(f"refs/heads/x: {reason}")


def test_words_that_came_garbled() -> None:
    """A host that sends UTF-8 without saying so is read right; git had taken it for Latin-1."""
    said = ErrorText()
    said.add("remote: 仓库大小超限\n".encode().decode("latin-1").encode())
    said.add("remote: 仓库\nremote: café\n".encode())
    assert said.text() == "remote: 仓库大小超限\nremote: 仓库\nremote: café"


def test_66_a_garbled_secret() -> None:
    """Bad input 66: a secret that a host repeats is masked even when git garbled it, or cut the stream within it."""
    secret = Secret("canary-é-9f2d1c")
    said = ErrorText()
    for byte in f"remote: {secret.reveal()}\r".encode().decode("latin-1").encode():
        said.add(bytes([byte]))
    assert said.text() == "remote: ***"


def test_progress_is_no_news() -> None:
    """Progress, empty lines and repetitions are left out, across pieces of the stream."""
    said = ErrorText()
    for piece in (
        b"remote: Resolving deltas:  50% (1/2)\rremote: Resolving del",
        b"tas: 100% (2/2)\nfatal: x\n\nfatal: x\nfa",
    ):
        said.add(piece)
    said.add(b"tal: y")
    assert said.text() == "fatal: x\nfatal: y"


def test_66_half_a_secret() -> None:
    """Bad input 66: a line that is too long is cut at a blank, so that no half of a secret is left."""
    secret = Secret("canary-" + "9f2d1c" * 20)
    said = ErrorText()
    said.add(f"remote: {'x ' * 1000}{secret.reveal()}\n".encode())
    assert "canary" not in said.text()
    assert said.text().startswith("remote: x x")
