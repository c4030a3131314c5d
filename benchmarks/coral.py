"""How much of each model maps to the Edge TPU, before and after it is legalised.

    python -m benchmarks.coral [--match TEXT] [--real-models DIR] [--output FILE]
                               [--work DIR] [--fresh]

The ten architectures that other converters are measured on, with random weights, and pretrained
models where they are at hand. Each runs in a process of its own: float conversion, int8 as it is
and legalised, the prediction of both, and both against torch on inputs that calibration did not
see. The table is written after each model, and a run goes on where the last one stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.architectures import TEN

_ROOT = Path(__file__).resolve().parents[1]
_REAL_MODELS = _ROOT.parent / "shared" / "real_models"
_COLUMNS = (
    "model", "ops before", "MACs before", "dB before", "ops after", "MACs after", "dB after",
    "float dB", "rewrites",
)  # fmt: skip

Outcome = dict[str, Any]
"""What `benchmarks.coral_case` found out about one model, or its ``error``."""


def run(name: str, real_models: Path, timeout: float, work: Path | None = None) -> Outcome:
    """Measure one model in a process of its own; ``work`` keeps its files for another time."""
    with tempfile.TemporaryDirectory(prefix="edgeconv-coral-") as temporary:
        directory = str(work / name if work else temporary)
        Path(directory).mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.coral_case", name, directory]
        try:
            done = subprocess.run(
                [*command, str(real_models)],
                cwd=_ROOT,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"took longer than {timeout:g} s"}
        path = Path(directory) / "outcome.json"
        if not path.exists():
            lines = [line for line in done.stderr.splitlines() if line[:1].strip()]
            return {"error": lines[-1] if lines else f"exit status {done.returncode}"}
        outcome: Outcome = json.loads(path.read_text())
        return outcome


def table(outcomes: Mapping[str, Outcome]) -> str:
    """Return the report as Markdown: the shares, and why operators are left to the CPU."""
    done = {name: outcome for name, outcome in outcomes.items() if "error" not in outcome}
    lines = [
        "Share of operators and of multiplications that are predicted to map to the Edge TPU, int8",
        "with int8 inputs and outputs; dB is the least SQNR of any output against torch, float dB",
        "that of the legalised float model against the plain one.",
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "|" + "---|" * len(_COLUMNS),
        *(_row(name, outcome) for name, outcome in done.items()),
        "",
        "What is left to the CPU after legalising, beside what depends on it:",
        "",
    ]
    for name, outcome in done.items():
        lines += _left(name, outcome["after"])
    failed = [f"- {name}: {found['error']}" for name, found in outcomes.items() if "error" in found]
    return "\n".join([*lines, *(["", "Not measured:", "", *failed] if failed else [])])


def _row(name: str, outcome: Outcome) -> str:
    cells = [name]
    for label in ("before", "after"):
        found = outcome[label]
        cells += [
            f"{found['on_edgetpu']} of {found['ops']}",
            f"{100 * found['macs_share']:.1f} %",
            _decibels(found["int8_sqnr_db"], 1),
        ]
    exact = outcome["float_sqnr_db"]
    rewrites = ", ".join(
        f"{count} {name}{' (approximate)' if name in outcome['approximate'] else ''}"
        for name, count in outcome["rewrites"].items()
    )
    cells += [_decibels(exact, 0), rewrites or "none needed"]
    return "| " + " | ".join(cells) + " |"


def _decibels(value: float | None, digits: int) -> str:
    return "equal" if value is None else f"{value:.{digits}f}"


def _left(name: str, found: Outcome) -> list[str]:
    parts = [f"{count} {op} ({why})" for op, why, count in (*found["refused"], *found["left"])]
    if not parts:
        return []
    return [f"- {name}: {', '.join(parts)}; {found['stranded']} others depend on them"]


def write(outcomes: Mapping[str, Outcome], output: Path) -> None:
    """Write the table beside all figures, whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    figures = json.dumps(outcomes, indent=1, allow_nan=False)
    for suffix, text in ((".json", figures), (".md", table(outcomes))):
        draft = output.with_name(f".{output.name}{suffix}.tmp")
        draft.write_text(text + "\n")
        draft.replace(output.with_name(output.name + suffix))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--match", default="", help="only names that hold this text")
    parser.add_argument("--real-models", type=Path, default=_REAL_MODELS, help="pretrained models")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/coral"))
    parser.add_argument("--timeout", type=float, default=600, help="seconds per model")
    parser.add_argument("--work", type=Path, help="where to keep float models for the next run")
    parser.add_argument("--fresh", action="store_true", help="repeat all")
    arguments = parser.parse_args()
    real = sorted(path.stem for path in arguments.real_models.glob("*.pt2"))
    if not real:
        sys.stderr.write(f"no pretrained models at {arguments.real_models}: left out\n")
    stored = arguments.output.with_name(arguments.output.name + ".json")
    known = json.loads(stored.read_text()) if stored.exists() and not arguments.fresh else {}
    outcomes = {name: found for name, found in known.items() if "error" not in found}
    for name in (*TEN, *real):
        if arguments.match in name and name not in outcomes:
            outcomes[name] = run(name, arguments.real_models, arguments.timeout, arguments.work)
            write(outcomes, arguments.output)
            sys.stderr.write(f"{name}: {outcomes[name].get('error', 'done')}\n")
    print(table(outcomes))


if __name__ == "__main__":
    main()
