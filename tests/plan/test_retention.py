"""Which names of a repository stay."""

from __future__ import annotations

from mirrord.model.digest import Digest
from mirrord.model.keep import EVERYTHING, Keep
from mirrord.plan.retention import DAY, Clients, expired, not_kept, retained

NOW = 1_800_000_000.0


def digest(name: str) -> Digest:
    return Digest.of(name.encode())


def gone(ages: dict[str, float], keep: Keep, clients: Clients = Clients(), **same: str) -> set[str]:  # noqa: B008 - frozen
    """Return which of these names go, given how many days ago each came."""
    tags = {name: digest(same.get(name.replace("-", "_"), name)) for name in ages}
    tagged = {name: int(NOW - age * DAY) for name, age in ages.items()}
    return {name for name, verdict in retained(tags, tagged, keep, NOW, clients).items() if not verdict.stays}


def test_without_rules_everything_stays() -> None:
    """Nothing goes unless somebody said what may, however old it is."""
    assert gone({"main-g1234567": 5000, "1.0": 5000}, EVERYTHING) == set()
    assert expired({digest("x"): 0}, EVERYTHING, NOW) == {}


def test_the_newest_builds_of_each_branch() -> None:
    """Of each branch so many builds stay, by when they came; one branch does not push out another's."""
    builds = {f"main-g123456{n}": float(n) for n in range(5)} | {f"release-g123456{n}": 900.0 + n for n in range(2)}
    assert gone(builds, Keep(newest=2)) == {"main-g1234562", "main-g1234563", "main-g1234564"}


def test_versions_are_ordered_as_versions() -> None:
    """The newest versions of a variant stay, though older ones came later."""
    ages = {"1.9": 1.0, "1.10": 9.0, "1.11": 9.0, "1.9-alpine": 9.0, "1.8-alpine": 1.0}
    assert gone(ages, Keep(newest=2)) == {"1.9"}


def test_moving_names_stay_and_what_they_name() -> None:
    """A branch or `latest` never goes, nor does the build that it stands for."""
    ages = {"main": 900.0, "latest": 900.0, "main-g1234567": 900.0, "main-g7654321": 800.0}
    assert gone(ages, Keep(days=1), main="main-g1234567") == {"main-g7654321"}


def test_each_rule_is_a_reason_to_stay() -> None:
    """A name goes when no rule keeps it: it is not among the newest, too old, and nobody used it."""
    ages = {"1.0": 100.0, "1.1": 100.0, "1.2": 5.0, "1.3": 100.0}
    used = Clients(used=lambda one: NOW - DAY if one == digest("1.1") else 0.0)
    assert gone(ages, Keep(newest=1, days=10, unused=30 * DAY), used) == {"1.0"}
    assert gone(ages, Keep(newest=1)) == {"1.0", "1.1", "1.2"}
    assert gone(ages, Keep(days=10)) == {"1.0", "1.1", "1.3"}
    assert gone(ages, Keep(unused=30 * DAY), used) == {"1.0", "1.3"}


def test_what_is_being_read_stays() -> None:
    """Whatever the rules: an image of which a client asked for a part a moment ago stays."""
    assert gone({"1.0": 100.0, "1.1": 0.0}, Keep(newest=1), Clients(reading=lambda _: True)) == set()
    assert expired({digest("x"): 0}, Keep(days=1), NOW, Clients(reading=lambda _: True)) == {}


def test_unknown_ages_prove_nothing() -> None:
    """A name of which nobody knows when it came stays."""
    verdicts = retained({"1.0": digest("a"), "1.1": digest("b")}, {"1.1": int(NOW)}, Keep(newest=1), NOW)
    assert verdicts["1.0"].stays


def test_old_targets_of_moved_names() -> None:
    """What a name stood for before it moved goes after `days`; without `days` at once, an hour after it moved."""
    lost = {digest("old"): int(NOW - 20 * DAY), digest("new"): int(NOW - 60)}
    assert expired(lost, Keep(days=10), NOW).keys() == {digest("old")}
    assert expired(lost, Keep(days=30), NOW) == {}
    assert expired(lost, Keep(newest=3), NOW).keys() == {digest("old")}


def test_old_targets_that_nobody_is_known_to_have_used() -> None:
    """What was never asked for, where nobody knows when it came, counts for `unused` from when it lost its name."""
    lost, keep = {digest("old"): int(NOW - 40 * DAY), digest("new"): int(NOW - 20 * DAY)}, Keep(unused=30 * DAY)
    assert expired(lost, keep, NOW).keys() == {digest("old")}
    assert expired(lost, keep, NOW, Clients(used=lambda _: NOW - 31 * DAY)).keys() == lost.keys()


def test_what_was_dropped_comes_back_when_the_rules_allow() -> None:
    """A dropped name is not wanted while it would go again at once; with other rules it is, and with other content."""
    tags, tagged = {"1.2": digest("2"), "1.1": digest("1")}, {"1.2": int(NOW), "1.1": int(NOW)}
    dropped = {"1.0": (digest("0"), int(NOW))}
    assert not_kept(tags, tagged, dropped, Keep(newest=2), NOW).keys() == {"1.0"}
    assert not_kept(tags, tagged, dropped, Keep(newest=3), NOW) == {}
    assert not_kept(tags, tagged, dropped, EVERYTHING, NOW) == {}


def test_ten_thousand_names_are_decided_in_one_pass() -> None:
    """Each name is asked about once."""
    asked = list[Digest]()

    def used(one: Digest) -> float:
        asked.append(one)
        return 0.0

    ages = {f"main-g{n:07x}": 100.0 for n in range(10_000)}
    assert len(gone(ages, Keep(newest=20, unused=DAY), Clients(used=used))) == 9_980
    assert len(asked) == 9_980
