"""The architecture, enforced: layers, heavy imports, size, and what the packages offer."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAPPED = ("convert", "quantize", "targets", "toolchain")
MAX_LINES = 400

# Top to bottom. A module imports from the layers below its own, and from its own group.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("edgeconv.__main__",),
    ("edgeconv.cli",),
    ("edgeconv.commands",),
    ("edgeconv",),
    ("edgeconv.commands.console", "edgeconv.pytest_plugin"),
    ("edgeconv.parity.cross_check",),
    (
        "edgeconv.pipeline.run",
        "edgeconv.parity.bundle",
        "edgeconv.parity.isolate",
        "edgeconv.parity.pairs",
        "edgeconv.deployment",
    ),
    (
        "edgeconv.sources.selection",
        "edgeconv.sources.folding",
        "edgeconv.pipeline.plan",
    ),
    ("edgeconv.parity.verdict", "edgeconv.parity.candidates", "edgeconv.parity.trials"),
    ("edgeconv.parity.layers",),
    ("edgeconv.sources.workers",),
    ("edgeconv.sources.torch_process",),
    ("edgeconv.sources.wrapped",),
    ("edgeconv.sources.load",),
    (
        "edgeconv.inspection",
        "edgeconv.sources.remote_torch",
        "edgeconv.sources.samples",
        "edgeconv.parity.check",
        "edgeconv.pipeline.result",
    ),
    ("edgeconv.metrics.report", "edgeconv.reports"),
    ("edgeconv.parity.streaming",),
    ("edgeconv.targets",),
    ("edgeconv.quantize",),
    ("edgeconv.convert", "edgeconv.core.bundle", "edgeconv.reports.text"),
    ("edgeconv.toolchain",),
    (
        "edgeconv.metrics.layer_errors",
        "edgeconv.reports.headline",
        "edgeconv.metrics.worst",
        "edgeconv.core.seal",
    ),
    ("edgeconv.metrics.stream_parity",),
    (
        "edgeconv.metrics.parity",
        "edgeconv.metrics.batches",
        "edgeconv.parity.baseline",
        "edgeconv.tflite.file",
        "edgeconv.convert.onnx.light",
        "edgeconv.core.arrays",
        "edgeconv.core.streams",
        "edgeconv.core.disk",
        "edgeconv.core.scratch",
        "edgeconv.core.job",
        "edgeconv.core.preprocess",
        "edgeconv.core.roles",
        "edgeconv.core.vectors",
        "edgeconv.core.json_files",
    ),
    ("edgeconv.metrics.judging", "edgeconv.core.npz", "edgeconv.tflite.guard"),
    ("edgeconv.core.mapped",),
    ("edgeconv.metrics.figures",),
    ("edgeconv.metrics.row_matching",),
    ("edgeconv.metrics.parts", "edgeconv.metrics.sums"),
    ("edgeconv.core.stream",),
    ("edgeconv.core.options", "edgeconv.core.state_search"),
    ("edgeconv.core.states",),
    ("edgeconv.core.artifacts",),
    ("edgeconv.core.gate_files",),
    ("edgeconv.core.gates", "edgeconv.core.steps"),
    ("edgeconv.core.errors", "edgeconv.core.visible"),
)

# Modules that may import what takes seconds to import or may abort the process. All but torch
# and the flatbuffer schema belong into worker processes.
HEAVY: dict[str, tuple[str, ...]] = {
    "tensorflow": (
        "edgeconv.convert",
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
        "edgeconv.tflite.file",
        "edgeconv.tflite.guard",
        "edgeconv.quantize",
        "edgeconv.targets.coral.legalise",
        "edgeconv.convert.saved_model.distinct_outputs",
        "edgeconv.convert.saved_model.to_tflite",
        "edgeconv.toolchain.runtimes.litert",
    ),
    "torch": ("edgeconv.convert",),
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


def imports(module: str, *, type_only: bool) -> Iterator[tuple[str, int]]:
    """Yield each module that ``module`` imports anywhere, functions included, with its line.

    Args:
        module: Dotted name.
        type_only: Whether to include imports under ``if TYPE_CHECKING``.
    """
    tree = ast.parse(sources()[module].read_text())
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


def group_of(module: str) -> tuple[int, str]:
    """Return the layer and the group of a module: the longest entry of LAYERS that fits."""
    fitting = [
        (group, layer)
        for layer, groups in enumerate(LAYERS)
        for group in groups
        if module == group or (module.startswith(group + ".") and group != "edgeconv")
    ]
    assert fitting, f"{module} is in no layer: add it to LAYERS and to the table in README.md"
    group, layer = max(fitting, key=lambda entry: len(entry[0]))
    return layer, group


def test_imports_point_downwards() -> None:
    wrong = []
    for module in sources():
        layer, group = group_of(module)
        for imported, line in imports(module, type_only=True):
            if imported.partition(".")[0] != "edgeconv":
                continue
            other_layer, other_group = group_of(imported)
            if other_layer <= layer and other_group != group:
                wrong.append(f"{sources()[module]}:{line}: {module} imports {imported}")
    assert not wrong, "\n".join(wrong)


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
        if group_of(module)[1] not in LAYERS[1]
        for node in ast.walk(ast.parse(path.read_text()))
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
