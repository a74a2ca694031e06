"""`mirrord import` as an operator types it: what is printed, what is written, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrord.cli.grammar import COMMANDS
from mirrord.importing.formats import FORMATS
from tests.support.commands import Desk, Said

Typed = Callable[..., Said]
DATA = Path(__file__).parents[1] / "data" / "import"
SMALL = """\
version: 1
creds: [{registry: registry.example.com, user: robot, pass: hunter2}]
sync: [{source: "quay.io/a/b:v1", target: "registry.example.com/a/b:v1", type: image}]
"""
BEYOND = SMALL.replace("type: image", "type: image, backup: old")


def put(desk: Desk, text: str | bytes, name: str = "regsync.yaml") -> str:
    (desk.folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


def test_everything_converted(desk: Desk, typed: Typed) -> None:
    """The configuration is on standard output, what is to be done on standard error, and the exit code is 0."""
    said = typed("import", put(desk, SMALL))
    assert said.status == 0
    assert "from: {repository: quay.io/a/b, tags: [v1]}" in said.out
    assert said.err == "set REGISTRY_EXAMPLE_COM_PASSWORD: password of robot at registry.example.com\n"
    assert "hunter2" not in said.out


def test_something_not_converted(desk: Desk, typed: Typed) -> None:
    """What is lost is named with file, line, key and reason, also in the output; the exit code is 2."""
    said = typed("import", put(desk, BEYOND))
    line = "regsync.yaml:3: sync[0].backup: mirrord does not back up a tag before it moves it"
    assert said.status == 2
    assert f"not converted: {line}" in said.err.splitlines()
    assert f"#   {line}" in said.out.splitlines()


def test_nothing_converted(desk: Desk, typed: Typed) -> None:
    """When nothing is left, nothing is written, and the exit code is 1."""
    said = typed(
        "import", put(desk, "sync: [{source: a/b, target: 'ocidir:///x', type: image}]\n"), "--out", "new.yaml"
    )
    assert (said.status, said.out) == (1, "")
    assert "sync[0].target: is an OCI layout" in said.err
    assert not (desk.folder / "new.yaml").exists()


def test_a_file_is_written_once(desk: Desk, typed: Typed) -> None:
    """`--out` writes what standard output would get, and a second time changes nothing."""
    name = put(desk, SMALL)
    text = typed("import", name).out
    assert typed("import", name, "--out", "new.yaml").status == 0
    assert (desk.folder / "new.yaml").read_text() == text
    (desk.folder / "new.yaml").write_text("mine")
    said = typed("import", name, "--out", "new.yaml")
    assert said.status == 64
    assert "new.yaml: exists already" in said.err
    assert (desk.folder / "new.yaml").read_text() == "mine"


def test_json(desk: Desk, typed: Typed) -> None:
    """With `--json` programs get the text, the format, and each list."""
    name = put(desk, BEYOND)
    found = typed("import", name, "--json").document
    assert found["formats"] == {name: "regsync"}
    assert found["configuration"] == typed("import", name).out
    assert len(found["not_converted"]) == 1
    assert list(found["secrets"]) == ["REGISTRY_EXAMPLE_COM_PASSWORD"]


def test_variables_of_addresses_are_replaced_when_they_are_set(
    desk: Desk, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable in a destination is named when it is not set; in a password it is never replaced."""
    name = put(desk, 'a.example/x/y: "${WHERE}/y"\n', "images.yaml")
    logins = put(desk, 'a.example: {username: u, password: "${WHERE}"}\n', "auth.yaml")
    said = typed("import", name, logins)
    assert said.status == 2
    assert "set it for the import: WHERE=… mirrord import" in said.err
    monkeypatch.setenv("WHERE", "b.example/team")
    said = typed("import", name, logins)
    assert said.status == 0
    assert "to: b.example}" in said.out
    assert "as: team/y" in said.out
    assert "password: {env: WHERE}" in said.out


def test_variables_with_secrets_are_written_nowhere(desk: Desk, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's file cannot have a secret of the shell written into an address, from where it would be sent."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    step = "  - {source: 'evil.example/{{env \"AWS_SECRET_ACCESS_KEY\"}}', target: t.example/a, type: image}\n"
    images = put(desk, 'a.example/x: "evil.example/$AWS_SECRET_ACCESS_KEY"\n', "images.yaml")
    logins = put(desk, 'a.example: {username: "$AWS_SECRET_ACCESS_KEY", password: p}\n', "auth.yaml")
    for names in ((put(desk, f"sync:\n{step}"),), (images, logins)):
        said = typed("import", *names)
        assert "hunter2" not in said.out + said.err
        assert said.err.count("AWS_SECRET_ACCESS_KEY, which may be a secret and is not written") == len(names)


@pytest.mark.parametrize("text", ["nginx\n", "nginx\nquay.io/a/b:v1\nnot an image\n", "quay.io/a/b\nBAD line\n"])
def test_a_list_is_recognised_also_with_short_names_and_wrong_lines(desk: Desk, typed: Typed, text: str) -> None:
    """A `*.txt` whose lines are names, for the half at least, is a list; each other line is reported."""
    said = typed("import", put(desk, text, "required-images.txt"), "--to", "reg.example/mirror")
    wrong = [number for number, line in enumerate(text.splitlines(), 1) if " " in line]
    assert said.status == (2 if wrong else 0)
    assert f"from: {{list: {desk.folder / 'required-images.txt'}}}" in said.out
    lost = [line for line in said.err.splitlines() if line.startswith("not converted: ")]
    assert [line.split(":")[2] for line in lost] == [str(number) for number in wrong]


BAD = {
    "empty": (b"", 64, "is of no known format; known are regsync, image-syncer"),
    "a text": (b"Dear all,\nplease mirror this.\n", 64, "is of no known format"),
    "another file": (b"services: {web: {image: nginx}}\n", 64, "is of no known format"),
    "binary": (b"\x7fELF\x02\x01\x01\x00\xff\xfe", 78, "x:1: is not UTF-8"),
    "not YAML": (b"sync: [\n  - {a: b\n", 78, "is not YAML"),
    "itself": (b"sync: &a\n  - *a\n", 78, "x:2: contains itself"),
    "huge": (b"#" * (16 * 2**20 + 1), 64, "is longer than 16777216 bytes"),
}


@pytest.mark.parametrize(("data", "status", "expected"), BAD.values(), ids=BAD)
def test_bad_files(desk: Desk, typed: Typed, data: bytes, status: int, expected: str) -> None:
    """A file that cannot be imported is one clear line with its name, and nothing on standard output."""
    said = typed("import", put(desk, data, "x"))
    assert (said.status, said.out) == (status, "")
    assert expected in said.err
    assert len(said.err.splitlines()) == 1


def test_a_missing_file_and_a_wrong_format(desk: Desk, typed: Typed) -> None:
    """A file that does not exist, and one that is not of the format named with `--from`, are usage errors."""
    assert typed("import", "absent.yaml").status == 64
    said = typed("import", put(desk, SMALL), "--from", "skopeo")
    assert said.status == 64
    assert "regsync.yaml:1: is not of the format skopeo" in said.err


def test_a_destination_that_only_a_command_line_has(desk: Desk, typed: Typed) -> None:
    """Tools with the destination on their command line need it here, too."""
    for sample in ("skopeo-sync.yaml", "imageset-config.yaml"):
        said = typed("import", put(desk, (DATA / sample).read_bytes(), sample))
        assert (said.status, said.out) == (64, "")
        assert "add --to HOST/PATH" in said.err


def test_equal_names_of_images_are_found(desk: Desk, typed: Typed) -> None:
    """Without `--scoped` skopeo writes `a/app` and `b/app` over each other: the second one is reported."""
    name = put(desk, "r.example: {images: {a/app: ['1.0'], b/app: [zzz]}}\n", "sync.yaml")
    said = typed("import", name, "--to", "t.example")
    assert said.status == 2
    assert "r.example.images.b/app: t.example/app is written by another part already" in said.err
    said = typed("import", name, "--to", "t.example", "--scoped")
    assert said.status == 0
    assert "as: r.example/a/app" in said.out
    assert "as: r.example/b/app" in said.out


def test_steps_for_one_repository_become_one_mirror(desk: Desk, typed: Typed) -> None:
    """Tags that are listed step by step are joined, and the comment names the lines; another source is reported."""
    step = "  - {{source: 'quay.io/a/b:v{0}', target: 't.example/a/b:v{0}', type: image}}\n"
    text = "sync:\n" + "".join(step.format(number) for number in range(6))
    said = typed("import", put(desk, text))
    assert said.status == 0
    assert "tags: [v0, v1, v2, v3, v4, v5]" in said.out
    assert said.out.count("- name:") == 1
    lines = ", ".join(f"regsync.yaml:{line}" for line in range(2, 6))
    assert f"  # {lines} and 2 more\n" in said.out
    said = typed("import", put(desk, text + "  - {source: ghcr.io/x/y, target: t.example/a/b, type: repository}\n"))
    assert said.status == 2
    assert "regsync.yaml:8: sync[6]: t.example/a/b is written by another part already" in said.err


def test_ten_thousand_steps(desk: Desk, typed: Typed) -> None:
    """Ten thousand steps become ten thousand mirrors, each under a name of its own."""
    step = "  - {{source: 'quay.io/a/b{0}:v1', target: 't.example/a-b/{0}:v1', type: image}}\n"
    said = typed("import", put(desk, "sync:\n" + "".join(map(step.format, range(10_000)))))
    names = [line for line in said.out.splitlines() if line.startswith("  - name: ")]
    assert said.status == 0
    assert len(names) == len(set(names)) == 10_000


def test_forty_thousand_tags_of_one_repository(desk: Desk, typed: Typed) -> None:
    """Tags that are listed one by one become one mirror with all of them, in one pass."""
    said = typed("import", put(desk, "".join(f"q.example/a:t{number}: r.example/a\n" for number in range(40_000))))
    assert said.status == 0
    assert said.out.count("- name:") == 1
    assert f"tags: [{', '.join(f't{number}' for number in range(40_000))}]" in said.out


def test_ten_thousand_hosts_and_ten_thousand_targets(desk: Desk, typed: Typed) -> None:
    """Equal names get the next free number; one source with many targets is one mirror. Both are done in one pass."""
    hosts = "  - {{source: 'quay.io/a/b{0}', target: 't{0}.example/a', type: repository}}\n"
    targets = "  - {{source: 'quay.io/x/y', target: 't.example/b{0}/y', type: repository}}\n"
    taken = "  - {source: quay.io/a/c, target: t.example/a-2, type: repository}\n"
    steps = taken + "".join(step.format(number) for step in (hosts, targets) for number in range(10_000))
    said = typed("import", put(desk, f"sync:\n{steps}"))
    names = [line.removeprefix("  - name: ") for line in said.out.splitlines() if line.startswith("  - name: ")]
    assert said.status == 0
    assert names == ["a-2", "a", *(f"a-{number}" for number in range(3, 10_002)), "'y'"]


DREGSY = """tasks:
- source: {registry: r.example}
  target: {registry: t.example}
  mappings: [{from: a, to: b, digests: [wrong]}, {from: x, to: y, tags: ['1']}]
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("images.yaml", "'ann:hunter2@r.example/a:1': t.example/b\n'r.example/x:1': t.example/y\n"),
        ("images.json", '{"r.example/a@wrong": "t.example/b", "r.example/x:1": "t.example/y"}'),
        ("images.yaml", "'r.example/a:1,:wrong': t.example/b\n'r.example/x:1': t.example/y\n"),
        ("images.yaml", "'r.example/a:1': 't.example/b:-wrong'\n'r.example/x:1': t.example/y\n"),
        ("sync.yaml", "r.example: {images: {a: ['ann:hunter2@x'], x: ['1']}}\n"),
        ("sync.yaml", "r.example: {images: {a: ['sha256:wrong'], x: ['1']}}\n"),
        ("dregsy.yaml", DREGSY),
    ],
)
def test_what_is_no_tag_and_no_digest_is_not_converted(desk: Desk, typed: Typed, name: str, text: str) -> None:
    """A part that `check` would refuse is named and left out, without what may be a password; others are made."""
    said = typed("import", put(desk, text, name), "--to", "t.example", "--out", "made/a.yaml")
    assert said.status == 2
    assert said.err.count("not converted: ") == 1
    made = (desk.folder / "made/a.yaml").read_text()
    assert made.count("  - name: ") == 1
    assert "hunter2" not in said.out + said.err + made
    assert typed("check", "-c", "made").status == 0


def test_no_login_is_sent_without_tls_after_an_import(desk: Desk, typed: Typed) -> None:
    """What accepts any certificate elsewhere does not become plain HTTP: it is reported."""
    logins = put(desk, "quay.io: {username: u, password: p, insecure: true}\n", "auth.yaml")
    sync = put(desk, "quay.io: {tls-verify: false, images: {a/b: [v1]}}\n", "sync.yaml")
    for name in (logins, sync):
        said = typed("import", name, "--to", "t.example")
        assert said.status == 2
        assert "insecure" not in said.out.partition("\nhosts:")[2]
        assert "write insecure: true for plain HTTP, or ca: FILE" in said.err


WORKFLOW = """\
on: [push]
jobs:
  sync:
    runs-on: ubuntu-latest
    steps:
    - uses: actions/checkout@v4
    - uses: someone/hub-mirror-action@v1.5
      with:
        src: github/example-org
        dst: gitee/example-mirror
        dst_key: ${{ secrets.KEY }}
        static_list: "web,api,${{ github.event.repository.name }}"
        clone_style: ssh
"""


def test_a_workflow_without_a_schedule_and_token(desk: Desk, typed: Typed) -> None:
    """Triggers, expressions and keys that have no equivalent are named; the names that are written are converted."""
    said = typed("import", put(desk, WORKFLOW, "mirror.yml"))
    assert said.status == 2
    for key in ("on", "jobs.sync.steps[1].with.dst_key", "jobs.sync.steps[1].with.clone_style"):
        assert f": {key}: " in said.err
    assert "static_list: '${{ github.event.repository.name }}' is not the name of a repository" in said.err
    assert "jobs.sync.steps[0]: is a step of another kind" in said.err
    assert said.out.count("- name:") == 2
    assert "to: 'git@gitee.com:example-mirror/{name}.git'" in said.out
    assert "lfs: false" in said.out


def test_a_target_that_repeats_the_source(desk: Desk, typed: Typed) -> None:
    """`{{.Sync.Source}}` in a target is replaced, as regsync does; any other template is named."""
    text = "sync:\n" + "".join(
        f"  - {{source: quay.io/a/b, target: '{target}', type: repository}}\n"
        for target in ("t.example/hub/{{ .Sync.Source }}", "t.example/{{ index .x 1 }}")
    )
    said = typed("import", put(desk, text))
    assert said.status == 2
    assert "as: hub/quay.io/a/b" in said.out
    assert "sync[1].target: has a template that mirrord import does not read" in said.err


def test_a_list_is_read_where_it_is(desk: Desk, typed: Typed) -> None:
    """A list becomes a mirror that reads the file; a line that is no image is reported."""
    name = put(desk, "docker.io/library/nginx:1.28\nA/B\nquay.io/a/b\n", "images.txt")
    said = typed("import", name, "--to", "t.example/m")
    assert said.status == 2
    assert f"from: {{list: {desk.folder / name}}}" in said.out
    assert "{kind: image, to: t.example/m}" in said.out
    assert "not converted: images.txt:2: " in said.err
    name = put(desk, "docker.io/library/nginx:1\\.2[78].*\n", "images.txt")
    said = typed("import", name)
    assert said.status == 0
    assert f"from: {{list: {desk.folder / name}, form: patterns}}" in said.out
    assert "to: [local]" in said.out


def test_the_formats_of_the_option_are_those_that_there_are() -> None:
    """`--from` takes every format, and no other word."""
    (option,) = (one for one in COMMANDS["import"].params if one.name == "form")
    assert tuple(option.type.choices) == FORMATS  # type: ignore[attr-defined]  # it is a Choice


TO = ("--to", "registry.corp.example/mirror")
CHECKED = {
    "regsync-1.yaml": (),
    "image-syncer-images.yaml": (),
    "image-syncer-images.json": (),
    "skopeo-sync.yaml": (*TO, "--scoped"),
    "dregsy.yaml": (),
    "mirror.txt": TO,
    "required-images.txt": TO,
    "required-images-weekly.txt": TO,
    "image-syncer-auth.yaml": (),
    "hub-mirror-workflow.yml": (),
    "imageset-config.yaml": TO,
    "hauler-manifest.yaml": TO,
    "charts-syncer.yaml": (),
    "oc-mirror-mapping.txt": (),
}


@pytest.mark.parametrize(("sample", "options"), CHECKED.items(), ids=CHECKED)
def test_check_takes_what_is_written(desk: Desk, typed: Typed, sample: str, options: tuple[str, ...]) -> None:
    """`mirrord check` finds no problem in what was imported; absent secrets are notices."""
    (desk.folder / "new").mkdir()
    typed("import", put(desk, (DATA / sample).read_bytes(), sample), *options, "--out", "new/a.yaml")
    said = typed("check", "-c", "new", "--json")
    assert json.loads(said.out)["ok"], said.out


def test_the_folder_of_the_output_is_made(desk: Desk, typed: Typed) -> None:
    """`--out conf.d/x.yaml` works in a new folder, as the pages about moving write it."""
    said = typed("import", put(desk, SMALL), "--out", "new/conf.d/regsync.yaml")
    assert said.status == 0, said.err
    assert "as: a/b" in (desk.folder / "new/conf.d/regsync.yaml").read_text()


def test_a_second_place_is_not_dropped_in_silence(desk: Desk, typed: Typed) -> None:
    """Of two `--to` none is used: the line says how a mirror gets a second target."""
    said = typed(
        "import", put(desk, "quay.io: {images: {a/b: [v1]}}\n"), *TO, "--to", "other.example", "--out", "new.yaml"
    )
    assert said.status == 64
    assert "--to names one place; write the others below `targets:`" in said.err
    assert not (desk.folder / "new.yaml").exists()
