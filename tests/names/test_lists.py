"""Reading list files: every form, and what people's files have that is no image."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.errors import UsageError
from mirrord.names.lists import (
    DAILY,
    MAX_CHARACTERS,
    MAX_LINE,
    MAX_LINES,
    RELEASES,
    WEEKLY,
    ListForm,
    form_of,
    parse_list,
)
from mirrord.patterns import compiled

DIGEST = f"sha256:{'ab' * 32}"


@pytest.mark.parametrize(
    ("file", "form"),
    [
        ("mirror.txt", "patterns"),
        ("lists/mirror-quick.txt", "patterns"),
        ("required-images.txt", "tags"),
        ("required-images-daily.txt", "daily"),
        ("mirror-weekly.txt", "weekly"),
        ("allows.txt", "allows"),
        ("mirror.yaml", "tags"),
        ("/mirror.d/images", "tags"),
    ],
)
def test_the_name_of_a_file_says_its_form(file: str, form: ListForm) -> None:
    """The names of the lists that are in use mean their forms; a folder's name means nothing."""
    assert form_of(file) == form


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("nginx", "docker.io/library/nginx"),
        ("docker.io/nginx:1.2", "docker.io/library/nginx:1.2"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx"),
        ("localhost:5000/x", "localhost:5000/x"),
        ("localhost:5000/x:v1", "localhost:5000/x:v1"),
        ("[::1]:5000/x", "[::1]:5000/x"),
        ("Quay.IO/a/b:V1", "quay.io/a/b:V1"),
        (f"ghcr.io/a/b@{DIGEST}", f"ghcr.io/a/b@{DIGEST}"),
        (f"ghcr.io/a/b:v1@{DIGEST}", f"ghcr.io/a/b:v1@{DIGEST}"),
        ("602401143452.dkr.ecr.us-west-2.amazonaws.com/amazon-k8s-cni:v1", None),
    ],
)
def test_a_line_of_form_tags(line: str, text: str | None) -> None:
    """A reference is read by Docker's rules; ports, digests and tags with digests are kept."""
    found = parse_list(line, "f.txt", "tags")
    assert [entry.text for entry in found.entries] == [text or line]
    assert found.problems == ()
    assert found.entries[0].rule is None


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("https://hub.docker.com/r/bitnami/redis", "write docker.io/bitnami/redis"),
        ("https://hub.docker.com/_/redis", "write docker.io/library/redis"),
        ("http://x/update_new.sh", "has no http:// in front; leave it out"),
        ("docker.m.daocloud.io/:latest", "not a repository"),
        ("ghcr.io/a/b@sha256:abc", "sha256:abc"),
        ("nginx 1.25", "a blank stands between two words; write one image a line, and ` # ` before a comment"),
        ("nginx:", "not a tag"),
        ("nginx#1.25", "not a repository"),
        ("ngi\x00nx", "ngi\\x00nx"),
        ("x" * (MAX_LINE + 1), f"{MAX_LINE + 1} characters are too many for a line; write at most {MAX_LINE}"),
        ("docker.io/library/*", "not a repository"),
    ],
)
def test_a_bad_line_is_named_and_left_out(line: str, what: str) -> None:
    """The problem begins with file and line and says what to write; lines before and after it count."""
    found = parse_list(f"alpine\n{line}\nbusybox\n", "lists/f.txt", "tags")
    assert [entry.text for entry in found.entries] == ["docker.io/library/alpine", "docker.io/library/busybox"]
    (problem,) = map(str, found.problems)
    assert problem.startswith("lists/f.txt:2: ")
    assert what in problem
    assert "\n" not in problem


def test_what_editors_leave_in_a_file() -> None:
    """BOM, CRLF, blank lines, comments, blanks around and no line end at the end change nothing but line numbers."""
    text = "\ufeff# images\r\n\r\n  nginx:1.25  \t\r\n\t# more\r\nquay.io/a/b:v1 # pinned\r\nbusybox\t#x\r\nalpine"
    found = parse_list(text, "f.txt", "tags")
    assert [(entry.line, entry.text) for entry in found.entries] == [
        (3, "docker.io/library/nginx:1.25"),
        (5, "quay.io/a/b:v1"),
        (6, "docker.io/library/busybox"),
        (7, "docker.io/library/alpine"),
    ]
    assert found.problems == ()


@pytest.mark.parametrize(
    ("line", "name", "pattern"),
    [
        ("docker.io/library/nginx", "docker.io/library/nginx", None),
        (r"docker.io/library/nginx:1\.2[78]\..*", "docker.io/library/nginx", r"1\.2[78]\..*"),
        ("localhost:5000/x", "localhost:5000/x", None),
        ("localhost:5000/x:^v1", "localhost:5000/x", "^v1"),
        ("quay.io/a/b:(?:v1|v2)", "quay.io/a/b", "(?:v1|v2)"),
        ("quay.io/a/b:[[:alpha:]]+", "quay.io/a/b", "[[:alpha:]]+"),
        ("quay.io/a/b:v1#2  # comment", "quay.io/a/b", "v1#2"),
        ("nginx:latest", "docker.io/library/nginx", "latest"),
    ],
)
def test_a_line_of_form_patterns(line: str, name: str, pattern: str | None) -> None:
    """The first colon after the last slash parts name and regex, which may have colons and hashes of its own."""
    found = parse_list(line, "mirror.txt", "patterns")
    (entry,) = found.entries
    assert (str(entry.reference), entry.pattern) == (name, pattern)
    assert found.problems == ()
    assert entry.rule is not None
    assert entry.rule.match == ((f"/.*(?:{pattern}).*/",) if pattern else RELEASES.match)
    assert entry.rule.prereleases is bool(pattern)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("quay.io/a/b:", "nothing follows the colon; write quay.io/a/b, or a regular expression behind it"),
        (f"quay.io/a/b@{DIGEST}", "a list of form patterns has no digests"),
        ("quay.io/a/b:x/y", "not a repository"),
        ("registry.example:5000", "is a registry without a repository; write registry.example/NAME"),
        ("https://hub.docker.com/_/redis", "write docker.io/library/redis"),
        ("quay.io/a/b:v1)|(v2", "not a regular expression: 'v1)|(v2'"),
        ("quay.io/a/b:(?=x)", "RE2 has no look-around and no backreferences"),
        (f"quay.io/a/b:{'(a{1000}){1000}'}", "not a regular expression"),
        (f"q.io/a:{'a' * 4089}", "has more than 4096 characters"),  # in its rule, which has eight more
    ],
)
def test_a_bad_line_of_form_patterns(line: str, what: str) -> None:
    """What looks like a pattern and is none is a problem that says what to write."""
    found = parse_list(line, "mirror.txt", "patterns")
    assert found.entries == ()
    assert what in str(found.problems[0])


def test_a_pattern_that_never_ends_is_harmless() -> None:
    """A regex that takes other engines exponential time is read and matched, in linear time (bad input 69)."""
    (entry,) = parse_list("quay.io/a/b:(a+)+$", "mirror.txt", "patterns").entries
    assert entry.rule is not None
    assert not compiled(entry.rule.match[0].strip("/")).fullmatch("a" * 100_000 + "!")


@pytest.mark.parametrize(
    ("regex", "tag"), [("27", "1.27.0"), ("^1", "1.27.0"), ("0$", "1.27.0"), ("^1|^2", "2.0"), (r"\.0", "2.0-rc")]
)
def test_a_pattern_is_found_anywhere(regex: str, tag: str) -> None:
    """The rule for the whole tag means what the regex means where it is searched."""
    (entry,) = parse_list(f"quay.io/a/b:{regex}", "mirror.txt", "patterns").entries
    assert entry.rule is not None
    whole = compiled(entry.rule.match[0].strip("/"))
    assert whole.fullmatch(tag)
    assert not whole.fullmatch("v3-x")


@pytest.mark.parametrize(
    ("tag", "taken"),
    [
        ("latest", False),
        ("1", False),
        ("1.25", True),
        ("v1.25.3", True),
        ("1.25-alpine", True),
        ("release-1.2", True),
        ("controller-v1.5.1", True),
        ("cuda-11.8.0", True),
        ("2023.01.01", True),
        ("20230101", False),
        ("v1.2.3.4", True),
        ("RELEASE.2023-01-01", False),
        ("sha256-abc.sig", False),
    ],
)
def test_releases_are_what_public_mirrors_take(tag: str, taken: bool) -> None:
    """Without a regex, form patterns takes the tags that DaoCloud's scripts took."""
    (regex,) = RELEASES.match
    assert (re.fullmatch(regex.strip("/"), tag) is not None) is taken
    assert not RELEASES.prereleases


def test_rules_of_daily_and_weekly_lists() -> None:
    """Daily leaves out alpha, beta and Windows, and settles after ten days; weekly takes the newest two minors."""
    daily = parse_list("nginx\n", "required-images-daily.txt", "daily").entries[0]
    assert daily.rule is DAILY
    assert DAILY.exclude == ("*alpha*", "*beta*", "*windowsservercore*", "*nanoserver*")
    assert DAILY.settled == 10 * 86400
    weekly = parse_list("nginx\n", "required-images-weekly.txt", "weekly").entries[0]
    assert weekly.rule is WEEKLY
    assert (WEEKLY.newest, WEEKLY.of, WEEKLY.groups) == (1, "minor", 2)
    (regex,) = WEEKLY.match
    wanted = ["1.25", "v1.25", "1.25.3", "1.25-alpine", "1.25.3-alpine3.20"]
    others = ["1", "latest", "1.25.3-slim", "1.25-rc1", "1.25.3.4", "1.25-perl"]
    assert [tag for tag in wanted + others if re.fullmatch(regex.strip("/"), tag)] == wanted


@pytest.mark.parametrize("form", ["daily", "weekly"])
@pytest.mark.parametrize("line", ["nginx:1.25", f"nginx@{DIGEST}"])
def test_lists_of_names_take_no_tags(form: ListForm, line: str) -> None:
    """A tag in a list of names is a problem, because it would be ignored."""
    found = parse_list(line, "f.txt", form)
    assert [str(problem) for problem in found.problems] == [
        f"f.txt:1: a list of form {form} has names alone; write docker.io/library/nginx"
    ]


def test_an_image_counts_once() -> None:
    """Two spellings of one image are one entry, and the second line is named."""
    found = parse_list("nginx\ndocker.io/library/nginx\nnginx:1\n", "f.txt", "tags")
    assert [entry.line for entry in found.entries] == [1, 3]
    assert [str(line) for line in found.repeated] == [
        "f.txt:2: docker.io/library/nginx is listed at line 1 already; remove one of them"
    ]


def test_files_are_bounded() -> None:
    """A text or a number of lines above the limit is refused as a whole; at the limit it is read."""
    assert parse_list("\n" * MAX_LINES, "f.txt", "tags").entries == ()
    with pytest.raises(UsageError, match=rf"^f\.txt: more than {MAX_LINES} lines; split it"):
        parse_list("\n" * (MAX_LINES + 1), "f.txt", "tags")
    with pytest.raises(UsageError, match=rf"^f\.txt: longer than {MAX_CHARACTERS} characters; split it"):
        parse_list("#" * (MAX_CHARACTERS + 1), "f.txt", "tags")


def test_an_allow_list_names_no_images() -> None:
    """An allow list in the place of a list of images is refused as a whole."""
    with pytest.raises(UsageError, match=r"^allows\.txt: an allow list says .*, or write another `form:`$"):
        parse_list("docker.io/library/*\n", "allows.txt", "allows")


@given(st.text(string.printable + "\u00a0\u2028\ufeffé", max_size=200), st.sampled_from(["tags", "patterns", "daily"]))
def test_any_text_is_read(text: str, form: ListForm) -> None:
    """Each line with content is an entry, a repetition or a problem; what was read is read again as itself."""
    found = parse_list(text, "f.txt", form)
    numbers = [
        *(entry.line for entry in found.entries),
        *(problem.line for problem in (*found.problems, *found.repeated)),
    ]
    assert len(numbers) == len(set(numbers))
    again = parse_list("\n".join(entry.text for entry in found.entries), "f.txt", form)
    assert [entry.text for entry in again.entries] == [entry.text for entry in found.entries]
    assert again.problems == ()


@pytest.mark.parametrize("line", ["quay.io", "registry.example:5000", "localhost"])
def test_a_registry_alone_is_no_image(line: str) -> None:
    """Docker takes it for a name at Docker Hub, which nobody means who writes a list."""
    (problem,) = parse_list(line, "images.txt", "tags").problems
    assert problem.what == f"{line}: is a registry without a repository; write {line}/NAME"
