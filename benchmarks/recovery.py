"""What recovery gains or costs on samples that calibration has not seen.

    python -m benchmarks.recovery [--match TEXT] [--counts 8,16,32,0] [--draws N]
        [--modes int8,int16x8] [--methods] [--cache DIR] [--models DIR ...] [--output FILE]

Each real model is converted to float once and kept in the cache. Then it is quantized with
recovery and without, from all calibration samples and from fewer, and both are measured on all
evaluation samples: SQNR in dB against torch for each output. --methods also tries each method
alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import _environment
from benchmarks.peers_tools import ROOT

Line = dict[str, Any]

_LEAST_DB = -0.5
"""As much may be lost by chance on any output."""

_METHODS = ("batch-norm", "padding", "split-concat", "quotients", "headroom", "equalize",
            "outliers", "rounding", "bias-correction", "clipping")  # fmt: skip


def converted(model: Path, folder: Path) -> Path:
    """Return the bundle of a model's float conversion, which is made where it is missing."""
    if not (folder / "manifest.json").exists():
        command = [
            sys.executable, "-m", "edgeconv", "torch2tflite", str(model), "--no-verify", "--quiet",
            "--force", "--output", str(folder),
        ]  # fmt: skip
        subprocess.run(command, check=True, env=_environment(), cwd=ROOT)
    return folder


def measured(model: Path, arguments: argparse.Namespace) -> Iterable[Line]:
    """Yield the figures of each case of one model."""
    work = arguments.cache / "recovery" / model.stem
    folder = converted(model, arguments.cache / "float" / f"{model.stem}.edgeconv")
    work.mkdir(parents=True, exist_ok=True)
    disabled: list[list[str]] = [["all"], []]
    if arguments.methods:
        disabled += [[other for other in _METHODS if other != name] for name in _METHODS]
    request = {
        "bundle": str(folder), "work": str(work),
        "calibration": str(model.with_name(f"{model.stem}_calib.npz")),
        "evaluation": str(model.with_name(f"{model.stem}_eval.npz")),
        "modes": arguments.modes.split(","), "counts": arguments.counts, "draws": arguments.draws,
        "disabled": disabled,
    }  # fmt: skip
    path = work / "request.json"
    path.write_text(json.dumps(request))
    command = [sys.executable, "-m", "benchmarks.recovery_case", str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment(),
        cwd=ROOT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            yield {"model": model.stem, **json.loads(line)}
        if process.wait():
            yield {"model": model.stem, "error": process.stderr.read().splitlines()[-1][:160]}


def table(lines: Sequence[Line]) -> str:
    """Return all figures as Markdown, then what loses more than chance may cost."""
    found = ["| model | mode | samples | SQNR dB | without | difference | s | s | kept |"]
    found.append("|---|---|---|---|---|---|---|---|---|")
    lost, base = [], {}
    for line in lines:
        if "error" in line:
            found.append(f"| {line['model']} | {line['error']} |")
            continue
        key = (line["model"], line["mode"], line["count"], line["draw"])
        if line["disabled"] == ["all"]:
            base[key] = line
            continue
        other = base[key]
        gains = [one - two for one, two in zip(line["sqnr_db"], other["sqnr_db"], strict=True)]
        kept = ", ".join(
            f"{step['name']} {step['gain_db']:+.1f}" for step in line["recovery"] if step["kept"]
        )
        samples = f"{line['count']}" + (f" ({line['draw']})" if line["draw"] else "")
        alone = set(_METHODS) - set(line["disabled"])
        only = f"only {alone.pop()}: " if len(alone) == 1 else ""
        cells = [
            line["model"], line["mode"], samples, _list(line["sqnr_db"]), _list(other["sqnr_db"]),
            _list(gains, "+.1f"), f"{line['seconds']:.1f}", f"{other['seconds']:.1f}", only + kept,
        ]  # fmt: skip
        found.append("| " + " | ".join(cells) + " |")
        if not only:
            lost += [f"{' '.join(map(str, key))} ({gain:+.1f})" for gain in gains
                     if gain < _LEAST_DB]  # fmt: skip
    full = [line for line in lines if line.get("disabled") == []]
    gains = [
        one - two
        for line in full
        for one, two in zip(
            line["sqnr_db"],
            base[line["model"], line["mode"], line["count"], line["draw"]]["sqnr_db"],
            strict=True,
        )
    ]
    mean = sum(gains) / max(1, len(gains))
    return "\n".join([
        *found, "", f"- mean gain {mean:.2f} dB over {len(gains)} outputs",
        f"- more than {-_LEAST_DB} dB worse than without: {', '.join(lost) or 'none'}",
    ])  # fmt: skip


def _list(values: Iterable[float], form: str = ".1f") -> str:
    return ", ".join(format(value, form) for value in values)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--match", default="", help="only models whose name holds this text")
    parser.add_argument(
        "--counts", type=lambda text: [int(part) for part in text.split(",")], default=[0],
        help="numbers of calibration samples; 0 is all",
    )  # fmt: skip
    parser.add_argument("--draws", type=int, default=1, help="how often fewer are drawn")
    parser.add_argument("--modes", default="int8", help="int8, int16x8, or both")
    parser.add_argument("--methods", action="store_true", help="also try each method alone")
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache" / "edgeconv" / "quantization"
    )
    shared = ROOT.parent / "shared"
    parser.add_argument(
        "--models", type=Path, nargs="*", default=[shared / "real_models", shared / "real_models_2"]
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "benchmarks" / "results" / "recovery.md"
    )
    arguments = parser.parse_args()
    arguments.cache = arguments.cache.resolve()
    models = [path for folder in arguments.models for path in sorted(folder.glob("*.pt2"))]
    lines: list[Line] = []
    for model in models:
        if arguments.match in model.stem:
            for line in measured(model, arguments):
                lines.append(line)
                arguments.output.write_text(table(lines) + "\n")
                arguments.output.with_suffix(".json").write_text(json.dumps(lines, indent=1) + "\n")
                sys.stderr.write(table([*lines]).splitlines()[-4] + "\n")
    print(table(lines))


if __name__ == "__main__":
    main()
