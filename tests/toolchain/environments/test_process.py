from __future__ import annotations

from pathlib import Path

import pytest

from edgeconv.core.errors import WorkerCrashed
from edgeconv.toolchain.environments.process import call


def test_nothing_of_our_own_python_and_tensorflow_reaches_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\nenv | grep -E '^(PYTHON|TF_|KEPT)' >&2\nexit 7\n")
    interpreter.chmod(0o755)
    for name in ("PYTHONPATH", "TF_USE_LEGACY_KERAS", "KEPT"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(WorkerCrashed, match="exit status 7") as caught:
        call(interpreter, "onnx_tf_convert")
    names = {line.split("=")[0] for line in caught.value.details.splitlines()}
    assert {"KEPT", "TF_CPP_MIN_LOG_LEVEL"} <= names
    assert not names & {"PYTHONPATH", "TF_USE_LEGACY_KERAS"}
