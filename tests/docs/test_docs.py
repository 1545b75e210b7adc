"""The pages tell the truth: every example runs, every name they name exists, every link leads somewhere."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import thea_store
from tests.support.pages import examples_of, try_page
from thea_store import Settings, StoreError
from thea_store.cli.commands import app
from thea_store.testing import TestDatabase
from tools import reference

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted(DOCS.rglob("*.md"))
TRIED = [page for page in [README, *PAGES] if examples_of(page)]
SECURITY = ROOT / "SECURITY.md"
READ = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", SECURITY, *PAGES]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", READ, ids=name_of)


@pytest.mark.parametrize(
    "page",
    [page if page.name == "README.md" else pytest.param(page, marks=pytest.mark.slow) for page in TRIED],
    ids=name_of,
)
def test_every_example_runs(page: Path, thea_new_database: Callable[[], TestDatabase], tmp_path: Path) -> None:
    try_page(page, thea_new_database(), tmp_path)


# --- what the pages name exists -----------------------------------------------------------------


def commands() -> dict[str, set[str]]:
    """The options of every command, by its words."""
    found = {}

    def walk(command: Any, words: str) -> None:
        for name, child in getattr(command, "commands", {}).items():
            walk(child, f"{words} {name}")
        if not hasattr(command, "commands"):
            found[words] = {option for parameter in command.params for option in parameter.opts}

    walk(typer.main.get_command(app), "thea-store")
    return found


def calls(text: str) -> Iterator[str]:
    """Each call of the command line that the text shows."""
    blocks = re.findall(r"^```sh\n(.*?)^```", textwrap.dedent(text), re.DOTALL | re.MULTILINE)
    for line in [*re.findall(r"`(thea-store [^`]+)`", text), *"\n".join(blocks).splitlines()]:
        for part in line.split(" #")[0].split("&&"):
            if call := re.search(r"\bthea-store .+", part):
                yield call[0].strip()


@each_page
def test_commands_and_their_options_exist(page: Path) -> None:
    known = commands()
    for call in calls(page.read_text()):
        words = shlex.split(re.sub(r"[\[\]]", "", call))
        command = max((each for each in known if f"{' '.join(words)} ".startswith(f"{each} ")), key=len, default="")

        assert command, f"`{call}` is no command"
        assert {word for word in words if word.startswith("--")} <= known[command] | {"--help"}, call


@each_page
def test_variables_exist(page: Path) -> None:
    text = page.read_text()
    sources = "".join(path.read_text() for path in (ROOT / "thea_store").rglob("*.py"))

    assert names("DATABASE", text) <= {f"DATABASE_{name.upper()}" for name in Settings.model_fields}
    assert names("THEA", text) <= names("THEA", sources)


def names(prefix: str, text: str) -> set[str]:
    return set(re.findall(rf"\b{prefix}_[A-Z_]+[A-Z]", text))


@each_page
def test_targets_of_make_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert set(re.findall(r"(?:^|`)make ([a-z0-9-]+)", page.read_text(), re.MULTILINE)) <= set(targets)


@each_page
def test_links_lead_to_files(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", prose) if "://" not in link]

    assert [link for link in links if not (page.parent / link).exists()] == []


# --- what exists is told ------------------------------------------------------------------------


def test_every_setting_is_told_with_its_default() -> None:
    rows = re.findall(r"^\| `(DATABASE_\w+)` \| ([^|]+) \|", (DOCS / "settings.md").read_text(), re.MULTILINE)
    words = {None: "none", False: "false", "": "required"}
    defaults = {
        f"DATABASE_{name.upper()}": words.get(field.default, str(field.default))
        for name, field in Settings.model_fields.items()
    }

    assert dict(rows) == defaults
    assert defaults.keys() <= names("DATABASE", README.read_text())


def test_every_command_is_told() -> None:
    pages = "".join(page.read_text() for page in PAGES)

    assert [command for command in commands() if command not in pages] == []
    assert [command for command in commands() if command not in README.read_text()] == []


def test_every_error_says_what_it_means_and_how_to_mend_it() -> None:
    parts = re.split(r"^### `", (DOCS / "troubleshooting.md").read_text(), flags=re.MULTILINE)[1:]
    entries = {part.split("`", 1)[0]: part for part in parts}

    assert sorted(entries) == sorted(name for name in thea_store.__all__ if is_error(name))
    assert [name for name, part in entries.items() if "**Means.**" not in part or "**Fix.**" not in part] == []


def test_what_an_error_is_said_to_say_is_what_it_says() -> None:
    tables = re.findall(r"\| it says \|.*\n\|[-|]+\n((?:\|.*\n)+)", (DOCS / "troubleshooting.md").read_text())
    sayings = [row.split("|")[1].strip() for table in tables for row in table.splitlines()]
    said = texts_of_the_code()

    assert len(sayings) > 30
    assert [part for saying in sayings for part in re.split(r":? ?… ?", saying) if part and part not in said] == []


def texts_of_the_code() -> str:
    """All strings of the library, each on a line, with … for what is put into them."""
    found = []
    for path in (ROOT / "thea_store").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_every_public_name_is_in_the_reference() -> None:
    text = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    referred = {name.rpartition(".")[2] for name in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)}

    assert {name for name in thea_store.__all__ if not is_error(name)} - referred == {"__version__"}


def is_error(name: str) -> bool:
    thing = getattr(thea_store, name)
    return isinstance(thing, type) and issubclass(thing, StoreError)


def is_test(file: str, name: str) -> bool:
    """Whether the file is there, and defines a test of this very name, where one is given."""
    path = ROOT / file
    if not path.is_file():
        return False
    return not name or re.search(rf"^(?:async )?def {name}\(", path.read_text(), re.MULTILINE) is not None


def test_every_claim_of_security_names_tests_that_exist() -> None:
    rows = re.findall(r"^\| (?!claim |what it can do |who |[-|]+$).+ \| (.+) \|$", SECURITY.read_text(), re.MULTILINE)
    claims = [row for row in rows if "`tests/" in row or "`tools/" in row]
    named = [place for row in claims for place in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row)]

    assert len(claims) > 30
    assert [place for place in named if not is_test(*place)] == []
    assert not is_test("tests/docs/test_docs.py", "test_every_claim_of_security")  # the beginning of a name is no test
    assert len(rows) - len(claims) == len(["a user", "a mistake", "free SQL", "a crash"])


# --- the pages are built strictly ---------------------------------------------------------------


def build(site: Path, config: str) -> subprocess.CompletedProcess[str]:
    site.joinpath("mkdocs.yml").write_text(config.replace("paths: [.]", f"paths: [{ROOT}]"))
    program = Path(sys.executable).with_name("zensical")
    return subprocess.run([program, "build", "--strict"], cwd=site, capture_output=True, text=True, check=False)


CONFIG = (ROOT / "mkdocs.yml").read_text()


@pytest.mark.slow
def test_the_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    built = build(tmp_path, CONFIG)

    assert built.returncode == 0, built.stdout + built.stderr

    # What draws the pictures lies beside the pages (`make docs` puts it there): nothing is fetched for them.
    pages = {page: page.read_text() for page in (tmp_path / "build" / "docs").rglob("*.html")}
    with_pictures = [text for text in pages.values() if 'class="mermaid"' in text]
    assert with_pictures
    assert all('src="../assets/mermaid.min.js"' in text for text in with_pictures)
    assert not any(
        re.search(r'<(script|img|link)\b[^>]*(src|href)="https?://(?!thea)', text) for text in pages.values()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("defects", "complaint"),
    [
        (["[x](missing.md)", "[x](#missing)", "[x][thea_store.Missing]"], "3 issues found"),
        (["::: thea_store.Missing"], "Could not collect 'thea_store.Missing'"),
    ],
)
def test_a_link_to_nowhere_fails_the_build(tmp_path: Path, defects: list[str], complaint: str) -> None:
    tmp_path.joinpath("docs").mkdir()
    tmp_path.joinpath("docs", "index.md").write_text("\n\n".join(["# Home", *defects, ""]))
    built = build(tmp_path, re.sub(r"^nav:\n(?: .*\n)+", "nav:\n  - Home: index.md\n", CONFIG, flags=re.MULTILINE))

    assert built.returncode != 0
    assert complaint in built.stdout + built.stderr


def test_the_navigation_has_every_page_once() -> None:
    # A page that the navigation names and nobody wrote is no warning to the builder.
    shown = re.findall(r"^ +- .+: (\S+\.md)$", CONFIG, re.MULTILINE)

    assert sorted(shown) == sorted(str(page.relative_to(DOCS)) for page in PAGES)


def test_the_test_in_the_readme_runs_as_it_is_pasted(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    section = (ROOT / "README.md").read_text().partition("## Tests of your service")[2]
    source = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    pytester.path.joinpath("test_notes.py").write_text(source)

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")

    result.assert_outcomes(passed=1)


def test_the_plain_reference_says_what_the_docstrings_say() -> None:
    plain = (DOCS / "reference" / "plain.md").read_text()

    assert plain == reference.rendered(), "run `make reference`"
    assert not re.search(r"^:::", plain, re.MULTILINE)
    assert {name for name in thea_store.__all__ if f"`{name}`" not in plain} == {"__version__"}
