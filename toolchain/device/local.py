"""Run a job on this machine, in processes of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from edgeconv.core.errors import LimitExceeded, WorkerTimeout
from edgeconv.core.scratch import scratch_directory
from edgeconv.toolchain.device.job import (
    RESULTS,
    RUNNER,
    Found,
    Job,
    Ran,
    RunOptions,
    read_answer,
    write_probe,
)
from edgeconv.toolchain.device.part import DevicePart
from edgeconv.toolchain.environments.manage import require
from edgeconv.toolchain.environments.specs import ENVIRONMENTS
from edgeconv.toolchain.worker.limits import TooMuchMemory, within
from edgeconv.toolchain.worker.switches import SWITCHES

WHERE = "this machine"

# The runner gives each of its two tries, device and CPU, the whole time-out.
_TRIES = 2
_GRACE = 30.0


def total_seconds(options: RunOptions) -> float:
    """Return the seconds after which the runner itself is given up."""
    return _TRIES * options.timeout + _GRACE


def run_here(job: Job, options: RunOptions) -> Ran:
    """Run a job with the Python that runs this, or that of the environment of a runtime.

    Raises:
        ToolMissing: Only an accelerator would do, and there is none that works; or the runtime that
            is asked for is not installed.
        WorkerError: The model could not be run.
        WorkerTimeout: It did not finish in time.
        LimitExceeded: It takes more memory than it may.
    """
    with scratch_directory() as scratch:
        folder = Path(scratch)
        job.write(folder, options)
        process = subprocess.Popen(
            [*_python(options.runtime), str(folder / RUNNER), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **SWITCHES, "TF_CPP_MIN_LOG_LEVEL": "2", "TMPDIR": scratch},
            start_new_session=True,
        )

        def wait(seconds: float) -> tuple[bytes, bytes]:
            return process.communicate(timeout=seconds)

        try:
            out, err = within(process, wait, total_seconds(options), options.memory)
        except subprocess.TimeoutExpired as error:
            raise WorkerTimeout(
                f"no answer within {total_seconds(options):g} seconds",
                where=WHERE,
                hint="raise --timeout, or unplug the device and plug it in again",
            ) from error
        except TooMuchMemory as error:
            raise LimitExceeded(
                str(error),
                where=WHERE,
                why="the run was stopped",
                hint="raise --memory-limit, or give a smaller model",
            ) from error
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        return read_answer(
            out.decode(errors="replace"),
            err.decode(errors="replace"),
            folder / RESULTS,
            WHERE,
            job.part,
        )


def probe_here(part: DevicePart | None = None) -> Found:
    """Say what this Python has to run models with, and what a target's part finds."""
    with scratch_directory() as scratch:
        done = subprocess.run(
            [sys.executable, str(write_probe(Path(scratch), part)[0])],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    return Found.read(done.stdout)


def _python(runtime: str) -> list[str]:
    if runtime in ENVIRONMENTS:
        return [str(require(runtime)), "-I"]
    return [sys.executable, "-P"]
