"""Regular expressions of strangers: RE2's syntax, bounded, with errors that name the place."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mirrord.errors import UsageError
from mirrord.patterns import LONGEST, Pattern, compiled


@pytest.mark.parametrize(
    ("pattern", "text", "full", "somewhere"),
    [
        ("1|2", "12", False, True),  # each alternative must match all of the text
        ("1|2", "2", True, True),
        (r"v[0-9.]+", "v1.2", True, True),
        (r"[0-9.]+", "v1.2", False, True),
        ("1$", "1\n", False, False),  # Python's `$` matches before the last newline
        (r"\d", "٣", False, False),  # Python's `\d` takes the digits of all scripts
        (r"\pL", "é", True, True),
        (r"\Qa.b\E", "a.b", True, True),
        (r"(?<n>a)\z", "a", True, True),
        ("a(?i)b", "aB", True, True),
        ("[[:alpha:]]", "x", True, True),
        ("", "", True, True),
        (".", "\udc80", True, True),  # half a surrogate pair
    ],
)
def test_the_syntax_is_that_of_go(pattern: str, text: str, full: bool, somewhere: bool) -> None:
    """A pattern means what it means in Go, also where Python's `re` refuses it or reads it differently."""
    assert (compiled(pattern).fullmatch(text), compiled(pattern).search(text)) == (full, somewhere)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("[a][", "missing ] at character 4 ([)"),
        ("(a", "missing )"),
        ("a)", "unexpected )"),
        ("ab**", "bad repetition operator at character 3 (**)"),
        ("a{1001}", "invalid repetition size at character 2 ({1001})"),
        ("x[z-a]", "invalid character class range at character 3 (z-a)"),
        ("a\\", "trailing \\"),
        (r"(a)\1", r"invalid escape sequence at character 4 (\1); RE2 has no look-around and no backreferences"),
        ("(?=a)", "invalid perl operator at character 1 ((?=); RE2 has no look-around and no backreferences"),
        (r"((\pL{9}){9}){9}", "pattern too large - compile failed"),
        (r"(.?){100}" * 40, "pattern too large - compile failed"),  # would need 5 ms for a tag
    ],
)
def test_a_wrong_pattern_is_explained(pattern: str, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The error has the pattern and the position of what is wrong in it, and RE2 prints nothing itself."""
    with pytest.raises(UsageError) as caught:
        compiled(pattern)
    assert str(caught.value) == f"not a regular expression: {pattern[:80]!r}; {reason}"
    assert capfd.readouterr() == ("", "")


def test_a_pattern_is_not_longer_than_a_page() -> None:
    """A pattern has a longest length, and the message has only its beginning."""
    assert compiled("a" * LONGEST).fullmatch("a" * LONGEST)
    with pytest.raises(UsageError, match=r"'a{40}'… has more than 4096 characters"):
        compiled("a" * (LONGEST + 1))


def test_patterns_are_values() -> None:
    """Two patterns of the same text are equal; what was compiled is not part of them."""
    assert compiled("a+") == compiled("a+") != compiled("a*")
    assert repr(compiled("a+")) == "Pattern(text='a+')"
    assert isinstance(compiled("a+"), Pattern)


def test_only_a_pattern_loads_the_library() -> None:
    """Importing the module costs nothing of RE2; the first pattern loads it."""
    program = (
        "import sys, mirrord.patterns as p; before = 're2' in sys.modules; p.compiled('a');"
        " print(before, 're2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"
