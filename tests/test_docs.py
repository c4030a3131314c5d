"""The documentation: what its pages say of files, folders, commands, options and errors is so."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgeconv.commands.console import _EXIT_CODES
from edgeconv.commands.group import cli
from edgeconv.core import errors
from edgeconv.core.bundle import SCHEMA_VERSION
from edgeconv.core.declare import rows as option_rows
from edgeconv.quantize.recovery import RECOVERIES
from edgeconv.reports.schema import parity_schema
from edgeconv.targets.base import Target
from edgeconv.targets.gates import known_gates
from edgeconv.targets.options import every_option
from edgeconv.toolchain.worker.limits import IN_WORKER
from tests.test_layers import LAYERS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "ci" / "README.md"]

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install -e .[dev]")

# What stands for a path of the project begins in one of these.
_TOPS = (
    "benchmarks", "convert", "docs", "edgeconv", "examples", "quantize", "targets", "tests",
    "toolchain", ".ci",
)  # fmt: skip
_PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, _TOPS))})/[\w./*-]*\w/?")
_MODULE = re.compile(r"(?<![\w.-])edgeconv(?:\.(?!toml\b)[A-Za-z_]\w*)+")
_VARIABLE = re.compile(r"\"(EDGECONV_\w+)\"")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    return [*TEXTS, *PAGES]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def table_of(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the rows of the first table below a heading."""
    text = (DOCS / page).read_text().partition(f"# {heading}\n")[2]
    rows = re.search(r"(?m)^\|.*\n\|[-| ]+\n((?:\|.*\n?)+)", text)
    assert rows is not None, f"{page}: no table below {heading}"
    lines = rows[1].strip().splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_paths_that_pages_name_exist(page: Path) -> None:
    found = set(_PATH.findall(page.read_text()))
    assert not [path for path in sorted(found) if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_modules_that_pages_name_exist(page: Path) -> None:
    wrong = []
    for dotted in sorted(set(_MODULE.findall(page.read_text()))):
        first, *parts = dotted.split(".")
        if not _is_there(ROOT / first, parts):
            wrong.append(dotted)
    assert not wrong


def _is_there(folder: Path, parts: list[str]) -> bool:
    """Tell whether a dotted name below a package is a module, or a name that a module has."""
    for number, part in enumerate(parts):
        if (folder / part).is_dir():
            folder = folder / part
            continue
        module = folder / f"{part}.py"
        rest = parts[number + 1 :] if module.is_file() else parts[number:]
        source = (module if module.is_file() else folder / "__init__.py").read_text()
        return not rest or re.search(rf"\b{rest[0]}\b", source) is not None
    return True


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    wrong = []
    for link in _LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
        if page in PAGES and DOCS not in target.parents:
            wrong.append(f"{link} leads out of docs/, where MkDocs finds nothing")
    assert not wrong


def anchors(page: Path) -> Iterator[str]:
    """Return the anchors that headings of a page get."""
    for heading in re.findall(r"(?m)^#+ (.+)$", page.read_text()):
        yield re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def test_every_page_is_in_the_menu_once() -> None:
    listed = list(_leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


def _leaves(entry: object) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, list):
        for item in entry:
            yield from _leaves(item)
    elif isinstance(entry, dict):
        yield from _leaves(list(entry.values()))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_pages_name_no_place_on_somebodys_machine(page: Path) -> None:
    found = set(re.findall(r"(?<![\w.])/(?:home|root|work|tmp|Users)/\w+", page.read_text()))
    assert found <= {"/home/user", "/home/pi"}  # in what commands print


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_decisions_are_short_and_listed() -> None:
    index = (DOCS / "decisions" / "index.md").read_text()
    for page in (DOCS / "decisions").glob("*.md"):
        assert len(page.read_text().splitlines()) <= 25, page.name
        assert page.name == "index.md" or f"({page.name})" in index


def test_the_rows_of_the_architecture_are_those_of_the_layer_test() -> None:
    rows = table_of("architecture.md", "Rows")
    assert [int(row[0]) for row in rows] == list(range(1, len(LAYERS) + 1))
    assert [sorted(quoted(row[1])) for row in rows] == [sorted(layer) for layer in LAYERS]
    assert all(row[2] for row in rows)


def test_every_folder_has_a_word_on_what_it_is_for() -> None:
    named = {path for row in table_of("architecture.md", "Folders") for path in quoted(row[0])}
    roots = {ROOT / name for name in ("convert", "quantize", "toolchain", "edgeconv")}
    folders = {
        child.relative_to(ROOT).as_posix()
        for root in roots
        for child in root.iterdir()
        if child.is_dir() and not child.is_symlink() and any(child.glob("*.*"))
        if child.name not in ("__pycache__", "locks")
    }
    assert folders <= named
    assert all((ROOT / path).is_dir() for path in named if "/" in path and not path.endswith("/"))


@pytest.mark.parametrize("page", ["README.md", "docs/reference/commands.md"])
def test_the_tables_of_commands_have_every_command(page: str) -> None:
    text = (ROOT / page).read_text()
    assert isinstance(cli, click.Group)
    listed = re.findall(r"(?m)^\| `edgeconv ([a-z0-9]+)", text)
    assert sorted(listed) == sorted(cli.commands)


def test_the_table_of_errors_has_every_error_with_its_base_and_exit_code() -> None:
    classes = {
        name: value
        for name, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, Exception) and value.__module__ == errors.__name__
    }
    stated = {quoted(row[0])[0]: row for row in table_of("reference/errors.md", "Errors")}
    assert set(stated) == set(classes)
    for name, error in classes.items():
        base = error.__base__
        assert base is not None
        assert quoted(stated[name][1]) == [base.__name__]
        codes = [code for kind, code in _EXIT_CODES if issubclass(error, kind)]
        assert stated[name][3] == (str(codes[0]) if codes else "")


def test_the_table_of_options_names_options_that_there_are() -> None:
    assert isinstance(cli, click.Group)
    command = cli.commands["torch2tflite"]
    every = command.get_params(click.Context(command))
    options = {text for option in every for text in option.opts}
    named = {
        text
        for row in table_of("reference/options.md", "In detail")
        for text in quoted(row[0])
        if text.startswith("-")
    }
    assert named <= options


def test_the_table_of_every_option_is_what_the_options_say() -> None:
    table = "\n".join(option_rows(every_option()))
    assert table in (DOCS / "reference" / "options.md").read_text(), f"it needs:\n{table}"


def test_the_table_of_recovery_methods_has_every_method() -> None:
    named = [quoted(row[0])[0] for row in table_of("guide/quantize.md", "Accuracy")]
    methods = {method.name for method in RECOVERIES}
    assert sorted(named) == sorted(methods)
    assert len(methods) == 9
    assert "nine methods that win accuracy back" in (ROOT / "README.md").read_text()


def test_the_tables_of_parity_have_every_key_that_the_schema_requires() -> None:
    schema = parity_schema()
    text = (DOCS / "reference" / "bundle.md").read_text().partition("## parity.json")[2]
    keys = {*schema["properties"], *schema["$defs"]["stage"]["required"]} - {"schema_version"}
    assert keys <= set(quoted(text))
    assert f"schema version {SCHEMA_VERSION}" in text


def test_the_table_of_gates_has_the_default_limits() -> None:
    text = (DOCS / "guide" / "parity.md").read_text().partition("## Gates\n")[2]
    metrics = quoted(next(line for line in text.splitlines() if line.startswith("| stage")))
    stated = {
        stage: {
            metric: float(limit) for metric, limit in zip(metrics, limits, strict=True) if limit
        }
        for stages, *limits in table_of("guide/parity.md", "Gates")
        for stage in quoted(stages)
    }
    assert stated == known_gates()


def test_the_table_of_a_target_has_every_member_of_the_protocol() -> None:
    rows = table_of("extending.md", "Add a target")
    stated = [name for row in rows for name in quoted(row[0])]
    members = {name for name in vars(Target) if not name.startswith("_")}
    assert sorted(stated) == sorted(members)


def test_the_table_of_the_environment_has_every_variable_that_is_read() -> None:
    folders = ("edgeconv", "convert", "quantize", "targets", "toolchain")
    sources = [path for name in folders for path in (ROOT / name).rglob("*.py")]
    read = {
        name for path in sources for name in re.findall(r"\"(EDGECONV_\w+)\"", path.read_text())
    }
    stated = {quoted(row[0])[0] for row in table_of("reference/commands.md", "Environment")}
    assert read - {IN_WORKER} == {name for name in stated if name.startswith("EDGECONV_")}
