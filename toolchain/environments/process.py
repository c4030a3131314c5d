"""Run a script inside an environment, exchanging files. Call it in a worker, which ends it too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from edgeconv.core.errors import ConversionError, InvalidModel, WorkerCrashed, WorkerError
from edgeconv.core.scratch import scratch_directory
from edgeconv.toolchain.worker.switches import SWITCHES

_SCRIPTS = Path(__file__).with_name("scripts")
_TAIL = 4000
_KINDS: dict[str, type[WorkerError | ConversionError | InvalidModel]] = {
    "conversion": ConversionError,
    "model": InvalidModel,
}


def call(python: Path, script: str, **request: Any) -> Any:
    """Run a script of ``scripts/`` and return its result.

    Args:
        python: The environment's interpreter; see `manage.require`.
        script: Name of the script, without ``.py``.
        request: What it is to do, as JSON values; arrays travel as ``.npz`` files.

    Raises:
        ConversionError: The tool cannot express the model.
        InvalidModel: The tool refuses the model.
        WorkerError: Its answer is another error.
        WorkerCrashed: It died without an answer.
    """
    with scratch_directory() as scratch:
        asked, answered = Path(scratch, "request.json"), Path(scratch, "answer.json")
        log = Path(scratch, "log")
        asked.write_text(json.dumps(request))
        with log.open("wb") as output:
            done = subprocess.run(
                [str(python), "-I", str(_SCRIPTS / f"{script}.py"), str(asked), str(answered)],
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**_environment(), "TMPDIR": scratch},
                check=False,
            )
        tail = log.read_bytes()[-_TAIL:].decode(errors="replace")
        if not answered.is_file():
            raise _crashed(script, done.returncode, tail)
        answer = json.loads(answered.read_text())
    if "error" in answer:
        error = answer["error"]
        kind = _KINDS.get(error["kind"], WorkerError)
        raise kind(
            error["message"], where=script, why=error.get("why", ""), hint=error.get("hint", "")
        )
    return answer["result"]


def _environment() -> dict[str, str]:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""}
    # What our own workers' TensorFlow is told of Keras is wrong for the environment's.
    dropped = ("PYTHON", "TF_USE_LEGACY_KERAS")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    return {**kept, **quiet, **SWITCHES}


def _crashed(script: str, code: int, tail: str) -> WorkerCrashed:
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    last = next((line for line in reversed(tail.splitlines()) if line.strip()), "")
    return WorkerCrashed(
        f"the process died ({how})",
        where=script,
        why=f"its last words were: {last}" if last else "",
        hint="run with --verbose for its output",
        details=tail,
    )
