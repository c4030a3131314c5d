"""What gets installed: from a wheel, from an editable checkout, from an sdist."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.environments import copied, install, output

ROOT = Path(__file__).resolve().parents[1]
MAPPED = ("convert", "quantize", "targets", "toolchain")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def package_files(root: Path) -> dict[str, Path]:
    """Return every file that belongs into the wheel: its place there, and where it is kept."""
    kept = {"edgeconv": root / "edgeconv"} | {f"edgeconv/{name}": root / name for name in MAPPED}
    found = {}
    for prefix, folder in kept.items():
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if path.is_symlink() or (inside.parts[0] in MAPPED and folder.name == "edgeconv"):
                continue
            if path.is_file() and "__pycache__" not in inside.parts:
                found[f"{prefix}/{inside.as_posix()}"] = path
    return found


def test_every_package_folder_is_listed(project: dict[str, Any]) -> None:
    folders = {place.rpartition("/")[0] for place in package_files(ROOT) if place.endswith(".py")}
    listed = project["tool"]["setuptools"]["packages"]
    assert sorted(folder.replace("/", ".") for folder in folders) == sorted(listed)
    assert all(
        (path.parent / "__init__.py").is_file()
        for path in package_files(ROOT).values()
        if path.suffix == ".py"
    )


def test_links_let_type_checkers_find_the_mapped_packages() -> None:
    for name in MAPPED:
        assert (ROOT / "edgeconv" / name).readlink() == Path("..", name)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_links_are_links_in_git() -> None:
    links = [f"edgeconv/{name}" for name in MAPPED]
    listing = output("git", "ls-files", "-s", "--", *links, cwd=ROOT)
    modes = {line.split("\t")[1]: line.split()[0] for line in listing.splitlines()}
    assert modes == dict.fromkeys(links, "120000")


def test_direct_dependencies_are_declared_and_used(project: dict[str, Any]) -> None:
    declared = {_name(entry) for entry in project["project"]["dependencies"]}
    by_module = importlib.metadata.packages_distributions()
    used = set()
    for module in _imported_modules():
        distributions = {canonicalize_name(name) for name in by_module.get(module, [])}
        assert distributions & declared, f"{module} is imported, but no dependency provides it"
        used |= distributions
    # Either TensorFlow package provides the same module; torch's ONNX exporter imports onnxscript.
    assert declared - used <= {"tensorflow", "tensorflow-cpu", "onnxscript"}


def test_every_requirement_is_pinned_inside_its_range(project: dict[str, Any]) -> None:
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    extras = project["project"]["optional-dependencies"].values()
    for entry in [
        *project["project"]["dependencies"],
        *(item for extra in extras for item in extra),
    ]:
        requirement = Requirement(entry)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), entry


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that building leaves no traces in them."""
    return copied(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the sdist, as publishing does it."""
    target = tmp_path_factory.mktemp("dist")
    output(sys.executable, "-m", "build", "--no-isolation", "-o", str(target), str(checkout))
    (wheel,) = target.glob("*.whl")
    assert len(list(target.glob("*.tar.gz"))) == 1
    return wheel


@pytest.mark.slow
class TestInstalled:
    """Each way of installing, in an environment of its own that borrows only the dependencies."""

    def test_wheel_from_sdist_holds_every_file_and_nothing_else(
        self, wheel: Path, checkout: Path
    ) -> None:
        with zipfile.ZipFile(wheel) as archive:
            names = {name for name in archive.namelist() if ".dist-info/" not in name}
            (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
            text = archive.read(metadata).decode()
            assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
        assert names == set(package_files(checkout))
        assert "edgeconv/py.typed" in names
        assert "License-Expression: Apache-2.0" in text

    def test_wheel_installs_only_edgeconv_and_runs_anywhere(
        self, wheel: Path, tmp_path: Path
    ) -> None:
        python, added = install(tmp_path, str(wheel))
        assert added == {"edgeconv"}
        _check_it_works(python, tmp_path / "environment")

    def test_editable_checkout_works_and_sees_new_modules(
        self, checkout: Path, tmp_path: Path
    ) -> None:
        python, added = install(tmp_path, "-e", str(checkout))
        assert all(re.match(r"__editable__.*edgeconv", name) for name in added), added
        _check_it_works(python, checkout)
        fresh = checkout / "quantize" / "added_later.py"
        fresh.write_text("VALUE = 7\n")
        code = "from edgeconv.quantize.added_later import VALUE; print(VALUE)"
        assert output(python, "-c", code, cwd=tmp_path).strip() == "7"
        fresh.unlink()


def _check_it_works(python: str, expected: Path) -> None:
    """Run the command and import each kind of package from outside the checkout."""
    outside = Path(python).parent
    assert "torch2tflite" in output(str(outside / "edgeconv"), "--help", cwd=outside)
    code = """
import edgeconv.convert.ops, edgeconv.quantize.statistics.calibrators, edgeconv.targets
import edgeconv.toolchain.worker.process, edgeconv.core.artifacts
from importlib.resources import files
assert (files("edgeconv") / "py.typed").is_file()
print(edgeconv.core.artifacts.__file__, edgeconv.toolchain.worker.process.__file__, sep="\\n")
"""
    for line in output(python, "-c", code, cwd=outside).splitlines():
        assert Path(line).resolve().is_relative_to(expected.resolve())


def _name(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def _imported_modules() -> set[str]:
    """Return the top-level modules that the packages import and that are not Python's own."""
    modules = set()
    for place, path in package_files(ROOT).items():
        # Scripts run in environments of their own, which have packages of their own.
        if not place.endswith(".py") or "/environments/scripts/" in place:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules.add(node.module.partition(".")[0])
    # pytest loads the plugin, and is there whenever that is.
    return modules - set(sys.stdlib_module_names) - {"edgeconv", "pytest"}
