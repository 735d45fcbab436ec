"""The documentation says what happens: commands, links, names and the two opening commands."""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import zeromean
from zeromean.cli import main

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
TUTORIAL = ROOT / "docs" / "tutorial.md"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_MACHINE_PATH = re.compile(r"(?<![\w.])/(work|home|tmp|root|Users|mnt|data)/|[A-Z]:\\")
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_MAKE = 'python3 -m venv .venv && .venv/bin/pip install --quiet -e ".[{}]" && .venv/bin/{}\n'
_SET_UP = [_MAKE.format("demo", "zeromean demo"), _MAKE.format("test", "pytest -q")]


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and body of every fenced block, in order."""
    for found in _BLOCK.finditer(text):
        yield found[1], found[2]


def _commands(body: str) -> Iterator[tuple[str, str]]:
    """Each `$ command` of a console block, with the output that the page shows below it."""
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def _run_python(body: str, names: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(body, names, "page", None, None)
    runner = doctest.DocTestRunner(optionflags=_FLAGS)
    log: list[str] = []
    failed = runner.run(test, out=log.append, clear_globs=False).failed
    names.update(test.globs)
    assert not failed, "".join(log)


def _run_console(body: str) -> None:
    """Run the commands of a console block here, and compare; what is not shown is not compared."""
    for command, shown in _commands(body):
        words = shlex.split(command, comments=True)
        assert words[0] == "zeromean", command
        target = words.pop() if ">" in words else ""  # $ zeromean ... --json > file
        words = [word for word in words if word != ">"]
        result = CliRunner().invoke(main, words[1:], prog_name="zeromean")
        failure_shown = "error:" in shown.lower()
        assert (result.exit_code == 2) == failure_shown, f"{command}\n{result.output}"
        assert result.exit_code in (0, 2), f"{command}\n{result.output}"
        if target:
            Path(target).write_text(result.stdout, encoding="utf-8")
        elif shown.strip():
            same = doctest.OutputChecker().check_output(shown, result.output, _FLAGS)
            assert same, f"$ {command}\n{result.output}\n-- but the page shows --\n{shown}"


def _run_page(text: str, pytest_patch: pytest.MonkeyPatch, names: dict[str, Any]) -> int:
    """Run Python and console blocks in order, commands in the tutorial's folder; count commands."""
    count = 0
    for language, body in _blocks(text):
        if language == "python":
            _run_python(body, names)
        elif language == "console":
            pytest_patch.chdir(names["folder"])
            _run_console(body)
            count += body.count("\n$ ") + body.startswith("$ ")
    return count


@pytest.fixture
def set_up(tmp_path, monkeypatch) -> dict[str, Any]:
    """Names after the tutorial's first block, which makes the pictures; all below `tmp_path`."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    names: dict[str, Any] = {}
    first = next(body for language, body in _blocks(TUTORIAL.read_text("utf-8")))
    _run_python(first, names)
    monkeypatch.chdir(names["folder"])
    return names


WITH_COMMANDS = [page for page in PAGES if "```console" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_commands_print_what_the_page_shows(page, set_up, monkeypatch):
    names = {} if page == TUTORIAL else set_up
    assert _run_page(page.read_text(encoding="utf-8"), monkeypatch, names) > 0


def test_tutorial_and_readme_show_commands():
    assert {TUTORIAL, ROOT / "README.md"} <= set(WITH_COMMANDS)


@pytest.mark.parametrize(
    "block",
    [
        "$ zeromean measure data/train\n13 items\n",  # other output
        "$ zeromean measure data/nothing\n",  # a failure that the page does not show
        "$ zeromean measure data/train\nerror: ...\n",  # a failure that does not happen
        "$ rm -rf data\n",  # another program
    ],
)
def test_console_runner_notices_a_page_that_drifted(set_up, block):
    with pytest.raises(AssertionError):
        _run_console(block)


def test_python_runner_notices_a_page_that_drifted():
    with pytest.raises(AssertionError):
        _run_python(">>> 1 + 1\n3\n", {})


def test_readme_opens_with_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shell = [body for language, body in _blocks(text) if language == "sh"][:2]
    assert shell == _SET_UP


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page):
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))  # code has brackets of its own
    for target in _LINK.findall(text):
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            found = (page.parent / file) if file else page
            assert found.exists(), f"{page.name} links to {target}, which is not there"
            assert not anchor or anchor in _anchors(found), f"{page.name}: no heading #{anchor}"


def _anchors(page: Path) -> set[str]:
    """Headings as the anchors that GitHub makes of them."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_anchors_are_those_of_github(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# The `zeromean/1` format\n```sh\n# no heading\n```\n## Two words\n")
    assert _anchors(page) == {"the-zeromean1-format", "two-words"}


def test_every_public_name_is_mentioned():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    missing = [name for name in zeromean.__all__ if not re.search(rf"\b{name}\b", text)]
    assert missing == []


def test_index_links_every_page():
    docs = ROOT / "docs"
    linked = set(_LINK.findall((docs / "index.md").read_text(encoding="utf-8")))
    pages = {page.relative_to(docs).as_posix() for page in docs.rglob("*.md")}
    assert pages - {"index.md"} <= linked


def test_every_option_is_in_the_reference():
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    options = {o for c in main.commands.values() for p in c.params for o in p.opts if o[:2] == "--"}
    assert [option for option in sorted(options) if f"`{option}" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_paths_of_one_machine(page):
    assert _MACHINE_PATH.findall(page.read_text(encoding="utf-8")) == []


def test_machine_paths_are_noticed():
    assert _MACHINE_PATH.search("see /home/somebody/x")
    assert not _MACHINE_PATH.search("data/train and docs/data/x")


def test_tutorial_leaves_nothing_behind(set_up, monkeypatch):
    names: dict[str, Any] = {}
    shutil.rmtree(set_up["folder"])
    _run_page(TUTORIAL.read_text(encoding="utf-8"), monkeypatch, names)
    assert not names["folder"].exists()
