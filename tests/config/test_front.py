"""`front:` as the program reads it: what it means, and one line for each mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from mirrord.config.front import check_fronts
from mirrord.config.load import load_folder
from mirrord.errors import ConfigError
from mirrord.syncer.port import Syncer, load_syncers
from mirrord.syncer.through import PullThrough
from mirrord.syncer.values import FrontRules
from mirrord.syncers.image.spec.front import FrontKeys
from mirrord.syncers.image.upstream.allow_file import check_lists

THROUGH = PullThrough(lambda: FrontKeys, FrontKeys.hosts, check_lists, nullcontext)  # type: ignore[arg-type]  # never opened
INSTALLED = load_syncers()
SYNCERS: Mapping[str, Syncer] = {**INSTALLED, "image": replace(INSTALLED["image"], through=THROUGH)}


def rules(folder: Path, text: str) -> FrontRules:
    """Return what a configuration says about the front of images."""
    (folder / "main.yaml").write_text(text)
    return load_folder(folder, SYNCERS, {}).fronts["image"]


def keys(folder: Path, text: str) -> Any:
    """Return the keys of `front.image` with an upstream and this text, key by key."""
    lines = "".join(f"\n    {line}" for line in text.split("; "))
    return rules(folder, f"front:\n  image:\n    upstreams: [docker.io]{lines}\n").keys


def problems(folder: Path, text: str, *, syncers: Mapping[str, Syncer] = SYNCERS) -> list[str]:
    """Return what is wrong, without the folder."""
    (folder / "main.yaml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_folder(folder, syncers, {})
    return [problem.replace(f"{folder}/", "") for problem in refused.value.problems]


def test_every_key_of_the_example(tmp_path: Path) -> None:
    """The example of the manual is read: sizes in bytes, durations in seconds, hosts in one spelling."""
    found = rules(
        tmp_path,
        """\
front:
  image:
    upstreams: [docker.io, "Quay.io:443", {ghcr.io: {credentials: true}}, {"reg.example:5000": }]
    allow: /etc/mirrord/allows.txt
    deny: [docker.io/bad/**]
    message: "not on the list, see https://m.example/why"
    fresh: 1h30m
    tags: false
    cache: {size: 200GiB, unused: 30d, pinned: [registry.k8s.io/pause]}
    limits:
      pulls: 10
      pulls_a_minute: 20
      bytes: {amount: 1GiB, each: 2h}
      bandwidth: {blob: 2MiB/s, all: 40MiB/s}
      exempt: [10.0.0.0/8, "2001:db8::/32", 192.0.2.7]
""",
    )
    front = found.keys
    assert found.upstreams == {"docker.io": False, "quay.io": False, "ghcr.io": True, "reg.example:5000": False}
    assert found.origin.file == str(tmp_path / "main.yaml")
    assert (front.allow, front.deny, front.fresh, front.tags) == (
        "/etc/mirrord/allows.txt",
        ("docker.io/bad/**",),
        5400.0,
        False,
    )
    assert front.message == "not on the list, see https://m.example/why"
    assert (front.cache.size, front.cache.unused, front.cache.pinned) == (
        200 * 2**30,
        30 * 86400.0,
        ("registry.k8s.io/pause",),
    )
    limits = front.limits
    assert (limits.pulls, limits.pulls_a_minute, limits.bytes.amount, limits.bytes.each) == (10, 20, 2**30, 7200.0)
    assert (limits.bandwidth.blob, limits.bandwidth.all) == (2.0 * 2**20, 40.0 * 2**20)
    assert limits.exempt == tuple(map(ip_network, ("10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32")))


def test_what_is_not_written(tmp_path: Path) -> None:
    """Two keys are enough: tags are fresh for an hour, 20 GiB are kept for 30 days, and nobody is limited."""
    front = keys(tmp_path, "allow: [docker.io/library/*]")
    assert (front.allow, front.deny, front.message, front.fresh, front.tags) == (
        ("docker.io/library/*",),
        (),
        "",
        3600.0,
        True,
    )
    assert (front.cache.size, front.cache.unused, front.cache.pinned) == (20 * 2**30, 30 * 86400.0, ())
    limits = front.limits
    assert (limits.pulls, limits.pulls_a_minute, limits.bytes, limits.bandwidth, limits.exempt) == (
        None,
        None,
        None,
        None,
        (),
    )


def test_without_the_section_there_are_no_fronts(tmp_path: Path) -> None:
    """A configuration of today has no fronts."""
    (tmp_path / "main.yaml").write_text("settings: {}\n")
    assert load_folder(tmp_path, SYNCERS, {}).fronts == {}


def test_a_host_that_only_a_front_asks_is_used(tmp_path: Path) -> None:
    """An entry of `hosts:` for an upstream is not reported as unused; one for another host is."""
    (tmp_path / "main.yaml").write_text(
        "hosts: {quay.io: {requests: 4}, other.example: {requests: 4}}\n"
        "front: {image: {upstreams: [quay.io], allow: [quay.io/**]}}\n"
    )
    notices = load_folder(tmp_path, SYNCERS, {}).notices
    assert [notice.partition("; ")[0].replace(f"{tmp_path}/", "") for notice in notices] == [
        "main.yaml:1: hosts.other.example: no mirror and no target names this host"
    ]


FRONT = "front:\n  image:\n    upstreams: [docker.io]\n    allow: [docker.io/library/*]\n"
MISTAKES = {
    "front: {imgae: {}}": "1: front.imgae: 'imgae' is not a kind; did you mean 'image'?",
    "front: {git: {}}": "1: front.git: 'git' cannot be pulled through; use one of: image",
    "front: [image]": "1: front: is not a mapping; write a kind and its keys, such as image: {upstreams:"
    " [quay.io], allow: [quay.io/*]}",
    "front: {image: {upstreams: [a.example]}}": "1: front.image.allow: is missing; write allow:"
    " /etc/mirrord/allows.txt",
    "front: {image: {allow: [a.example/b]}}": "1: front.image.upstreams: is missing; write upstreams:"
    " [docker.io, quay.io]",
    "front: {image: {allow: [a.example/b], upstreams: []}}": "1: front.image.upstreams: is empty; write at"
    " least one, such as [docker.io, quay.io]",
    "front: {image: {allow: [a.example/b], upstreams: ['https://a.example']}}": "1: front.image.upstreams: is a"
    " URL, not a host; write a.example",
    "front: {image: {allow: [a.example/b], upstreams: [a.example/team]}}": "1: front.image.upstreams: has a"
    " path; write only the host: a.example",
    "front: {image: {allow: [a.example/b], upstreams: [A.example, a.example]}}": "1: front.image.upstreams:"
    " a.example is listed twice; keep one of them",
    "front: {image: {allow: [a.example/b], upstreams: [{a.example: {credential: true}}]}}": "1:"
    " front.image.upstreams: a.example knows one key; write {a.example: {credentials: true}}, the rest under hosts:",
    "front: {image: {allow: 'docker.io/library/*', upstreams: [docker.io]}}": "1: front.image.allow:"
    " 'docker.io/library/*' is a line, not a file; write a list: [docker.io/library/*]",
    "front: {image: {allow: 'https://a.example/allows.txt', upstreams: [docker.io]}}": "1: front.image.allow:"
    " 'https://a.example/allows.txt' is a URL; download the list, and write the path of the file",
    f"{FRONT}    allows: x": "5: front.image.allows: unknown key; write allow: [docker.io/library/*], or the path"
    " of a file",
    f"{FRONT}    deny: [docker.io/library/nginx:1]": "5: front.image.deny[0]: a line names a repository without"
    " tag or digest; write docker.io/library/nginx",
    f"{FRONT}    fresh: 1 hour": "5: front.image.fresh: '1 hour' is not a duration; write a number with s, m, h"
    " or d, such as 90s, 15m, 6h, 1d",
    f"{FRONT}    cache: {{size: 1MiB}}": "5: front.image.cache.size: is outside 64MiB to 1024TiB; write"
    " something between them",
    f"{FRONT}    cache: {{ttl: 30d}}": "5: front.image.cache.ttl: unknown key; write unused: 30d",
    f"{FRONT}    limits: {{exempt: [10.1.2.3/8]}}": "5: front.image.limits.exempt[0]: '10.1.2.3/8' has an"
    " address within the network; write 10.0.0.0/8",
    f"{FRONT}    limits: {{exempt: [office]}}": "5: front.image.limits.exempt[0]: 'office' is not a network;"
    " write one such as 10.0.0.0/8, or an address",
    f"{FRONT}    limits: {{bytes: 1GiB}}": "5: front.image.limits.bytes: '1GiB' is not a mapping; write a"
    " mapping, such as {amount: 1GiB, each: 2h}",
    f"{FRONT}    limits: {{bandwidth: {{client: 1MiB/s}}}}": "5: front.image.limits.bandwidth.client: unknown"
    " key; write blob: for each blob of a client",
    f"{FRONT}    limits: {{pulls: 0}}": "5: front.image.limits.pulls: '0' is not allowed; write a value greater"
    " than or equal to 1",
    f'{FRONT}    message: "two\\nlines"': "5: front.image.message: has characters that cannot be displayed;"
    " write one line of text",
    "front: {image: {allow: [ghcr.io/a/b, 'ghcr.io/team/*'], upstreams: [{ghcr.io: {credentials: true}}]}}": "1:"
    " front.image.allow[1]: ghcr.io/team/* has a wildcard, and ghcr.io is read with our credentials; name each"
    " repository, or remove `credentials: true`",
    "front: {image: {allow: [docker.io/a/b], upstreams: docker.io}}": "1: front.image.upstreams: 'docker.io' is not a"
    " list; write [docker.io]",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_with_the_fix(tmp_path: Path, text: str) -> None:
    """Each mistake is one line that names the file, the line, the key and what to write."""
    assert problems(tmp_path, f"{text}\n") == [f"main.yaml:{MISTAKES[text]}"]


def test_without_a_kind_that_can(tmp_path: Path) -> None:
    """Where no installed kind has a front for others' content, the section says to remove it."""
    bare = {kind: replace(syncer, through=None) for kind, syncer in SYNCERS.items()}
    found = problems(tmp_path, "front: {image: {}}\n", syncers=bare)
    assert found == ["main.yaml:1: front.image: 'image' cannot be pulled through; remove it"]


FILED = "names: {aliases: {k8s.gcr.io: registry.k8s.io}}\nfront: {image: {upstreams: UPSTREAMS, allow: allows.txt}}\n"


def checked(folder: Path, text: str, *lines: str) -> list[str]:
    """Return what `check` says about a list: notices, or problems behind a `!`; without the folder."""
    (folder / "main.yaml").write_text(text)
    (folder / "allows.txt").write_text("".join(f"{line}\n" for line in lines))
    found = load_folder(folder, SYNCERS, {})
    try:
        said: Sequence[str] = check_fronts(found.fronts, SYNCERS, found.names)["image"].notices
    except ConfigError as error:
        said = [f"!{problem}" for problem in error.problems]
    return [one.replace(f"{folder}/", "") for one in said]


def test_check_reads_the_file(tmp_path: Path) -> None:
    """`check` names each bad line, an empty list, and lines without effect; aliases apply to lines."""
    text = FILED.replace("UPSTREAMS", "[registry.k8s.io, {ghcr.io: {credentials: true}}]")
    assert checked(tmp_path, text, "k8s.gcr.io/**", "# comment", "ghcr.io/a/b") == []
    bad = checked(tmp_path, text, "k8s.gcr.io/pause:3.9", "a b", "ghcr.io/team/*", "registry.k8s.io/**")
    wild = "ghcr.io/team/* has a wildcard, and ghcr.io is read with our credentials; name each repository, or remove"
    assert bad == [
        "!allows.txt:1: a line names a repository without tag or digest; write registry.k8s.io/pause",
        "!allows.txt:2: a blank stands between two words; write one image a line, and ` # ` before a comment",
        f"!allows.txt:3: {wild} `credentials: true`",
    ]
    assert checked(tmp_path, text, "# nothing") == ["!allows.txt: allows nothing; write one repository a line"]
    idle = "docker.io/* is of a registry that is not under upstreams:, so it has no effect"
    assert checked(tmp_path, text, "ghcr.io/a/b", "docker.io/*") == [f"allows.txt:2: {idle}"]
    more = f"allows.txt:1: {idle}; the same goes for 1 more line"
    assert checked(tmp_path, text, "docker.io/*", "quay.io/**") == [more]


def test_check_where_the_file_is_not(tmp_path: Path) -> None:
    """A list that is not on this machine is a notice, as it may be on the one that serves."""
    (tmp_path / "main.yaml").write_text(FILED.replace("UPSTREAMS", "[docker.io]"))
    found = load_folder(tmp_path, SYNCERS, {})
    (front,) = check_fronts(found.fronts, SYNCERS, found.names).values()
    assert [one.replace(f"{tmp_path}/", "") for one in front.notices] == [
        "allows.txt: does not exist; make it, or correct the path; until then nothing may be pulled through"
    ]


def test_an_empty_list_names_its_line(tmp_path: Path) -> None:
    """`allow: []` allows nothing, and is named with file, line and key."""
    text = "front:\n  image:\n    upstreams: [docker.io]\n    allow: []\n"
    assert checked(tmp_path, text) == ["!main.yaml:4: front.image.allow: allows nothing; write one repository a line"]


def test_aliases_apply_to_upstreams(tmp_path: Path) -> None:
    """An upstream may be listed by its alias, and is then the registry behind it; its own entry counts before that."""
    names = "names: {aliases: {corp.example.com: 'registry.corp.example.com:5000', k8s.gcr.io: registry.k8s.io}}\n"
    front = "front: {image: {upstreams: UPSTREAMS, allow: [corp.example.com/team/app]}}\n"
    text = names + front
    assert rules(tmp_path, text.replace("UPSTREAMS", "[corp.example.com, k8s.gcr.io]")).upstreams == {
        "registry.corp.example.com:5000": False,
        "registry.k8s.io": False,
    }
    assert checked(tmp_path, text.replace("UPSTREAMS", "[corp.example.com]")) == []
    both = text.replace("UPSTREAMS", "[{k8s.gcr.io: {credentials: true}}, registry.k8s.io]")
    assert rules(tmp_path, both).upstreams == {"registry.k8s.io": False}
    ours = text.replace("UPSTREAMS", "[{corp.example.com: {credentials: true}}]")
    ours = ours.replace("[corp.example.com/team/app]", "['registry.corp.example.com:5000/team/*']")
    wild = "!main.yaml:2: front.image.allow[0]: registry.corp.example.com:5000/team/* has a wildcard"
    assert [one.partition(",")[0] for one in checked(tmp_path, ours)] == [wild]


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    """Notices: an upstream that no path can name, a host of ours and a pin for registries that are no upstreams."""
    text = (
        "names: {hosts: {hub.m.example: docker.io, quay.m.example: quay.io, m.example: '*'}}\n"
        "front:\n  image:\n    upstreams: [docker.io, 'registry.corp:5000', 'localhost:5001']\n"
        "    allow: [docker.io/**]\n    cache:\n      pinned: [docker.io/library/alpine, quay.io/a/b, quay.io/a/c]\n"
    )
    key = "main.yaml:4: front.image.upstreams"
    alone, ns = "so only containerd can pull from it, which sends the registry as ns=", "names: {aliases: "
    local = "which is not under upstreams:, so clients get only what is in local; add it, or remove the host"
    idle = "quay.io/a/b is of a registry that is not under upstreams:, so nothing of it is pulled; the same goes for 1"
    assert checked(tmp_path, text) == [
        f"main.yaml:7: front.image.cache.pinned[1]: {idle} more line",
        f"{key}: no path can name registry.corp:5000, {alone}; write {ns}{{registry.corp: 'registry.corp:5000'}}}}",
        f"{key}: no path can name localhost:5001, {alone}; write {ns}{{registry.example.com: 'localhost:5001'}}}}",
        f"{key}: quay.m.example of names.hosts stands for quay.io, {local}",
    ]
    for names in (
        "aliases: {corp.m.example: 'registry.corp:5000'}",
        "hosts: {corp.m.example: 'registry.corp:5000/team'}",
    ):
        front = "{upstreams: ['registry.corp:5000'], allow: ['registry.corp:5000/**']}"
        assert checked(tmp_path, f"names: {{{names}}}\nfront: {{image: {front}}}\n") == []


def test_credentials_that_are_not_there(tmp_path: Path) -> None:
    """An upstream with `credentials: true` that `hosts:` has no login for is a notice, as docker's own may have one."""
    front = "front: {image: {upstreams: [{ghcr.io: {credentials: true}}], allow: [ghcr.io/a/b]}}\n"
    (tmp_path / "main.yaml").write_text(front)
    lacks = "main.yaml:1: front.image.upstreams: hosts: has no auth for ghcr.io, so docker's own login of this user is"
    found = load_folder(tmp_path, SYNCERS, {}).notices
    assert [one.replace(f"{tmp_path}/", "") for one in found] == [f"{lacks} used, or none"]
    (tmp_path / "main.yaml").write_text(f"hosts: {{GHCR.io: {{auth: {{username: a, password: {{env: X}}}}}}}}\n{front}")
    assert load_folder(tmp_path, SYNCERS, {"X": "secret"}).notices == ()
