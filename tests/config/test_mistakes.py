"""Mistakes that people make who come from docker, helm, git or another mirroring tool, and what they are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.config.load import load_folder
from mirrord.errors import ConfigError
from mirrord.syncer.port import load_syncers

TARGETS = """targets:
  ghcr: {kind: image, to: ghcr.io/team}
  shop: {kind: helm, to: "oci://ghcr.io/charts"}
  one: {kind: git, to: "https://git.example/team/one.git"}
  tagged: {kind: image, to: "ghcr.io/team/app:v1"}
mirrors:
  - {name: used, kind: image, from: {repository: quay.io/a/used, tags: [v1]}, to: [ghcr]}
"""
LINE = TARGETS.count("\n") + 1
IMAGE = "{{name: m, kind: image, from: {}, to: local}}"
TAGS = "{{name: m, kind: image, from: {{repository: a.example/x, tags: {}}}, to: local}}"
AS = "{{name: m, kind: image, as: {}, from: {{repository: a.example/x}}, to: local}}"
HELM = "{{name: m, kind: helm, from: {}, to: local}}"
GIT = "{{name: m, kind: git, from: {}, to: local}}"
SOURCE = "from: {repository: a.example/x}"
NO_TAG = "matches no tag; write a tag such as v1.2, or a glob with `*`, `?` and `[...]`; version ranges, regular"
MORE = "; more may follow once this is mended"
PLATFORMS = "unknown key; write platforms: [linux/amd64, linux/arm64] beside `from:`"

MISTAKES = [
    (
        IMAGE.format("docker.io/library/nginx:1.29"),
        'from: is a mapping for images; write {repository: docker.io/library/nginx, tags: ["1.29"]}',
    ),
    (IMAGE.format("'docker://quay.io/a/b:v1'"), 'write {repository: quay.io/a/b, tags: ["v1"]}'),
    (IMAGE.format("'oci:/srv/build'"), "write {layout: /srv/build}"),
    (IMAGE.format("'docker-archive:/srv/app.tar'"), "write {archive: /srv/app.tar}"),
    (IMAGE.format("/srv/build"), "write {layout: /srv/build}"),
    (IMAGE.format("registry.example:5000/a"), "write {repository: registry.example:5000/a}"),
    (
        IMAGE.format("{repository: a.example/x, tag: v1}"),
        "tag needs layout or archive, and does not fit repository; write tags: ['v1']",
    ),
    (
        IMAGE.format("{repository: 'a.example/x:3', tags: [v1]}"),
        "m.from.repository: a.example/x:3 has a tag or digest, and `tags` is given; keep one of them",
    ),
    *(
        (IMAGE.format(f"{{repository: '{host}'}}"), f"{host}: is a registry without a repository; write {host}/NAME")
        for host in ("127.0.0.1:5000", "localhost", "registry.example", "registry.example:5000")
    ),
    (
        IMAGE.format("{registry: index.docker.io, repositories: ['ngin*']}"),
        "from.repositories: ngin*: Docker Hub lists one namespace at a time; write it in front of the glob",
    ),
    (
        IMAGE.format("{registry: quay.io, repositories: [a/b], exclude: ['*/c']}"),
        "from.exclude: unknown key; it goes into `tags:` or `repositories:`, written as a mapping",
    ),
    (
        IMAGE.format("{registry: quay.io, repositories: {matches: ['a/*']}}"),
        "from.repositories.matches: unknown key; did you mean 'match'?",
    ),
    (
        IMAGE.format("{registry: 'https://quay.io', repositories: [a/b]}"),
        "from.registry: 'https://quay.io': an image reference has no https:// in front; leave it out",
    ),
    (IMAGE.format("{list: ''}"), "from.list: is empty; write the path of a file, such as images.txt"),
    (
        IMAGE.format("{list: 'https://a.example/x.txt'}"),
        "from.list: 'https://a.example/x.txt' is a URL; download the list, and write the path of the file",
    ),
    (IMAGE.format("{list: [a.txt]}"), "from.list: a list is not a path; write a path, such as images.txt"),
    (IMAGE.format("{layout: [a]}"), "from.layout: a list is not a path; write a path, such as /srv/images"),
    (TAGS.format("['>=1.2 <2']"), f"from.tags[0]: '>=1.2 <2' {NO_TAG} expressions and exclusions go into a mapping"),
    (TAGS.format("['^v[0-9]+$']"), f"from.tags[0]: '^v[0-9]+$' {NO_TAG} expressions"),
    (TAGS.format("['!latest']"), f"from.tags[0]: '!latest' {NO_TAG} expressions"),
    (TAGS.format("v1"), """from.tags: 'v1' is not a list; write a list, such as ["1.29", "1.2*"]"""),
    (TAGS.format("{newst: 3}"), "from.tags.newst: unknown key; did you mean 'newest'?"),
    (
        TAGS.format("{match: ['/v[/']}"),
        "from.tags.match[0]: not a regular expression: 'v['; missing ] at character 2 ([)",
    ),
    (TAGS.format("{exclude: ['/a/', '/x']}"), "from.tags.exclude[1]: '/x' matches no tag; write a tag, a glob with"),
    (TAGS.format("{match: 'v*'}"), """from.tags.match: 'v*' is not a list; write a list, such as ["v*", "/[0-9.]+-"""),
    (TAGS.format("{match: []}"), "from.tags.match: is empty; write at least one, such as"),
    (TAGS.format("{versions: '>=x1'}"), "from.tags.versions: not a range of versions: '>=x1'; write it as in"),
    (TAGS.format("{newest: 0}"), "from.tags.newest: '0' is not allowed; write a value greater than or equal to 1"),
    (TAGS.format("{newest: 1, by: size}"), "from.tags.by: 'size' is not allowed; use one of: date, version"),
    (TAGS.format("{of: minor}"), "from.tags: of needs newest; write that too, such as newest: 3, or remove of"),
    (TAGS.format("{by: date}"), "from.tags: by needs newest; write that too"),
    (TAGS.format("{min_age: 3}"), "from.tags.min_age: '3' is not a duration; write a number with s, m, h or d"),
    (TAGS.format("{min_age: 3d, max_age: 1d}"), "from.tags: max_age is not above min_age, so that no tag has such an"),
    (TAGS.format("{}"), 'from.tags: tags is empty; write at least one key, such as match: ["*"]'),
    (
        IMAGE.format("{layout: /x, tags: {newest: 3}}"),
        "tags needs repository, registry or list, and does not fit",
    ),
    (IMAGE.format("{repository: a.example/x, tags: {newest: 3}, names: [v1]}"), "m.from: names needs a single tag"),
    (IMAGE.format("{repository: 'a.example/x:3', tags: {newest: 3}}"), "a.example/x:3 has a tag or digest, and `tags`"),
    (f"{{name: m, kind: image, platform: linux/amd64, {SOURCE}, to: local}}", f"m.platform: {PLATFORMS}"),
    (f"{{name: m, kind: image, platforms: [amd64], {SOURCE}, to: local}}", "m.platforms: 'amd64' is not a platform;"),
    (f"{{name: m, kind: image, platforms: [linux/x86_64], {SOURCE}, to: local}}", "write linux/amd64"),
    (f"{{name: m, kind: image, platforms: [], {SOURCE}, to: local}}", "m.platforms: is empty; write at least one"),
    (
        f"{{name: m, kind: image, platforms: linux/amd64, {SOURCE}, to: local}}",
        "m.platforms: 'linux/amd64' is not a list;",
    ),
    (IMAGE.format("{repository: a.example/x, platforms: [linux/amd64]}"), f"m.from.platforms: {PLATFORMS}"),
    (
        f"{{name: m, kind: image, referrers: true, {SOURCE}, to: local}}",
        "m.referrers: unknown key; leave it out: signatures and all other referrers are copied with their images",
    ),
    (
        IMAGE.format("{repository: a.example/x, signatures: {copy: false}}"),
        "m.from.signatures: unknown key; it goes beside `from:`",
    ),
    (
        f"{{name: m, kind: image, signatures: {{key: /a.pub}}, {SOURCE}, to: local}}",
        "m.signatures.key: unknown key; write require: {key: /etc/mirrord/release.pub}",
    ),
    (f"{{name: m, kind: image, tags: [v1], {SOURCE}, to: local}}", "m.tags: unknown key; it goes below `from:`"),
    (AS.format("Team/App"), "m.as: 'Team/App' is not an image name; write lower-case words separated by `/`"),
    (
        AS.format("'app:v1'"),
        "m.as: 'app:v1' is not an image name; write lower-case words separated by `/`, such as team/app, without a tag",
    ),
    (
        HELM.format("https://a.example/charts/index.yaml"),
        (
            "m.from: 'https://a.example/charts/index.yaml' is the index;"
            " write the URL of its folder: https://a.example/charts"
        ),
    ),
    (HELM.format("https://a.example/x-1.0.0.tgz"), "is one archive; write the URL of the folder that has index.yaml"),
    (HELM.format("{url: https://a.example}"), "a mapping is not text; write text, such as https://grafana.github.io"),
    (
        HELM.format("a.example/charts"),
        "m.from: 'a.example/charts' is not a URL; write https://host/path or oci://host/path",
    ),
    ("{name: m, kind: helm, to: local}", "m.from: is missing; write from: https://grafana.github.io/helm-charts"),
    ("{name: m, kind: helm, as: x, from: https://a.example, to: local}", "m.as: unknown key; charts keep their names"),
    (
        GIT.format("https://github.com/a/b/tree/main"),
        "m.from: https://github.com/a/b/tree/main is a page of github; write https://github.com/a/b.git",
    ),
    (GIT.format("https://github.com/a"), "is not a repository at github; write OWNER/NAME behind the host"),
    (
        "{name: m, kind: git, as: a/b, from: https://git.example/a/b, to: local}",
        "m.as: 'a/b' is not a repository name; write only the name, without owner and `.git`",
    ),
    (
        "{name: m, kind: git, refs: [main], from: https://git.example/a/b, to: local}",
        "m.refs[0]: 'main' selects no branches or tags; write full names or globs, such as refs/heads/main",
    ),
    ("{name: m, kind: git, refs: ['^tags/v1'], from: https://git.example/a/b, to: local}", "such as ^refs/tags/v1"),
    (
        "{name: m, kind: git, branches: [main], from: https://git.example/a/b, to: local}",
        "m.branches: unknown key; write refs: [refs/heads/main]",
    ),
    (f"{{name: m, kind: image, {SOURCE}}}", "m.to: is missing; write to: [ghcr, tagged, local]"),
    ("{name: m, kind: git, from: https://git.example/a/b}", "m.to: is missing; write to: [one, local]"),
    (f"{{name: m, kind: image, {SOURCE}, to: ghrc}}", "m.to[0]: 'ghrc' is not a target; did you mean 'ghcr'?"),
    (f"{{name: m, kind: image, {SOURCE}, to: x}}", "m.to[0]: 'x' is not a target; use one of: ghcr, local, tagged"),
    (
        f"{{name: m, kind: image, {SOURCE}, to: quay.io/team}}",
        (
            "m.to[0]: 'quay.io/team' is not a target; write it as `to`"
            " of a target below `targets:`, and the name of that target here"
        ),
    ),
    (
        f"{{name: m, kind: image, {SOURCE}, to: tagged}}",
        "targets.tagged.to: ghcr.io/team/app:v1 has a tag; write the repository only",
    ),
    (f"{{name: m, kind: image, {SOURCE}, to: local, interval: 6h}}", "m.interval: unknown key; write every: 6h"),
    (f"{{name: m, kind: image, {SOURCE}, to: local, targets: [ghcr]}}", "m.targets: unknown key; write to: and the"),
]


def problems(folder: Path, text: str) -> tuple[str, ...]:
    (folder / "a.yaml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_folder(folder, load_syncers(), {})
    return tuple(problem.replace(f"{folder}/", "") for problem in refused.value.problems)


@pytest.mark.parametrize(("mirror", "told"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes_in_mirrors(tmp_path: Path, mirror: str, told: str) -> None:
    """Each mistake is one line with file and line in front, and names what to write instead."""
    (problem,) = problems(tmp_path, f"{TARGETS}  - {mirror}\n")
    assert problem.startswith("a.yaml:5: " if "targets." in told else f"a.yaml:{LINE}: mirrors.m"), problem
    assert told in problem


@pytest.mark.parametrize(
    ("kind", "target", "source", "told"),
    [
        (
            "helm",
            "shop",
            "https://{}.example",
            (
                "target 'shop' is oci://ghcr.io/charts, written by mirror 'a' ('shop') at"
                " a.yaml:8 too; write {mirror} in `to` of target 'shop'"
            ),
        ),
        ("git", "one", "https://git.example/x/{}", "write {mirror} in `to` of target 'one'"),
        ("image, as: x", "ghcr", "{{repository: a.example/{}}}", "give one of the mirrors another `as:`"),
        ("image, as: x", "local", "{{repository: a.example/{}}}", "give one of the mirrors another `as:`"),
    ],
)
def test_two_mirrors_at_one_place(tmp_path: Path, kind: str, target: str, source: str, told: str) -> None:
    """Two mirrors that write one place are told how each gets a place of its own."""
    entries = (f"  - {{name: {name}, kind: {kind}, from: {source.format(name)!r}, to: {target}}}\n" for name in "ab")
    (problem,) = problems(tmp_path, TARGETS + "".join(entries).replace("'{", "{").replace("}'", "}"))
    assert problem.startswith(f"a.yaml:{LINE + 1}: mirrors.b.to: ")
    assert told in problem


def test_two_targets_for_one_place(tmp_path: Path) -> None:
    """Two targets that are one place are named, and which key to change."""
    more = "  - {name: b, kind: image, as: used, from: {repository: a.example/b}, to: again}\n"
    targets = TARGETS.replace("targets:\n", "targets:\n  again: {kind: image, to: ghcr.io/team}\n")
    (problem,) = problems(tmp_path, targets + more)
    assert problem.endswith("too; change `to` of target 'ghcr' or 'again'")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "hosts: {h.example: {auth: {username: u, password: ${TOKEN}}}}",
            (
                "a.yaml:1: is not YAML (did not find expected"
                " ',…}'); variables and templates are not replaced; write {env: NAME} for a secret" + MORE
            ),
        ),
        (
            "hosts:\n  h.example:\n    auth: {username: u, password: {{ token }}}",
            "a.yaml:3: is not YAML; variables and templates are not replaced; write {env: NAME} for a secret" + MORE,
        ),
        (
            "hosts:\n  h.example:\n    auth:\n      username: u\n      password: ${TOKEN}",
            (
                "a.yaml:5:"
                " hosts.h.example.auth.password: variables are not replaced in the configuration; write {env: TOKEN}"
            ),
        ),
        (
            "hosts: {h.example: {auth: {username: u, password: $ecret}}}",
            (
                "a.yaml:1: hosts.h.example.auth.password: a secret"
                " must not be written in the configuration; write {env: NAME}, {file: /path} or {credential: name}"
            ),
        ),
        (
            "hosts: {h.example: {username: u}}",
            ("a.yaml:1: hosts.h.example.username: unknown key; write auth: {username: robot, password: {env: NAME}}"),
        ),
        (
            "hosts: {h.example: {tls: false}}",
            "a.yaml:1: hosts.h.example.tls: unknown key; write insecure: true for plain HTTP, or ca: FILE",
        ),
        ("settings: {port: 80}", "a.yaml:1: settings.port: unknown key; write listen: 127.0.0.1:8080"),
        ("targets: {t: {kind: image, to: a.example/b, url: x}}", "a.yaml:1: targets.t.url: unknown key; write to:"),
        (
            "mirrors: {m: {kind: image}}",
            "a.yaml:1: mirrors: is not a list; begin each mirror with a dash, such as - {name: app, kind: image, …}",
        ),
        (
            "targets: [{name: t}]",
            (
                "a.yaml:1: targets: is not a mapping; write a name and its keys, such as ghcr: {kind:"
                " image, to: ghcr.io/team}"
            ),
        ),
    ],
    ids=range(10),
)
def test_other_mistakes(tmp_path: Path, text: str, told: str) -> None:
    """Variables, templates and sections of the wrong shape are told as what they are; no secret is repeated."""
    assert problems(tmp_path, f"{text}\n") == (told,)


def test_a_target_without_a_repository(tmp_path: Path) -> None:
    """A target that names a registry only is not taken for a name at Docker Hub."""
    targets = 'targets: {bare: {kind: image, to: "registry.{name}"}}'
    text = f"{targets}\nmirrors: [{{name: m, kind: image, {SOURCE}, to: bare}}]"
    told = "a.yaml:1: targets.bare.to: registry.m: is a registry without a repository; write registry.m/NAME"
    assert problems(tmp_path, f"{text}\n") == (told,)


def test_one_pass_reports_all(tmp_path: Path) -> None:
    """What is wrong with targets and origins is reported beside unknown keys, wrong kinds and wrong origins."""
    (tmp_path / "a.yaml").write_text("""targets:
  up: {kind: image, to: docker.io/GoCrane}
  hub: {kind: image, to: "https://docker.io/gocrane"}
  c: {kind: helm, to: "https://x.example/y"}
  d: {kind: git, to: "https://x.example/y?z"}
  e: {kind: image, to: docker.io/GoCrane, api: x}
  f: {kind: helm, to: "oci://docker.io/GoCrane", apy: x}
  g: {kind: git, to: "https://x.example/y?z", host: x}
mirrors:
  - {name: m, kind: image, from: {repository: quay.io/Team/x}, to: [up, hub, c], evry: 1h}
  - {name: n, kind: image, from: {repository: quay.io/Team/n}, to: [up]}
  - {name: o, kind: gitt, from: "https://x.example/z", to: d}
""")
    with pytest.raises(ConfigError) as caught:
        load_folder(tmp_path, load_syncers(), {})
    found = [problem.removeprefix(f"{tmp_path}/a.yaml:").split(" ")[:2] for problem in caught.value.problems]
    assert found == [
        ["2:", "targets.up.to:"],
        ["2:", "targets.up.to:"],  # for each of its mirrors
        ["3:", "targets.hub.to:"],
        ["4:", "targets.c.api:"],
        ["5:", "targets.d.to:"],
        ["6:", "targets.e.api:"],
        ["6:", "targets.e.to:"],
        ["7:", "targets.f.apy:"],
        ["7:", "targets.f.to:"],
        ["8:", "targets.g.host:"],
        ["8:", "targets.g.to:"],
        ["10:", "mirrors.m.evry:"],
        ["10:", "mirrors.m.to[2]:"],
        ["10:", "mirrors.m.from.repository:"],
        ["11:", "mirrors.n.from.repository:"],
        ["12:", "mirrors.o.kind:"],
    ]


def test_each_mistake_has_the_line_of_its_key(tmp_path: Path) -> None:
    """In entries of several lines the line is that of the key, also when the kind or `hosts:` finds the mistake."""
    text = """targets:
  t:
    kind: git
    to: "http://git.example/y"
mirrors:
  - name: m
    kind: image
    from:
      repository: https://quay.io/a/b
    to: [local]
  - name: A_
    kind: helm
    from: grafana.github.io/helm-charts
    to: [local]
"""
    assert [one.split("; ")[0] for one in problems(tmp_path, text)] == [
        "a.yaml:9: mirrors.m.from.repository: 'https://quay.io/a/b': an image reference has no https:// in front",
        "a.yaml:11: mirrors[1].name: 'A_' is not a name",
        "a.yaml:13: mirrors[1].from: 'grafana.github.io/helm-charts' is not a URL",
    ]
    text = (
        text.partition("  - name: m")[0]
        + """  - name: n
    kind: git
    from: http://github.com/a/b
    to: [t]
"""
    )
    assert [one.split("; ")[0] for one in problems(tmp_path, text)] == [
        "a.yaml:4: targets.t.to: http://git.example/y/n is not encrypted",
        "a.yaml:8: mirrors.n.from: http://github.com/a/b.git is not encrypted",
    ]


def test_unknown_targets_are_reported_beside_other_mistakes(tmp_path: Path) -> None:
    """One pass reports targets that do not exist, whatever else is wrong with the mirror."""
    text = f"""mirrors:
  - {{name: m, kind: image, {SOURCE}, to: [eats], every: 5}}
  - {{name: n, kind: images, {SOURCE}, to: [eats, local, local]}}
"""
    assert [one.split("; ")[0] for one in problems(tmp_path, text)] == [
        "a.yaml:2: mirrors.m.every: '5' is not a duration",
        "a.yaml:2: mirrors.m.to[0]: 'eats' is not a target",
        "a.yaml:3: mirrors.n.kind: 'images' is not a kind",
        "a.yaml:3: mirrors.n.to[0]: 'eats' is not a target",
        "a.yaml:3: mirrors.n.to[2]: 'local' is listed twice",
    ]
