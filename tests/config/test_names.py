"""`names:` and `naming:` as the program reads them: what images are called, and one line for each mistake."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirrord.config.crossings import check_parts
from mirrord.config.load import read_folder
from mirrord.errors import ConfigError
from mirrord.names.naming import parse_naming
from mirrord.syncer.port import load_syncers
from mirrord.wire.oci.reference import Reference

SYNCERS = load_syncers()
ECR = "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"


def places(folder: Path, text: str, **more: str) -> Mapping[str, Mapping[str, str]]:
    """Return where each mirror writes."""
    (folder / "main.yaml").write_text(text)
    for name, other in more.items():
        (folder / f"{name}.yaml").write_text(other)
    return {mirror.name: SYNCERS["image"].places(mirror)[1] for mirror in read_folder(folder, SYNCERS, {}).mirrors}


def problems(folder: Path, text: str) -> list[str]:
    """Return what is wrong, without the folder."""
    with pytest.raises(ConfigError) as refused:
        places(folder, text)
    return [problem.replace(f"{folder}/", "") for problem in refused.value.problems]


def written(
    naming: str, *sources: str, to: str = "reg.example/m", own: str = "", names: str = "", more: str = ""
) -> str:
    """Return a configuration with a target and `local`, and a mirror `m<n>` on line `4 + n` of each source."""
    lines = (
        f"  - {{name: m{number}, kind: image, from: {{{source}}}, to: [t, local]{more}}}"
        for number, source in enumerate(sources, 1)
    )
    options = f", naming: {own}" if own else ""
    return "\n".join(
        [
            f"names: {{{f'naming: {naming}' if naming else ''}{names}}}",
            "targets:",
            f'  t: {{kind: image, to: "{to}"{options}}}',
            "mirrors:",
            *lines,
        ]
    )


PATH_NODE = "local/quay.io/calico/node"
ALIAS = ", aliases: {quay.io/calico: docker.io/calico}"
NODE, NGINX, LAYOUTS = "repository: quay.io/calico/node", "repository: 'nginx:1.29'", "layouts: /srv/builds"


@pytest.mark.parametrize(
    ("text", "target", "local"),
    [
        (written("", NODE), "reg.example/m/m1", "local/m1"),
        (written("path", NODE), "reg.example/m/quay.io/calico/node", "local/quay.io/calico/node"),
        (written("path", NGINX, own="nwcd"), "reg.example/m/dockerhub/library/nginx", "local/docker.io/library/nginx"),
        (written("", NGINX, own="flat"), "reg.example/m/docker.io__library__nginx", "local/m1"),
        (written("path", NODE, more=", as: team/node"), "reg.example/m/team/node", "local/team/node"),
        (written("path", LAYOUTS), "reg.example/m/m1", "local/m1"),
        (written("path", NODE, to="reg.example/{mirror}/x-{name}"), "reg.example/m1/x-quay.io/calico/node", PATH_NODE),
        (written("path", NODE, to="reg.example/{mirror}"), "reg.example/m1", "local/quay.io/calico/node"),
        (written('"{mirror}/{name}"', NODE), "reg.example/m/m1/node", "local/m1/node"),
        (written('{quay.io: "", "*": "o/{path}"}', NODE), "reg.example/m/calico/node", "local/calico/node"),
        (written("path", NODE, names=ALIAS), "reg.example/m/docker.io/calico/node", "local/docker.io/calico/node"),
        (written("path", NODE, to="oci:/srv/layouts"), "/srv/layouts/quay.io/calico/node", "local/quay.io/calico/node"),
    ],
)  # fmt: skip
def test_what_an_image_is_called(tmp_path: Path, text: str, target: str, local: str) -> None:
    """`as:`, else the target's naming, else the global one, else the mirror's name; `{name}` in `to` is the result."""
    assert places(tmp_path, text) == {"m1": {"t": target, "local": local}}


def test_the_section_may_be_spread_over_files(tmp_path: Path) -> None:
    """Aliases of two files are joined, as settings are."""
    text = written("path", NODE, names=", aliases: {quay.io/calico: docker.io/calico}")
    found = places(tmp_path, text, more="names: {aliases: {docker.io/calico: ghcr.io/calico}, hosts: {m.example: '*'}}")
    assert found["m1"]["local"] == "local/ghcr.io/calico/node"


@pytest.mark.parametrize(
    ("text", "begins", "ends"),
    [
        (
            written("", NODE, NODE, own="path"),
            "main.yaml:6: mirrors.m2.to: target 't' is @/quay.io/calico/node, written by mirror 'm1' ('t')",
            " at main.yaml:5 too; join the two mirrors, or give one of them an `as:`",
        ),
        (
            written("", "repository: quay.io/a/b", "repository: ghcr.io/a/b", own='"{path}"'),
            "main.yaml:6: mirrors.m2.to: target 't' is @/a/b, written by mirror 'm1' ('t') at main.yaml:5 too;",
            "; give one of the mirrors an `as:`, or write a `naming:` that has {host} and {path}, such as path",
        ),
        (
            written("", "repository: k8s.gcr.io/pause", "repository: gcr.io/google-containers/pause", own="nwcd"),
            "main.yaml:6: mirrors.m2.to: target 't' is @/gcr/google_containers/pause, written by mirror 'm1' ('t') at",
            "; give one of the mirrors an `as:`",
        ),
        (
            written("", NODE, own="path", to="docker.io/corp"),
            "main.yaml:5: mirrors.m1.from.repository: has no name at 't': docker.io/corp/quay.io/calico/node has more",
            " than two levels, and Docker Hub takes two; write naming: flat, or give it an as: in a",
        ),
        (
            written("", NODE, own="flat", to=ECR),
            f"main.yaml:5: mirrors.m1.from.repository: has no name at 't': {ECR}/quay.io__calico__node is no",
            " repository of ECR, which takes one of . _ - at a time; write naming: path or nwcd, or give it an as:",
        ),
        (
            written("", NODE, own="{docker.io: hub}"),
            "main.yaml:5: mirrors.m1.from.repository: has no name at 't': quay.io/calico/node: no prefix of the naming",
            " covers it; add its host, or '*'; or give it an as: in a mirror of its own",
        ),
        (
            written("", f"repository: quay.io/{'a' * 240}", own="path"),
            "main.yaml:3: targets.t.to: ",
            "host and path have 262 characters, at most 255",
        ),
        (
            written("", NODE, own="path", to="reg.example/{mirror}"),
            "main.yaml:3: targets.t.to: reg.example/{mirror} has no {name}, so naming has no effect; add {name}, or",
            " remove naming",
        ),
        (
            written("", NODE, own="hub"),
            "main.yaml:3: targets.t.naming: 'hub' is not a naming; write path, nwcd, flat, or",
            "",
        ),
        (
            written("hub", NODE),
            "main.yaml:1: names.naming: 'hub' is not a naming; write path, nwcd, flat, or a template",
            "",
        ),
        (
            written("[path]", NODE),
            "main.yaml:1: names.naming: is neither a text nor a mapping; write path, nwcd, flat",
            "",
        ),
        (written("{quay.io: }", NODE), "main.yaml:1: names.naming: 'quay.io' has no text; write what replaces it", ""),
        (written("path", NODE, names=", alias: x"), "main.yaml:1: names.alias: unknown key; write aliases:", ""),
        (
            written("path", NODE, names=", aliases: {nginx: docker.io}"),
            "main.yaml:1: names.aliases.nginx: 'nginx' does not begin with a registry; write a host, such as",
            " docker.io/nginx",
        ),
        (
            written("path", NODE, names=', aliases: {k8s.gcr.io: "/"}'),
            "main.yaml:1: names.aliases.k8s.gcr.io: is empty; write a registry, such as docker.io or docker.io/library",
            "",
        ),
        (
            written("path", NODE, names=", aliases: {k8s.gcr.io: reg.example/Team}"),
            "main.yaml:1: names.aliases.k8s.gcr.io: 'Team': a repository is lower case; write team",
            "",
        ),
        (
            written("path", NODE, names=", aliases: {a.example: b.example, b.example: a.example}"),
            "main.yaml:1: names.aliases: aliases lead back to themselves (a.example: b.example, b.example: a.example);",
            "",
        ),
        (
            written("path", NODE, names=", hosts: {m.example/x: docker.io}"),
            "main.yaml:1: names.hosts.m.example/x: 'm.example/x' has a path; write the host alone: m.example",
            "",
        ),
        ("names: path", "main.yaml:1: names: is not a mapping; write keys such as naming: path", ""),
    ],
)
def test_mistakes(tmp_path: Path, text: str, begins: str, ends: str) -> None:
    """Every mistake is found by `check`, with file, line, key and what to write."""
    found = problems(tmp_path, text)
    begins = begins.replace("@", "reg.example/m")
    assert [problem for problem in found if problem.startswith(begins) and ends in problem], found


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        ("{docker.io: hub}", "images.txt:2: has no name at 't': quay.io/a/nginx: no prefix of the naming covers it;"),
        (
            '"{name}"',
            "images.txt:2: quay.io/a/nginx is called reg.example/m/nginx, and so is docker.io/library/nginx (",
        ),
    ],
)
def test_images_of_a_list_are_named_like_all_others(tmp_path: Path, own: str, problem: str) -> None:
    """A line that the naming has no name for, or whose name another line has, is a problem of that line."""
    (tmp_path / "images.txt").write_text("nginx\nquay.io/a/nginx\n")
    (tmp_path / "main.yaml").write_text(written("", "list: images.txt", own=own))
    with pytest.raises(ConfigError) as refused:
        check_parts(read_folder(tmp_path, SYNCERS, {}).mirrors, SYNCERS)
    assert [one.replace(f"{tmp_path}/", "")[: len(problem)] for one in refused.value.problems] == [problem]


def test_two_mirrors_of_one_name_are_found_at_each_target(tmp_path: Path) -> None:
    """Of the lines of a problem one is where it stands, and the other is named in it."""
    found = problems(tmp_path, written("path", NODE, NODE, NGINX))
    assert [re.findall(r"main\.yaml:\d+", problem) for problem in found] == [["main.yaml:6", "main.yaml:5"]] * 2


@pytest.mark.parametrize("to", ["docker.io/corp/deep", ECR])
def test_limits_of_registries_apply_to_namings_only(tmp_path: Path, to: str) -> None:
    """A configuration without a naming means what it meant: the registry decides."""
    assert places(tmp_path, written("", NODE, to=to, more=", as: a__b"))["m1"]["t"] == f"{to}/a__b"


@pytest.mark.parametrize(
    ("to", "fits"),
    [
        ("public.ecr.aws/alias", True),
        (f"{ECR}/a--b", False),
        ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", True),
        ("harbor.example/a/b/c", True),
        ("docker.io/corp/deep", False),
    ],
)
def test_which_registries_take_a_path(tmp_path: Path, to: str, fits: bool) -> None:
    """ECR takes any depth but one separator at a time, Docker Hub two levels, others what the specification allows."""
    text = written("", NODE, own="path", to=to)
    if fits:
        assert places(tmp_path, text)["m1"]["t"] == f"{to}/quay.io/calico/node"
    else:
        assert "has no name at 't'" in problems(tmp_path, text)[0]


@given(
    st.lists(
        st.builds(
            "{}/{}/{}".format, st.sampled_from(("quay.io", "gcr.io", "k8s.gcr.io")), *[st.sampled_from("ab")] * 2
        ),
        min_size=2,
        max_size=4,
    ),
    st.sampled_from(("path", "flat", "nwcd", "{path}", "x-{name}")),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_every_shared_name_is_found(tmp_path: Path, sources: list[str], naming: str) -> None:
    """Of the mirrors that share a name at a target all but the first are problems, and no others are."""
    names = Counter(parse_naming(naming).name(Reference.parse(source)) for source in sources)
    shared = sum(count - 1 for count in names.values())
    text = written("", *(f"repository: {source}" for source in sources), own=f'"{naming}"')
    if shared:
        assert len([one for one in problems(tmp_path, text) if "written by mirror" in one]) == shared
    else:
        assert len(places(tmp_path, text)) == len(sources)
