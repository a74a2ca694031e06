"""The walls of the house: who may import what, how long things may get, what every line owes its reader."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from mirrord import errors, failpoints

ROOT = Path(__file__).parents[1]
LONGEST_MODULE, LONGEST_TEST_FILE, LONGEST_FUNCTION = 300, 500, 60

# Third-party package → the modules (or folders of modules) that may import it. Nothing else may be imported at all.
DOORS = {
    "alembic": {"mirrord.record"},
    "botocore": {"mirrord.wire.vendors.aws"},
    "obstore": {"mirrord.wire.bucket"},
    "aiohttp": {"mirrord.wire.http.lean", "mirrord.wire.http.exchange", "mirrord.wire.http.transport", "mirrord.serve"},
    "re2": {"mirrord.patterns"},
    "cryptography": {"mirrord.wire.cosign.keys", "mirrord.wire.cosign.identity", "mirrord.wire.authority"},
    "sigstore": {"mirrord.wire.cosign.identity"},  # an extra
    "httpx": {"mirrord.wire.api"},  # never on the way of content
    "git": {"mirrord.wire.git.version"},
    "jinja2": {"mirrord.serve.pages.templates"},
    "idna": {"mirrord.wire.origin"},
    "yarl": {"mirrord.wire.http.transport"},
    "yaml": {
        "mirrord.config.foreign",  # events only, no objects
        "mirrord.config.yaml_text",
        "mirrord.syncers.helm.upstream.yaml_events",
    },  # the latter sees events only, no objects
    "pydantic": {"mirrord.config", "mirrord.report", "mirrord.syncer", "mirrord.syncers"},
    "apscheduler": {"mirrord.schedule"},
    "sqlalchemy": {"mirrord.record"},
    "procrastinate": {"mirrord.record.queue"},  # an extra
    "psycopg": {"mirrord.record"},  # an extra
    "psycopg_pool": {"mirrord.record.fleet_database"},  # an extra
    "structlog": {"mirrord.report.logs"},
    "prometheus_client": {"mirrord.report.registry"},
    "uvloop": {"mirrord.daemon.loop"},
    "rich": {"mirrord.cli"},
    "click": {"mirrord.cli"},
}
# What the standard library has that goes to other machines, starts programs, or reads objects out of bytes.
STANDARD_DOORS = {
    "asyncio.subprocess": set[str](),
    "subprocess": {"mirrord.program"},
    "sqlite3": {"mirrord.record"},
    "logging": {
        "mirrord.record.fleet_database",  # keeps psycopg quiet
        "mirrord.record.queue",  # keeps procrastinate quiet
        "mirrord.report.logs",
        "mirrord.wire.vendors.aws",  # keeps botocore quiet
    },
    "http.client": {"mirrord.cli.healthcheck"},  # a probe has to start quickly
    "http.server": set[str](),
    "urllib.request": set[str](),
    "ftplib": set[str](),
    "smtplib": set[str](),
    "xmlrpc": set[str](),
    "zlib": {"mirrord.gunzip"},  # bombs
    "pickle": set[str](),
    "marshal": set[str](),
    "shelve": set[str](),
    "ctypes": set[str](),
    "multiprocessing": set[str](),
}
# A demonstration starts the daemon as a user would.
DEMO = "mirrord.cli.demo"
VAGUE = frozenset({"utils", "util", "helpers", "helper", "common", "base", "manager", "misc", "shared"})


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SERVICE = [path for path in python_files("mirrord") if not module_name(path).startswith("mirrord.testing")]
TESTING = python_files("mirrord/testing")
TESTS = python_files("tests")
TOOLS = python_files("bench", "docs")
EVERY = [*SERVICE, *TESTING, *TESTS, *TOOLS]


@pytest.fixture(autouse=True, scope="module")
def _trees_of_these_tests() -> Iterator[None]:
    """Some 800 MB, which the tests after these do not need."""
    yield
    tree.cache_clear()


@cache
def imported(path: Path) -> frozenset[str]:
    """Return dotted names of everything that a file imports, wherever in the file."""
    found = set[str]()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return frozenset(found)


def within(name: str, rooms: set[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


Described = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def described(owner: ast.Module | ast.ClassDef) -> Iterator[Described]:
    """Yield a module or class and everything public in it."""
    yield owner
    for node in owner.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from described(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node


def tracked() -> list[Path]:
    """Return every text file of the repository (what is ignored by git is nobody's business)."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def run(*command: str) -> None:
    """Run a tool of the same environment in the root folder, and fail with what it printed."""
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


# Tools


def test_the_walls_stand() -> None:
    """No module imports from a floor above it, from a stranger beside it, or I/O where it decides."""
    run("-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))")


def test_style() -> None:
    """Ruff with all its rules has nothing to say."""
    run("-m", "ruff", "check", "--no-cache", ".")


def test_format() -> None:
    """Every file looks as the formatter writes it."""
    run("-m", "ruff", "format", "--check", "--no-cache", ".")


@pytest.mark.timeout(300)  # without its cache, on a busy machine
def test_types() -> None:
    """Every value is what strict mypy thinks it is, in the service, its tests and its benchmarks."""
    run("-m", "mypy")


# Doors


@pytest.mark.parametrize("package", sorted(DOORS))
def test_a_dependency_has_one_door(package: str) -> None:
    """A third-party package is imported where it was decided, and it is imported there."""
    users = {module_name(path) for path in SERVICE if any(name.partition(".")[0] == package for name in imported(path))}
    assert {name for name in users if not within(name, DOORS[package])} == set()
    assert {room for room in DOORS[package] if not any(within(name, {room}) for name in users)} == set()


@pytest.mark.parametrize("package", sorted(STANDARD_DOORS))
def test_a_dangerous_part_of_the_standard_library_has_one_door(package: str) -> None:
    """What starts programs, dials, or loads objects is used where it was decided, and nowhere else."""
    users = {module_name(path) for path in SERVICE if any(within(name, {package}) for name in imported(path))}
    assert {name for name in users if not within(name, STANDARD_DOORS[package])} - {DEMO} == set()


def test_nothing_else_is_imported() -> None:
    """The service uses the standard library, itself, and the packages that have a door."""
    known = {*sys.stdlib_module_names, *DOORS, "mirrord"}
    found = {name.partition(".")[0] for path in SERVICE for name in imported(path)}
    assert found <= known


def test_every_dependency_is_declared_and_pinned() -> None:
    """What has a door is a declared dependency with a version in constraints.txt, and no declared one is unused."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [entry for name, more in project["optional-dependencies"].items() if name != "dev" for entry in more]
    declared = {re.split(r"[<>=;\[ ]", entry)[0] for entry in (*project["dependencies"], *extras)}
    called = {"yaml": "pyyaml", "git": "gitpython", "re2": "google-re2"}
    named = {called.get(name, name.replace("_", "-")) for name in DOORS}
    assert declared == named
    development = {re.split(r"[<>=;\[ ]", entry)[0] for entry in project["optional-dependencies"]["dev"]}
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines)
    assert {name.lower() for name in declared | development} <= {line.partition("==")[0] for line in lines}


def test_the_web_server_is_for_serving() -> None:
    """`aiohttp.web` is imported in `serve` only; outside it aiohttp is a client's transport."""
    users = {module_name(path) for path in SERVICE if any(within(name, {"aiohttp.web"}) for name in imported(path))}
    assert users
    assert all(within(name, {"mirrord.serve"}) for name in users)


def test_only_the_command_line_prints_and_exits() -> None:
    """`print` and `sys.exit` are called under `mirrord.cli` only: everything else returns, raises or emits events."""
    calls = {
        f"{module_name(path)}: {ast.unparse(node.func)}"
        for path in SERVICE
        if not within(module_name(path), {"mirrord.cli"})
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit", "exit", "quit")
    }
    assert calls == set()


def test_secrets_are_revealed_where_headers_and_forms_are_made() -> None:
    """`Secret.reveal` is called by the few modules that put a credential, or a secret address, into a request."""
    users = {
        module_name(path)
        for path in SERVICE
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr == "reveal"
    }
    of_logins = {"mirrord.wire.http.auth", "mirrord.wire.http.token", "mirrord.wire.secret"}
    others = {
        "mirrord.wire.bucket",
        "mirrord.wire.database",
        "mirrord.wire.notify.receiver",
        "mirrord.wire.forges.hooks",
    }
    assert users == of_logins | others


# Sizes, names, words


def test_modules_are_short() -> None:
    """No module has more than 300 lines, no file of tests more than 500."""
    limits = [(path, LONGEST_MODULE) for path in [*SERVICE, *TESTING, *TOOLS]]
    limits += [(path, LONGEST_TEST_FILE) for path in TESTS]
    long = {
        f"{path.relative_to(ROOT)}: {count}"
        for path, limit in limits
        if (count := len(path.read_text().splitlines())) > limit
    }
    assert long == set()


def test_functions_are_short() -> None:
    """No function has more than 60 lines, in the service or beside it."""
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in EVERY
        for node in functions(path)
        if (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    }
    assert long == set()


def test_names_say_something() -> None:
    """No module is called after nothing in particular."""
    assert {module_name(path) for path in SERVICE + TESTING if path.stem.strip("_") in VAGUE} == set()


def test_no_two_public_classes_share_a_name() -> None:
    """A class of the service that others may use is the only one of its name: one word means one thing."""
    places: dict[str, list[str]] = {}
    for path in SERVICE:
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module_name(path))
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_everything_public_is_described() -> None:
    """Every module, public class and public function of the package has a docstring that is a sentence."""
    silent = [
        f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'module')}"
        for path in SERVICE + TESTING
        for node in described(tree(path))
        if not re.match(r"\S.*[.?!:;)`…,\w\"]", ast.get_docstring(node) or "")
    ]
    assert silent == []


def test_every_test_states_its_promise() -> None:
    """Each test has a docstring: the promise that is broken when it fails."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in TESTS
        for node in functions(path)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert silent == []


def comments(path: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_nothing_is_left_for_later() -> None:
    """No comment promises work, and no function stands in for one that is missing."""
    words = re.compile("TODO|FIXME|XXX|HACK")
    left = [f"{path.relative_to(ROOT)}:{line}" for path in EVERY for line, text in comments(path) if words.search(text)]
    left += [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in [*SERVICE, *TESTING]
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Name) and node.id == "NotImplemented" + "Error"
    ]
    assert left == []


def test_exceptions_to_rules_give_their_reason() -> None:
    """A `noqa` and a `type: ignore` name their rule, and say why on the same line."""
    reasoned = re.compile(r"# noqa: [A-Z]+[0-9]+(, ?[A-Z]+[0-9]+)* - \S|# type: ignore\[[a-z-]+(, ?[a-z-]+)*\]  # \S")
    mute = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in EVERY
        for line, text in comments(path)
        if re.search(r"# ?(noqa|type: ?ignore)", text) and not reasoned.search(text)
    ]
    assert mute == []


def test_ruff_exclusions_give_their_reason() -> None:
    """Every rule that is switched off for all files says why, on its line."""
    text = (ROOT / "pyproject.toml").read_text()
    block = text.partition("\nignore = [\n")[2].partition("\n]")[0]
    assert block
    assert [line for line in block.splitlines() if not re.search(r'^  "[A-Z0-9]+",\s+# \S', line)] == []


def test_nothing_ties_the_tree_to_one_machine_or_one_index() -> None:
    """No file names a path of a build machine or the host of a package index."""
    machine = re.compile(r"(?<![\w}./-])/(work|root|home/\w+)/\w")
    index = re.compile(
        "py" r"pi\.(org|python)|python" r"hosted\.org|npm" r"js\.org|proxy\." r"golang\.org", re.IGNORECASE
    )
    tied = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        tied += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
            for number, line in enumerate(text.splitlines(), 1)
            if machine.search(line) or index.search(line)
        ]
    assert tied == []


# What must match


def test_files_are_flushed_in_one_place() -> None:
    """The order in which bytes, names and folders reach the disk is right in one place, and nobody has another."""
    own = [module_name(path) for path in SERVICE if re.search(r"\bf(?:data)?sync\(", path.read_text())]
    assert own == ["mirrord.files"]


def test_failpoints_are_declared_and_placed() -> None:
    """Every declared failpoint is hit somewhere, and every one that is hit is declared: a crash test walks them all."""
    hit = {
        node.args[0].value
        for path in SERVICE
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("failpoints.hit", "hit")
        and isinstance(node.args[0], ast.Constant)
    }
    assert hit == failpoints.NAMES


def test_every_syncer_folder_is_an_entry_point() -> None:
    """A folder under `syncers` and a line in the entry-point group are the same thing, by the same name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    folders = {path.parent.name for path in (ROOT / "mirrord/syncers").glob("*/__init__.py")}
    points = project["entry-points"]["mirrord.syncers.v1"]
    assert points == {name: f"mirrord.syncers.{name}:SYNCER" for name in folders}


def test_the_error_tree_is_drawn_as_it_is() -> None:
    """The drawing on top of `errors.py` shows every class below its parent; a line may have several."""
    drawn: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^([ │├└─]*)([A-Z]\w+Error(?:, [A-Z]\w+Error)*)$", line)
        if not found:
            continue
        depth = len(found[1])
        while stack and stack[-1][0] >= depth:
            stack.pop()
        names = found[2].split(", ")
        drawn |= dict.fromkeys(names, stack[-1][1] if stack else "Exception")
        stack.append((depth, names[-1]))
    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert drawn == {name: kind.__bases__[0].__name__ for name, kind in kinds.items()}


def test_every_public_error_code_is_its_own() -> None:
    """No two errors share a code: what goes over the control socket comes back as what it was."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = [kind.code for kind in kinds if issubclass(kind, errors.MirrordError)]
    assert len(codes) == len(set(codes))
