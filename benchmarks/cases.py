"""Small models after public bug reports: convert each, and run the result outside the pipeline.

    python -m benchmarks.cases FOLDER [--match TEXT] [--modes float,int8,coral] [--resume]
        [--output FILE]

Each file of the folder that begins with ``NAME = ...`` writes NAME.pt2 or NAME.onnx, and NAME.npz.
The model is converted as a user would, the result is run in LiteRT by `benchmarks.cases_run`, which
knows nothing of the pipeline but the manifest, and compared with the model itself. One line each:
what the command said, and what is true. A line that begins with WRONG passed parity and should not
have. Files of another form print what they find by themselves; their last lines are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
MODES: Mapping[str, tuple[str, ...]] = {
    "float": (),
    "int8": ("--quantize", "int8"),
    "uint8": ("--quantize", "int8", "--io-dtype", "uint8"),
    "int16x8": ("--quantize", "int16x8"),
    "coral": ("--target", "coral"),
}
"""What is added to the command, by the name of the mode."""

ENOUGH_DB: Mapping[str, float] = {"float": 80.0, "int16x8": 20.0}
"""What the worst part of a result must reach; int8 has `ENOUGH_INT8_DB`."""

ENOUGH_INT8_DB = 12.0
ENOUGH_HALF_DB = 50.0
"""What a result must reach whose source computes in half precision, and so is no nearer itself."""

ENOUGH_EQUAL: Mapping[str, float] = {"float": 0.99}
"""Share of equal elements of integer outputs; `ENOUGH_INT8_EQUAL` in the other modes."""

ENOUGH_INT8_EQUAL = 0.8
_SECONDS = 1200.0

_PATH = re.compile(r"(?<![\w.])/(?:[\w.-]+/)+")  # directories of this run

COLUMNS = ("case", "mode", "verdict", "outside the pipeline", "said")

Outcome = dict[str, Any]
"""``case``, ``mode``, ``verdict``, ``exit``, ``said``, ``seconds``, ``figures`` by output."""


def run_case(case: Path, modes: Sequence[str], seconds: float = _SECONDS) -> list[Outcome]:
    """Build one case, and convert and judge it in every mode."""
    with tempfile.TemporaryDirectory(prefix="edgeconv-case-") as folder:
        directory = Path(folder)
        if "\nNAME = " not in case.read_text():
            return [_own(case, directory, seconds)]
        built = _called([sys.executable, str(case)], directory, seconds)
        models = [path for path in directory.iterdir() if path.suffix in (".pt2", ".onnx")]
        if built.returncode or not models:
            said = _last(built.stderr)
            return [{"case": case.stem, "mode": "-", "verdict": "not built", "said": said}]
        return [_converted(case.stem, models[0], mode, seconds) for mode in modes]


def _own(case: Path, directory: Path, seconds: float) -> Outcome:
    done = _called([sys.executable, str(case)], directory, seconds)
    said = (done.stdout if done.returncode == 0 else done.stdout + done.stderr).strip()
    return {
        "case": case.stem,
        "mode": "own",
        "verdict": "printed" if done.returncode == 0 else f"exit {done.returncode}",
        "said": " | ".join(said.splitlines()[-12:]),
    }


def _converted(name: str, model: Path, mode: str, seconds: float) -> Outcome:
    bundle = model.with_name(f"{mode}.edgeconv")
    data = model.with_suffix(".npz")
    command = [sys.executable, "-m", "edgeconv", "torch2tflite", model.name, *MODES[mode]]
    command += ["--calibration-data", data.name, "--output", bundle.name, "--json"]
    done = _called(command, model.parent, seconds)
    outcome: Outcome = {"case": name, "mode": mode, "exit": done.returncode, "figures": {}}
    if done.returncode not in (0, 1):
        refusal = " ".join(done.stderr.split())
        kind = "crashed" if "Traceback" in done.stderr or done.returncode < 0 else "refused"
        return {**outcome, "verdict": kind, "said": refusal}
    ran = _called(
        [sys.executable, "-m", "benchmarks.cases_run", str(model), str(data), str(bundle)],
        model.parent,
        seconds,
    )
    if ran.returncode:
        return {**outcome, "verdict": "WRONG: it does not run", "said": _last(ran.stderr)}
    figures = json.loads(ran.stdout.splitlines()[-1])
    said = "" if done.returncode == 0 else _reason(bundle)
    return {
        **outcome,
        "figures": figures,
        "verdict": verdict(done.returncode, mode, figures),
        "said": said,
    }


def verdict(code: int, mode: str, figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what the command's word is worth: right, WRONG, or a failure and whether it is one."""
    right = all(holds(mode, item) for item in figures.values())
    if code == 0:
        return "right" if right else "WRONG: passed"
    return "failed, though right" if right else "failed, and said so"


def holds(mode: str, figures: Mapping[str, Any]) -> bool:
    """Tell whether an output is what the mode can make of it, in its worst part."""
    if figures.get("equal") is not None:
        return bool(figures["equal"] >= ENOUGH_EQUAL.get(mode, ENOUGH_INT8_EQUAL))
    lost = figures["levels"] < 8 and figures["reference_levels"] > 64
    enough = ENOUGH_DB.get(mode, ENOUGH_INT8_DB)
    if figures.get("half"):
        enough = min(enough, ENOUGH_HALF_DB)
    return bool(figures["worst_db"] >= enough) and not lost


def _reason(bundle: Path) -> str:
    parity = json.loads((bundle / "parity.json").read_text())
    return "; ".join(text for stage in parity["stages"] for text in stage["reasons"])


def _called(
    command: Sequence[str], directory: Path, seconds: float
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    env["PYTHONPATH"] = str(_ROOT)
    try:
        return subprocess.run(
            command, cwd=directory, env=env, capture_output=True, text=True, timeout=seconds,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        text = f"took longer than {seconds:g} s"
        return subprocess.CompletedProcess(command, -9, "", text)


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was said"


def row(outcome: Outcome) -> dict[str, str]:
    """Return one row of the table, by column."""
    figures = [f"{name} {_figure(item)}" for name, item in outcome.get("figures", {}).items()]
    return {
        "case": outcome["case"],
        "mode": outcome["mode"],
        "verdict": outcome["verdict"],
        "outside the pipeline": ", ".join(figures),
        "said": _PATH.sub("", str(outcome["said"])).replace("|", "/")[:300],
    }


def _figure(item: Mapping[str, Any]) -> str:
    if item.get("equal") is not None:
        return f"{100 * item['equal']:.1f} % equal"
    text = f"{item['worst_db']:.1f} dB"
    return text if item["worst_db"] > item["db"] - 1 else f"{text} in its worst part"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows as Markdown, and how many there are of each verdict."""
    counts = Counter(row["verdict"] for row in rows)
    total = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    lines = [_line(COLUMNS), _line("---" for _ in COLUMNS), *(_line(row.values()) for row in rows)]
    return "\n".join([*lines, "", total])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--match", default="", help="only cases whose name holds this text")
    parser.add_argument("--modes", default="float,int8,coral")
    parser.add_argument("--resume", action="store_true", help="only what the table lacks")
    parser.add_argument("--output", type=Path, default=_ROOT / "benchmarks" / "results" / "cases")
    arguments = parser.parse_args()
    stored = arguments.output.with_suffix(".json")
    earlier = json.loads(stored.read_text()) if stored.is_file() else []
    rows = {(row["case"], row["mode"]): row for row in earlier}
    found: list[Outcome] = []
    print("\n".join([_line(COLUMNS), _line("---" for _ in COLUMNS)]))
    for case in sorted(arguments.folder.glob("*.py")):
        modes = [
            mode for mode in arguments.modes.split(",")
            if not (arguments.resume and {(case.stem, mode), (case.stem, "own")} & rows.keys())
        ]  # fmt: skip
        if arguments.match not in case.stem or case.stem == "zaudio" or not modes:
            continue
        for outcome in run_case(case.resolve(), modes):
            found.append(outcome)
            rows[outcome["case"], outcome["mode"]] = row(outcome)
            print(_line(row(outcome).values()), flush=True)
        ordered = [rows[key] for key in sorted(rows)]
        stored.write_text(json.dumps(ordered, indent=1) + "\n")
        stored.with_suffix(".md").write_text(table(ordered) + "\n")
    bad = [one for one in found if one["verdict"].startswith(("WRONG", "crashed"))]
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
