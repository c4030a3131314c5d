from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import Any

import pytest

import edgeconv
from edgeconv.toolchain.worker.deferred_imports import Deferring


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package on the path; what it leaves in `sys.modules` is removed."""
    folder = tmp_path / "eager"
    folder.mkdir()
    (folder / "__init__.py").write_text("from eager import part, needless\n")
    (folder / "part.py").write_text("import sys\nsys.ran.append('part')\nvalue = 3\n")
    (folder / "needless.py").write_text("from eager.large import One, Two\n")
    (folder / "large.py").write_text("raise AssertionError('it was run')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "ran", [], raising=False)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for name in ("eager", "eager.part", "eager.needless", "eager.large"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


def test_a_module_runs_when_one_of_its_names_is_asked_for(package: Path) -> None:
    sys.meta_path.insert(0, Deferring(("eager.",), (), {"eager.large": ("One", "Two")}))
    eager: Any = importlib.import_module("eager")
    part: Any = eager.part
    assert inspect.ismodule(part)
    assert inspect.getsourcefile(part) == str(package / "part.py")
    assert sys.ran == []  # type: ignore[attr-defined]  # the fixture sets it
    with pytest.raises(AttributeError, match=r"eager\.part.*__nothing__"):
        _ = part.__nothing__
    assert sys.ran == []  # type: ignore[attr-defined]
    assert part.value == 3
    assert sys.ran == ["part"]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="other"):
        _ = part.other
    assert sys.ran == ["part"]  # type: ignore[attr-defined]
    assert eager.needless.One is None


def test_modules_that_do_not_exist_are_still_missing(package: Path) -> None:
    sys.meta_path.insert(0, Deferring(("eager.",), (), {"eager.large": ("One", "Two")}))
    with pytest.raises(ModuleNotFoundError, match=r"eager\.none"):
        importlib.import_module("eager.none")


_CONVERTS = """
import sys
from edgeconv.toolchain.worker.deferred_imports import defer_tensorflow
defer_tensorflow()
import edgeconv.convert.saved_model.translate, edgeconv.convert.saved_model.to_tflite
import tensorflow as tf
assert float(tf.nn.relu(tf.constant(-1.0))) == 0 and float(tf.math.abs(tf.constant(-1.0))) == 1
for name in ("tensorflow.python.keras.engine", "sympy.core", "tensorflow.python.tpu.tpu_embedding"):
    assert name not in sys.modules, name
import edgeconv.convert.saved_model.single_batch, edgeconv.toolchain.runtimes.tensorflow
edgeconv.toolchain.runtimes.tensorflow.Interpreter
edgeconv.convert.saved_model.single_batch.OpResolverType
import sympy
assert sympy.sympify("a + a") == 2 * sympy.Symbol("a")
"""


def test_no_module_in_a_worker_takes_the_public_interface_of_tflite() -> None:
    root = Path(edgeconv.__file__).parent
    sources = [
        path
        for part in ("", "convert", "quantize", "targets", "toolchain", "layers")
        for path in (root / part).rglob("*.py")
    ]
    assert len(sources) > 100
    named = re.compile(r"(?<!`)\btf\.(lite|xla|distribute|keras)\b(?!`)")
    assert not [path.name for path in sources if named.search(_code(path))]


def _code(path: Path) -> str:
    """Return a module without its texts and comments."""
    with path.open("rb") as file:
        tokens = [
            item
            for item in tokenize.tokenize(file.readline)
            if item.type not in (tokenize.STRING, tokenize.COMMENT, tokenize.ENCODING)
        ]
    return "".join(item.string for item in tokens)


@pytest.mark.slow
def test_tensorflow_works_without_what_is_not_needed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CONVERTS], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
