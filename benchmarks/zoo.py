"""Architectures through the whole float conversion: what converts, how exactly, and how fast.

    python -m benchmarks.zoo [--match TEXT] [--jobs N] [--output FILE] [--again] [--fresh]

Each architecture runs in a process of its own with a time-out, forked from one that has the
libraries loaded: torch to ONNX, ONNX to SavedModel,
SavedModel to TFLite, and the result on LiteRT against torch, on random inputs. Random weights;
nothing is downloaded. The table is written after each architecture, and a run goes on where the
last one stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.architectures import TEN, Architecture, all_architectures

ENOUGH_DB = 80.0
STAGES = ("onnx", "saved_model", "tflite")
_COLUMNS = (
    "architecture", "source", "status", "onnx s", "SavedModel s", "TFLite s", "peak MB", "ops",
    "TRANSPOSE", "SQNR dB",
)  # fmt: skip
_ROOT = Path(__file__).resolve().parents[1]

Outcome = dict[str, Any]
"""What `benchmarks.zoo_case` found out about one architecture, with its ``status``."""


class Server:
    """A process that has the libraries loaded and forks one process for each architecture.

    Loading them takes longer than most conversions. It is started again when it has died.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, name: str, timeout: float) -> Outcome:
        """Run one architecture in a process of its own."""
        with tempfile.TemporaryDirectory(prefix="edgeconv-zoo-") as directory:
            request = {"name": name, "directory": directory, "timeout": timeout}
            how = self._ask(json.dumps(request))
            path = Path(directory) / "outcome.json"
            outcome: Outcome = json.loads(path.read_text()) if path.exists() else {"stage": "start"}
        if how and "error" not in outcome and outcome["stage"] != "done":
            outcome["error"] = how
        outcome["status"] = status(outcome)
        return outcome

    def _ask(self, request: str) -> str:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        return json.loads(answer)["how"] if answer else "the server died"

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "benchmarks.zoo_case"],
                cwd=_ROOT,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        return self._process

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            # Without requests it ends itself.
            with self._process:
                pass


def status(outcome: Mapping[str, Any]) -> str:
    """Return ``pass``, or the kind of failure."""
    if outcome["stage"] != "done":
        return "litert" if outcome.get("converts") else f"{outcome['stage']}"
    sqnr, exact = outcome.get("sqnr_db"), outcome.get("exact")
    if (sqnr is not None and sqnr < ENOUGH_DB) or (exact is not None and exact < 1):
        return "inaccurate"
    return "pass"


def table(selected: Sequence[Architecture], outcomes: Mapping[str, Outcome]) -> str:
    """Return the report as Markdown: totals, the architectures, and why some fail."""
    known = [entry for entry in selected if entry.name in outcomes]
    lines = [
        "| " + " | ".join(_COLUMNS) + " |",
        "|" + "---|" * len(_COLUMNS),
        *(_row(entry, outcomes[entry.name]) for entry in known),
    ]
    failed = [entry.name for entry in known if outcomes[entry.name]["status"] != "pass"]
    if failed:
        lines += ["", "Failures:", ""]
        lines += [f"- {name}: {reason(outcomes[name])}" for name in failed]
    return "\n".join([*totals(known, outcomes), "", *lines])


def _row(entry: Architecture, outcome: Outcome) -> str:
    seconds = outcome.get("seconds", {})
    cells = [
        entry.name,
        entry.source,
        outcome["status"],
        *(f"{seconds[stage]:.1f}" if stage in seconds else "" for stage in STAGES),
        outcome.get("peak_mb", ""),
        outcome.get("operators", ""),
        outcome.get("transposes", ""),
        "" if outcome.get("sqnr_db") is None else f"{outcome['sqnr_db']:.0f}",
    ]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def reason(outcome: Mapping[str, Any]) -> str:
    """Return in one line why an architecture fails."""
    if outcome["status"] == "inaccurate":
        return f"SQNR {outcome.get('sqnr_db')} dB, exact {outcome.get('exact')}"
    text = re.sub(r"\s+", " ", str(outcome.get("error", "unknown")))
    return f"{outcome['status']}: {text[:300]}"


def totals(known: Sequence[Architecture], outcomes: Mapping[str, Outcome]) -> list[str]:
    """Return the lines of totals."""
    counts = Counter(outcomes[entry.name]["status"] for entry in known)
    passed = counts.pop("pass", 0)
    share = 100 * passed / len(known) if known else 0.0
    lines = [
        (
            f"{passed} of {len(known)} architectures ({share:.1f} %) convert and have at least "
            f"{ENOUGH_DB:g} dB."
        )
    ]
    if counts:
        kinds = ", ".join(f"{kind} {number}" for kind, number in counts.most_common())
        lines.append(f"Failures by stage: {kinds}.")
    ten = [name for name in TEN if name in outcomes]
    good = sum(outcomes[name]["status"] == "pass" for name in ten)
    lines.append(f"Of the ten measured on other converters: {good} of {len(ten)}.")
    done = [outcomes[entry.name] for entry in known if outcomes[entry.name]["status"] == "pass"]
    if done:
        lines.append(_times(done))
    return lines


def _times(done: Iterable[Outcome]) -> str:
    parts = []
    rows = list(done)
    for stage in STAGES:
        values = [row["seconds"][stage] for row in rows]
        parts.append(f"{stage} {sum(values):.0f} s (median {statistics.median(values):.1f})")
    return "Time of those that pass, imports left out: " + ", ".join(parts) + "."


def run(selected: Sequence[Architecture], output: Path, jobs: int, timeout: float,
        known: dict[str, Outcome]) -> dict[str, Outcome]:  # fmt: skip
    """Run what is not known yet; write table and figures after each architecture."""
    everything = all_architectures()
    lock = Lock()

    def work(share: Sequence[Architecture]) -> None:
        server = Server()
        for entry in share:
            outcome = server.run(entry.name, timeout)
            with lock:
                known[entry.name] = outcome
                write(everything, known, output)
            sys.stderr.write(_progress(entry.name, outcome))
        server.stop()

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(work, [selected[start::jobs] for start in range(jobs)]))
    return known


def _progress(name: str, outcome: Outcome) -> str:
    took = sum(outcome.get("seconds", {}).values())
    what = f"SQNR {outcome.get('sqnr_db')}" if outcome["status"] == "pass" else reason(outcome)
    return f"{name} ({took:.0f} s): {what[:200]}\n"


def write(selected: Sequence[Architecture], outcomes: Mapping[str, Outcome], output: Path) -> None:
    """Write the table beside all figures, whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    # Tracebacks name directories of this machine.
    kept = {
        name: {key: value for key, value in outcome.items() if key != "details"}
        for name, outcome in outcomes.items()
    }
    figures = json.dumps(kept, indent=1, sort_keys=True)
    for suffix, text in ((".json", figures), (".md", table(selected, outcomes))):
        draft = output.with_name(f".{output.name}{suffix}.tmp")
        draft.write_text(text + "\n")
        draft.replace(output.with_name(output.name + suffix))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--match", default="", help="only names or sources that hold this text")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/zoo"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=300, help="seconds per architecture")
    parser.add_argument("--again", action="store_true", help="repeat those that failed")
    parser.add_argument("--fresh", action="store_true", help="repeat all")
    arguments = parser.parse_args()
    matching = [e for e in all_architectures() if arguments.match in f"{e.source}/{e.name}"]
    stored = arguments.output.with_name(arguments.output.name + ".json")
    known: dict[str, Outcome] = json.loads(stored.read_text()) if stored.exists() else {}
    settled = {
        name
        for name, outcome in known.items()
        if not arguments.fresh and not (arguments.again and outcome["status"] != "pass")
    }
    selected = [entry for entry in matching if entry.name not in settled]
    outcomes = run(selected, arguments.output, arguments.jobs, arguments.timeout, known)
    print(table(matching, outcomes))


if __name__ == "__main__":
    main()
