"""`mirrord list fmt` and allow lists, by the vectors of the scripts that public mirrors use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.names.allows import AllowList, parse_allows, unchanged
from mirrord.names.formatting import format_list
from mirrord.names.lists import ListForm
from mirrord.wire.oci.reference import Reference

DIGEST = f"sha256:{'ab' * 32}"
VECTOR_ALLOWS = ["docker.io/library/*", "docker.io/foo/**", "docker.io/*", "docker.io/x/y/z", "ghcr.io/a/b"]
VECTOR_FORMAT = [
    *("docker.io/library/nginx", "docker.io/library/*", "docker.io/foo/**", "docker.io/foo/bar", "docker.io/foo/*"),
    *("docker.io/a", "docker.io/*", "docker.io/x/y/z", "ghcr.io/a/b"),
]


def formatted(text: str, form: ListForm = "tags") -> str:
    """Format a list that has no problems, twice."""
    once = format_list(text, "f.txt", form, unchanged)
    assert once.problems == ()
    assert format_list(once.text, "f.txt", form, unchanged).text == once.text
    return once.text


@pytest.mark.parametrize(
    ("entries", "image", "allowed"),
    [
        (VECTOR_ALLOWS, "docker.io/library/nginx:1", True),
        (["docker.io/library/*"], "docker.io/library/a/b:1", False),
        (["docker.io/foo/**"], "docker.io/foo/a/b:1", True),
        (["docker.io/foo/*"], "docker.io/foo/a/b:1", False),
        (["docker.io/foo/**"], "docker.io/foobar/a", False),
        (["docker.io/*"], "docker.io/a", True),
        (["docker.io/*"], "docker.io/a/b", False),
        (["docker.io/library/*"], "a", True),
        (VECTOR_ALLOWS, f"ghcr.io/a/b@{DIGEST}", True),
        (VECTOR_ALLOWS, f"docker.io/foo/a@{DIGEST}", True),
        (VECTOR_ALLOWS, "ghcr.io/a/c", False),
        (["gcr.io/**"], "gcr.io/a/b/c", True),
        (["gcr.io/*"], "gcr.io/a/b", False),
        (["localhost:5000/**"], "localhost:5000/a/b:1", True),
        (["docker.io/**"], "b/c", True),
    ],
)
def test_what_an_allow_list_allows(entries: list[str], image: str, allowed: bool) -> None:
    """`/*` is one more segment, `/**` any depth, else the name (vectors 8.5); a line for what it allows is needless."""
    found, problems = parse_allows("\n".join([*entries, Reference.parse(image).name]), "allows.txt")
    assert problems == ()
    assert (AllowList(found).needless(found[-1]) is not None) is allowed
    assert (AllowList(found[:-1]).line(Reference.parse(image)) is not None) is allowed


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("docker.io/a:1", "a line names a repository without tag or digest; write docker.io/library/a"),
        (f"ghcr.io/a/b@{DIGEST}", "a line names a repository without tag or digest; write ghcr.io/a/b"),
        ("docker.io/a*", "a wildcard is a whole segment; write docker.io/a, or docker.io/*"),
        ("*", "'*' has no registry before the wildcard; write one line for each registry: docker.io/**"),
        ("nginx*", "a wildcard is a whole segment; write docker.io/library/nginx, or docker.io/library/*"),
        ("**", "'**' has no registry before the wildcard; write one line for each registry: docker.io/**"),
        ("ghcr.io/*/b", "has a wildcard before the end; write ghcr.io/**, or a line for each repository"),
        ("*.k8s.io/**", "has a wildcard in the registry; write one line for each: registry.example.com/**"),
        ("quay.io/calico/.*", "is a regular expression, and lines have names and wildcards; write quay.io/calico/*"),
        ("quay.test/Calico/**", "a repository is lower case; write quay.test/calico/**"),
        ("Quay.test/a_/**", "'a_': not a repository"),
        ("docker.io", "docker.io: is a registry without a repository; write docker.io/**, or docker.io/NAME"),
        ("/**", "not a repository"),
        ("ghcr.io/a b", "a blank stands between two words"),
    ],
)
def test_a_bad_line_of_an_allow_list(line: str, what: str) -> None:
    """A bad line is named with file and line and left out, and the others count."""
    found, problems = parse_allows(f"{line}\nquay.io/a/b # x\n", "allows.txt")
    assert [entry.text for entry in found] == ["quay.io/a/b"]
    assert str(problems[0]).startswith("allows.txt:1: ")
    assert what in str(problems[0])


def test_what_a_wildcard_covers_is_taken_out() -> None:
    """The lines of vector 8.6 become the lines that the public mirror's script leaves."""
    assert formatted("\n".join(VECTOR_FORMAT), "allows").split() == [
        *("docker.io/*", "docker.io/foo/**", "docker.io/library/*", "docker.io/x/y/z", "ghcr.io/a/b")
    ]
    assert formatted("gcr.io/a/**\ngcr.io/**\ngcr.io/*\nk/*\nk/**\n", "allows") == "docker.io/k/**\ngcr.io/**\n"


def test_lines_are_sorted_by_bytes() -> None:
    """The order is that of `LC_ALL=C sort`: upper case first, then `-`, `.`, `/`, `:`."""
    lines = ["a.io/b:v1", "a.io/b/c", "a.io/b-c", "a.io/b.c", "a.io/b:V1", "a.io/b", "a.io/b0"]
    assert formatted("\n".join(lines)).split() == [
        *("a.io/b", "a.io/b-c", "a.io/b.c", "a.io/b/c", "a.io/b0", "a.io/b:V1", "a.io/b:v1")
    ]


def test_spelling_is_canonical() -> None:
    """Short names are written out, hosts in lower case, ends of lines as on Unix; what is the same is written once."""
    text = "\ufeffnginx\r\n\r\nQuay.io/a/b:v1\r\ndocker.io/nginx\r\nindex.docker.io/library/nginx\r\n"
    assert formatted(text) == "docker.io/library/nginx\nquay.io/a/b:v1\n"
    assert (
        formatted("nginx:1\\.2[78]\nnginx\n", "patterns")
        == "docker.io/library/nginx\ndocker.io/library/nginx:1\\.2[78]\n"
    )


@pytest.mark.parametrize(
    ("form", "line", "text"),
    [
        ("tags", f"k8s.gcr.io/pause:3.9@{DIGEST}", f"registry.k8s.io/pause:3.9@{DIGEST}"),
        ("patterns", "k8s.gcr.io/pause:3.*", "registry.k8s.io/pause:3.*"),
        ("daily", "k8s.gcr.io/pause", "registry.k8s.io/pause"),
        ("allows", "k8s.gcr.io/pause", "registry.k8s.io/pause"),
        ("allows", "k8s.gcr.io/**", "registry.k8s.io/**"),
        ("allows", "k8s.gcr.io/a/*", "registry.k8s.io/a/*"),
    ],
)
def test_aliases_of_registries(form: ListForm, line: str, text: str) -> None:
    """A registry that has another name now is written by it, in every form."""

    def canonical(found: Reference) -> Reference:
        return Reference.parse(str(found).replace("k8s.gcr.io", "registry.k8s.io"))

    assert format_list(line, "f.txt", form, canonical).text == f"{text}\n"


def test_comments_stay_with_their_lines() -> None:
    """A comment moves with the line below it; the one about the file stays at the top, the last one at the end."""
    text = (
        "# about the file\n# and more\n\n# pinned by hand\n# until May\nquay.io/z/z:1 # z\n\n# about a\n\nquay.io/a/a\n"
        "quay.io/z/z:1 # again\n# the end\n"
    )
    assert formatted(text) == (
        "# about the file\n# and more\n\n# about a\nquay.io/a/a\n# pinned by hand\n# until May\n# again\n"
        "quay.io/z/z:1 # z\n# the end\n"
    )


def test_comments_of_what_is_covered_move() -> None:
    """What is said about a line that a wildcard covers is kept, above the wildcard that is left."""
    text = "# why b\nghcr.io/a/b\nghcr.io/a/*\nghcr.io/** # all\n"
    assert formatted(text, "allows") == "# why b\nghcr.io/** # all\n"


def test_a_list_of_comments_alone() -> None:
    """Comments without an image stay as they are."""
    assert formatted("# a\n\n# b\n") == "# a\n\n# b\n"
    assert formatted("# a\n\n") == "# a\n"
    assert formatted("") == ""


LINES = st.lists(
    st.sampled_from(
        ["", "# a", "# b", "nginx", "docker.io/library/nginx # c", "a/b", "quay.io/a", "quay.io/a#b", "quay.io/a # d"]
    )
    | st.sampled_from(["quay.io/**", "quay.io/*", "docker.io/*", "a/*", "a/b:1", " \t# e\x0b", "#", "  #f #g"]),
    max_size=12,
)


@given(LINES, st.sampled_from(["tags", "patterns", "daily", "allows"]))
def test_formatting_twice_is_once(lines: list[str], form: ListForm) -> None:
    """What was formatted is formatted, every line is there once, and no comment gets lost."""
    once = format_list("\n".join(lines), "f.txt", form, unchanged)
    twice = format_list(once.text, "f.txt", form, unchanged)
    assert (twice.text, twice.problems) == (once.text, ())
    written = [line.partition(" #")[0] for line in once.text.split("\n") if line and not line.startswith("#")]
    assert written == sorted(set(written), key=str.encode)
    if not once.problems:
        comments = {line.strip(" \t") for line in lines if line.strip(" \t").startswith("#")}
        assert comments <= set(once.text.split("\n"))
