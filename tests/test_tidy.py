"""The house's rules as tests. Each check is a function from source to faults, proved on a bad
example, and then run over every file of the project.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = sorted((ROOT / "eventmill").rglob("*.py"))
TESTS = sorted(p for p in (ROOT / "tests").rglob("test_*.py"))
BANNED = re.compile(r"(^|_)(manager|helper|helpers|utils?|common|misc)(_|$)")
MARKS = re.compile("TO" + r"DO|FIX" + r"ME|XXX")
FOREIGN_PATHS = re.compile(r"(?<![\w.])/(work|tmp/w)/")
# Where a failure of any kind is told and never swallowed: the edge of the program, of a thread,
# of a request.
CATCH_ALL = {
    "cli/main.py",
    "base/service.py",
    "client/callback.py",
    "compat/log_sending.py",
    "compat/log_text.py",
    "local/committer.py",
    "local/compaction.py",
    "schedule/alert_teller.py",
    "schedule/alerts.py",
    "schedule/run_work.py",
    "server/app.py",
    "server/problems.py",
}
CLOCK_AND_CHANCE = {"time.time", "time.sleep", "os.environ", "os.getenv"}
PURE = ("eventmill/schema/", "eventmill/wire/", "eventmill/store/googlesql/")
"""Rooms that decide and touch nothing: the same arguments give the same answer."""
OUTER_WORLD = {"asyncio", "http", "random", "socket", "sqlite3", "ssl", "subprocess", "time"}
RUNS_PROTOC = ("schema/compile.py", "schema/generate.py")
CANNOT_FAIL_WITHOUT = (
    "assert", "raises", "fail", "warns", "check", "expect", "judge", "run_state_machine",
)  # fmt: skip
Check = Callable[[str, str], Iterator[str]]


@cache
def parsed(source: str) -> ast.Module:
    """Return the syntax tree of a file: most checks look at every one."""
    return ast.parse(source)


def sizes(path: str, source: str) -> Iterator[str]:
    lines = source.splitlines()
    if len(lines) > 500:
        yield f"{len(lines)} lines; 500 are allowed"
    for number, line in enumerate(lines, 1):
        if len(line) > 100:
            yield f"line {number} has {len(line)} columns; 100 are allowed"
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            told = node.body[0].end_lineno - node.lineno if ast.get_docstring(node) else 0
            length = (node.end_lineno or 0) - node.lineno + 1 - told  # a promise costs no room
            if length > 70:
                yield f"{node.name} has {length} lines; 70 are allowed"


def documentation(path: str, source: str) -> Iterator[str]:
    tree = parsed(source)
    for name, node in [("module", tree), *_public(tree.body)]:
        text = ast.get_docstring(node) if hasattr(node, "body") else None
        if not text:
            yield f"{name} has no docstring"
        elif not text.split("\n\n")[0].rstrip().endswith((".", ":", "::")):
            yield f"the docstring of {name} does not begin with a whole sentence"


def _public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            overload = any("overload" in ast.unparse(d) for d in node.decorator_list)
            if node.name.startswith(("_", "test_")) or overload:
                continue
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef) and not prefix:
                yield from _public(node.body, f"{node.name}.")


def names(path: str, source: str) -> Iterator[str]:
    defined = (ast.ClassDef, ast.FunctionDef)
    found = [n.name for n in ast.walk(parsed(source)) if isinstance(n, defined)]
    found = [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in found]
    found.append(Path(path).stem)
    yield from (f"the name {name} says nothing" for name in found if BANNED.search(name))


def catch_all(path: str, source: str) -> Iterator[str]:
    if any(path.endswith(allowed) for allowed in CATCH_ALL):
        return
    for node in ast.walk(parsed(source)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        kind = ast.unparse(node.type) if node.type else "everything"
        raises = any(isinstance(below, ast.Raise) for below in ast.walk(node))
        if kind in ("everything", "Exception", "BaseException") and not raises:
            yield f"line {node.lineno} catches {kind} and goes on"


def clock_and_chance(path: str, source: str) -> Iterator[str]:
    if "eventmill/base/" in path:
        return
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            own = name.startswith("random.") and name not in (
                "random.Random",
                "random.SystemRandom",
            )
            if name in CLOCK_AND_CHANCE or own:
                yield f"line {node.lineno} uses {name}: take a Clock, a Random, or the settings"


def purity(path: str, source: str) -> Iterator[str]:
    if not any(room in path for room in PURE):
        return
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            modules = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            continue
        for module in {name.partition(".")[0] for name in modules} & OUTER_WORLD:
            if module != "subprocess" or not path.endswith(RUNS_PROTOC):
                yield f"line {node.lineno} imports {module}: this room decides, and others act"


def public_list(path: str, source: str) -> Iterator[str]:
    for node in parsed(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            listed = ast.literal_eval(node.value)
            if listed != sorted(listed):
                yield "__all__ is not sorted"


def marks(path: str, source: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and MARKS.search(token.string):
            yield f"line {token.start[0]} leaves work behind: {token.string}"


def vacuous_tests(path: str, source: str) -> Iterator[str]:
    functions = [n for n in ast.walk(parsed(source)) if isinstance(n, ast.FunctionDef)]
    judges = {node.name for node in functions if _judges(node, CANNOT_FAIL_WITHOUT)}
    for node in functions:
        if node.name.startswith("test_") and not _judges(node, (*CANNOT_FAIL_WITHOUT, *judges)):
            yield f"{node.name} asserts nothing"


def _judges(node: ast.FunctionDef, words: tuple[str, ...]) -> bool:
    calls = [ast.unparse(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)]
    asserts = any(isinstance(below, ast.Assert) for below in ast.walk(node))
    return asserts or any(word in call for call in calls for word in words)


def changelog(path: str, text: str) -> Iterator[str]:
    lines = text.splitlines()
    if not lines or lines[0] != "# Changelog":
        yield "it does not begin with '# Changelog'"
    versions = [line for line in lines if line.startswith("## ")]
    if not versions or versions[0] != "## [Unreleased]":
        yield "its first version is not '## [Unreleased]'"
    for line in versions[1:]:
        if not re.fullmatch(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", line):
            yield f"{line!r} is not '## [1.2.3] - 2026-01-31'"
    groups = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    yield from (f"{x!r} is no group" for x in lines if x.startswith("### ") and x[4:] not in groups)


def foreign_paths(path: str, text: str) -> Iterator[str]:
    yield from (f"{found[0]} is a path of one machine" for found in FOREIGN_PATHS.finditer(text))


PACKAGE_CHECKS = [
    sizes, documentation, names, catch_all, clock_and_chance, purity, public_list, marks,
]  # fmt: skip
BAD: dict[Check, tuple[str, str]] = {
    sizes: ("a.py", "def f():\n" + "    x = 1\n" * 70),
    documentation: ("a.py", '"""Module."""\ndef f():\n    """Do it"""\n'),
    names: ("store_utils.py", "x = 1\n"),
    catch_all: ("a.py", "try:\n    f()\nexcept Exception:\n    pass\n"),
    clock_and_chance: ("eventmill/store/a.py", "import time\ntime.sleep(1)\n"),
    purity: ("eventmill/wire/a.py", "from socket import create_connection\n"),
    public_list: ("__init__.py", '__all__ = ["b", "a"]\n'),
    marks: ("a.py", "x = 1  # TO" + "DO: later\n"),
    vacuous_tests: ("test_a.py", "def test_it():\n    f()\n"),
    changelog: ("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n### Improved\n"),
    foreign_paths: ("a.md", "see /wo" + "rk/main"),
}


@pytest.mark.parametrize("check", list(BAD), ids=lambda check: check.__name__)
def test_each_check_finds_its_bad_example(check: Check):
    assert list(check(*BAD[check]))


@pytest.mark.parametrize("check", PACKAGE_CHECKS, ids=lambda check: check.__name__)
def test_the_package_keeps_to_the_rules(check: Check):
    assert "\n".join(found_in(check, PACKAGE)) == ""


@pytest.mark.parametrize("check", [sizes, marks, vacuous_tests], ids=lambda c: c.__name__)
def test_the_tests_keep_to_the_rules(check: Check):
    assert "\n".join(found_in(check, TESTS)) == ""


def test_the_changelog_is_in_shape():
    assert "\n".join(found_in(changelog, [ROOT / "CHANGELOG.md"])) == ""


def test_no_tracked_file_names_a_path_of_one_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    paths = [ROOT / name for name in listed.stdout.split("\n") if name] or PACKAGE
    assert "\n".join(found_in(foreign_paths, [path for path in paths if path.is_file()])) == ""


def found_in(check: Check, paths: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {fault}"
        for path in paths
        for fault in check(str(path), path.read_text("utf-8", "replace"))
    ]
