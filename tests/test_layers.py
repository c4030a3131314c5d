"""The architecture, enforced: layers, heavy imports, size, and what the packages offer."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAPPED = ("convert", "quantize", "targets", "toolchain")
MAX_LINES = 400
FOLDERS = ("edgeconv.convert", "edgeconv.quantize", "edgeconv.targets", "edgeconv.toolchain")

# Folders from top to bottom. A module imports from its own folder and from the layers below.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("edgeconv",),
    ("edgeconv.commands",),
    ("edgeconv.pipeline", "edgeconv.deployment", "edgeconv.inspection"),
    ("edgeconv.parity", "edgeconv.reports"),
    ("edgeconv.sources", "edgeconv.targets"),
    ("edgeconv.quantize",),
    ("edgeconv.convert", "edgeconv.samples"),
    ("edgeconv.toolchain", "edgeconv.metrics"),
    ("edgeconv.tflite",),
    ("edgeconv.core",),
)

# Modules that may import what takes seconds to import or may abort the process. All but torch
# and the flatbuffer schema belong into worker processes.
HEAVY: dict[str, tuple[str, ...]] = {
    "tensorflow": (
        "edgeconv.convert.ops",
        "edgeconv.convert.saved_model",
        "edgeconv.convert.translate",
        "edgeconv.inspection.summaries",
        "edgeconv.toolchain.environments.scripts",
        "edgeconv.parity.layers.saved_model",
        "edgeconv.toolchain.runtimes.tensorflow",
        "edgeconv.toolchain.runtimes.saved_model",
    ),
    "onnxruntime": (
        "edgeconv.parity.layers.onnx_values",
        "edgeconv.toolchain.runtimes.onnxruntime",
    ),
    "ai_edge_litert": (
        "edgeconv.tflite",
        "edgeconv.quantize",
        "edgeconv.parity.layers.excerpt",
        "edgeconv.targets.coral.legalise",
        "edgeconv.convert.saved_model",
        "edgeconv.toolchain.runtimes",
    ),
    "torch": (
        "edgeconv.convert.torch",
        "edgeconv.convert.stages",
    ),
}


@cache
def sources() -> dict[str, Path]:
    """Return every module of the project by its dotted name."""
    roots = {"edgeconv": ROOT / "edgeconv"} | {f"edgeconv.{name}": ROOT / name for name in MAPPED}
    found = {}
    for prefix, folder in roots.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if folder.name == "edgeconv" and parts[0] in MAPPED:
                continue
            found[".".join((prefix, *parts)).removesuffix(".__init__")] = path
    return found


@cache
def tree_of(module: str) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(sources()[module].read_text())


def imports(module: str, *, type_only: bool) -> Iterator[tuple[str, int]]:
    """Yield each module that ``module`` imports anywhere, functions included, with its line.

    Args:
        module: Dotted name.
        type_only: Whether to include imports under ``if TYPE_CHECKING``.
    """
    tree = tree_of(module)
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= {inner for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if node in skipped and not type_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _from_imports(module, node)


def _from_imports(module: str, node: ast.ImportFrom) -> Iterator[tuple[str, int]]:
    base = node.module or ""
    if node.level:
        package = module if sources()[module].name == "__init__.py" else module.rpartition(".")[0]
        for _ in range(node.level - 1):
            package = package.rpartition(".")[0]
        base = f"{package}.{base}".rstrip(".")
    for alias in node.names:
        full = f"{base}.{alias.name}"
        yield (full if full in sources() else base), node.lineno


def called_by_name(module: str) -> Iterator[tuple[str, int]]:
    """Yield each module that ``module`` names as ``"edgeconv.module:function"``, with its line."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = node.value.partition(":")[0]
            if "." in named and named in sources() and named not in FOLDERS:
                yield named, node.lineno


def folder_of(module: str) -> str:
    """Return the package that a module lies in: itself where it is one."""
    is_package = sources()[module].name == "__init__.py"
    return module if is_package else module.rpartition(".")[0]


def group_of(module: str) -> tuple[int, str]:
    """Return the layer and the folder of a module, at the first level below the root."""
    parts = folder_of(module).split(".")
    group = ".".join(parts[:2])
    fitting = [layer for layer, groups in enumerate(LAYERS) if group in groups]
    assert fitting, f"{module} is in no layer: add {group} to LAYERS and to docs/architecture.md"
    return fitting[0], group


def test_imports_point_downwards() -> None:
    wrong = []
    for module in sources():
        layer, group = group_of(module)
        for imported, line in (*imports(module, type_only=True), *called_by_name(module)):
            if imported.partition(".")[0] != "edgeconv":
                continue
            other_layer, other_group = group_of(imported)
            if other_layer <= layer and other_group != group:
                wrong.append(f"{sources()[module]}:{line}: {module} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_folders_do_not_import_each_other_in_circles() -> None:
    graph: dict[str, set[str]] = {}
    for module in sources():
        for imported, _ in (*imports(module, type_only=True), *called_by_name(module)):
            if imported in sources() and folder_of(imported) != folder_of(module):
                graph.setdefault(folder_of(module), set()).add(folder_of(imported))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_heavy_packages_stay_where_they_belong() -> None:
    wrong = [
        f"{sources()[module]}:{line}: {module} imports {imported}"
        for module in sources()
        for imported, line in imports(module, type_only=False)
        if (allowed := HEAVY.get(imported.partition(".")[0])) is not None
        and not any(module == place or module.startswith(place + ".") for place in allowed)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_command_line_starts_without_heavy_packages() -> None:
    code = "import edgeconv, edgeconv.cli, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    heavy = {*HEAVY, "onnx", "onnx_ir", "onnxscript", "PIL", "jinja2"}
    assert not heavy & set(done.stdout.split())


def test_modules_stay_short() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in sources().items()}
    assert not {name: length for name, length in lengths.items() if length > MAX_LINES}


def test_only_the_command_line_prints() -> None:
    wrong = [
        f"{path}:{node.lineno}"
        for module, path in sources().items()
        if module != "edgeconv.cli"
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not wrong, "\n".join(wrong)


def test_what_the_modules_offer_exists() -> None:
    wrong = []
    for module, path in sources().items():
        if "__all__" in path.read_text():
            loaded = importlib.import_module(module)
            wrong += [f"{module}.{name}" for name in loaded.__all__ if not hasattr(loaded, name)]
            assert len(set(loaded.__all__)) == len(loaded.__all__)
    assert not wrong
