"""Python environments that are made new, and borrow the dependencies of this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def copied(folder: Path) -> Path:
    """Copy the project into a folder, so that building leaves no traces in it; return the copy."""
    copy = folder / "project"
    skip = shutil.ignore_patterns(
        ".*", "__pycache__", "*.egg-info", "*.edgeconv", "build", "dist", "benchmarks"
    )
    shutil.copytree(ROOT, copy, symlinks=True, ignore=skip)
    return copy


def install(folder: Path, *what: str) -> tuple[str, set[str]]:
    """Make an environment, install into it, and return its Python and what it gained."""
    environment = folder / "environment"
    output(sys.executable, "-m", "venv", "--without-pip", str(environment))
    python = str(environment / "bin" / "python")
    site = Path(
        output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    # The dependencies come from this environment, and from those that it has by path lines. A path
    # line does not bring its editable installs.
    own = [sysconfig.get_path("purelib"), *(path for path in sys.path if "site-packages" in path)]
    (site / "dependencies.pth").write_text("\n".join(dict.fromkeys(own)) + "\n")
    before = {path.name for path in site.iterdir()}
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-qq"]
    output(*pip, "--no-deps", "--no-build-isolation", "--force-reinstall", *what)
    names = {path.name for path in site.iterdir()} - before - {"__pycache__"}
    return python, {name for name in names if not name.endswith(".dist-info")}


def output(*command: str, cwd: Path | None = None) -> str:
    """Run a command that must succeed; return what it prints."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout
