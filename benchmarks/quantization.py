"""Int8 by edgeconv and by other quantizers, on the same float models and samples, in one run.

    python -m benchmarks.quantization [--speed | --calibrators] [--match TEXT] [--resume]
        [--cache DIR] [--models DIR] [--output FILE]

Without --speed or --calibrators, accuracy: real pretrained models with real inputs from a
directory, where there is one, and classifiers that are trained on the spot. Each is converted once;
the others quantize that float model and the SavedModel it came from. ai-edge-quantizer is set up in
an environment of its own, which needs a network once. SQNR is in dB against torch on inputs that
calibration has not seen, for each output; top-1 is measured where there are labels. Seconds are
calibration and quantization without imports.

--speed measures a MobileNetV2 with 100 samples instead, and --calibrators the calibrators of
edgeconv on the same models, each with recovery and without. Each writes a table of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks.peers import _environment
from benchmarks.peers_tools import ROOT, Peer
from benchmarks.quantization_models import MODELS, SPEED
from edgeconv.core import bundle
from edgeconv.core.options import CalibratorName, ConvertOptions

Figures = dict[str, Any]
Results = dict[str, dict[str, Figures]]
Measure = Callable[[Path, Path, Path], dict[str, Figures]]
"""From a model, a directory for files and the cache to the figures of each row."""

OWN = "edgeconv"
FLOAT = "float"
DEFAULT = "ai-edge-quantizer"
TRUE = "ai-edge-quantizer, true ranges"
_QUANTIZER = Peer("ai-edge-quantizer", ("ai-edge-quantizer==0.10.0",), lambda *_: [], "")
_OTHERS: dict[str, tuple[str, Peer | None]] = {
    DEFAULT: ("ai_edge_default", _QUANTIZER),
    TRUE: ("ai_edge_true_ranges", _QUANTIZER),
    "TensorFlow": ("tensorflow", None),
}
REAL = ("blazeface_front", "crepe_tiny", "mtcnn_onet", "resnet20_cifar", "silero16k", "vit_mnist")
"""Pretrained models that the directory of real models may have."""

_LEAST_DB = 20.0
_POINTS = 0.5


def _run(
    module: str, *arguments: str, python: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [str(python or sys.executable), "-m", module, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=_environment(), cwd=ROOT
    )


def _failure(process: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in process.stderr.splitlines() if line.strip()]
    return f"exit status {process.returncode}: {lines[-1][:120] if lines else ''}"


def convert(model: Path, folder: Path) -> Figures:
    """Convert one model with edgeconv; return what quantization took, or the error."""
    process = _run(
        "edgeconv", "torch2tflite", str(model), "--quantize", "int8", "--no-verify", "--quiet",
        "--force", "--calibration-data", str(model.with_name(f"{model.stem}_calib.npz")),
        "--output", str(folder),
    )  # fmt: skip
    if process.returncode:
        return {"error": _failure(process)}
    stages = json.loads((folder / "manifest.json").read_text())["stages"]
    stage = next(item for item in stages if item["name"] == "tflite_int8")
    return {"seconds": stage["seconds"], "recovery": stage.get("recovery", [])}


def _samples(model: Path, folder: Path, path: Path) -> None:
    """Write the calibration samples by input name, as the float file stores them."""
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = next(item for item in manifest["stages"] if item["name"] == "tflite_fp32")
    specs = bundle.artifact_of(entry, folder).inputs
    with np.load(model.with_name(f"{model.stem}_calib.npz")) as data:
        arrays = {
            spec.name: np.stack([spec.store(sample) for sample in data[f"in{count}"]])
            for count, spec in enumerate(specs)
        }
    np.savez(path, allow_pickle=False, **arrays)


def _measure(model: Path, folder: Path, file: Path, work: Path) -> Figures:
    request, result = work / "request.json", work / "result.json"
    result.unlink(missing_ok=True)
    evaluation = model.with_name(f"{model.stem}_eval.npz")
    fields = {"bundle": folder, "file": file, "evaluation": evaluation, "result": result}
    request.write_text(json.dumps({key: str(value) for key, value in fields.items()}))
    process = _run("benchmarks.quantization_measure", str(request))
    if not result.exists():
        return {"error": _failure(process)}
    figures: Figures = json.loads(result.read_text())
    return figures


def compare_calibrators(model: Path, work: Path, _cache: Path) -> dict[str, Figures]:
    """Return the figures of each of edgeconv's calibrators for one model.

    Args:
        model: The ``.pt2`` file, with its samples beside it.
        work: Directory for what is written.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    folder = work / "model.edgeconv"
    rows: dict[str, Figures] = {}
    first = convert(model, folder)
    if "error" in first:
        return {OWN: first}
    samples = model.with_name(f"{model.stem}_calib.npz")
    for name in get_args(CalibratorName):
        for disabled in ("", "all"):
            path = work / f"{name}{disabled}.tflite"
            row = f"{name}, no recovery" if disabled else name
            rows[row] = _quantize(folder, samples, name, disabled, path)
            if "error" not in rows[row]:
                rows[row] |= _measure(model, folder, path, work)
    return rows


def _quantize(folder: Path, samples: Path, calibrator: str, disabled: str, path: Path) -> Figures:
    """Quantize a bundle's float model in a process of its own; return the figures or the error."""
    result = path.with_suffix(".json")
    process = _run(
        "benchmarks.quantization_own", str(folder), str(samples), calibrator, disabled, str(path),
        str(result),
    )  # fmt: skip
    if process.returncode:
        return {"error": _failure(process)}
    figures: Figures = json.loads(result.read_text())
    return figures


def compare_speed(model: Path, work: Path, cache: Path) -> dict[str, Figures]:
    """Return what `compare` does, with edgeconv's seconds taken as those of the others are.

    The stage of a conversion also loads libraries, and writes the samples and the report.
    """
    rows = compare(model, work, cache)
    samples = model.with_name(f"{model.stem}_calib.npz")
    calibrator = ConvertOptions().calibrator
    again = _quantize(work / "model.edgeconv", samples, calibrator, "", work / "again.tflite")
    rows[OWN] |= {key: again[key] for key in ("seconds", "error") if key in again}
    return rows


def compare(model: Path, work: Path, cache: Path) -> dict[str, Figures]:
    """Return the figures of each quantizer for one model.

    Args:
        model: The ``.pt2`` file, with its samples beside it.
        work: Directory for what is written.
        cache: Where the environments of the others are; who has none is left out.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    folder = work / "model.edgeconv"
    rows: dict[str, Figures] = {FLOAT: {}, OWN: convert(model, folder)}
    if "error" in rows[OWN]:
        return rows
    (float_file,), (own_file,) = (folder.glob(f"*_{kind}.tflite") for kind in ("fp32", "int8"))
    files = {FLOAT: float_file, OWN: own_file}
    _samples(model, folder, work / "samples.npz")
    (saved,) = folder.glob("*_saved_model")
    for name, (function, peer) in _OTHERS.items():
        path = work / f"{function}.tflite"
        python = peer.python(cache) if peer is not None else None
        if python is not None and not python.exists():
            rows[name] = {"error": "its environment is missing"}
            continue
        process = _run(
            "benchmarks.quantization_peers", function, str(float_file), str(saved),
            str(work / "samples.npz"), str(path), python=python,
        )  # fmt: skip
        rows[name] = {"error": _failure(process)}
        if process.returncode == 0:
            rows[name] = {"seconds": float(process.stdout.split()[-1])}
            files[name] = path
    for name, path in files.items():
        rows[name].update(_measure(model, folder, path, work))
    return rows


def table(results: Results) -> str:
    """Return all figures as Markdown, and what became of each target."""
    titles = ["model", "quantizer", "SQNR dB per output", "top-1 %", "s", "kB", ""]
    lines = [_line(titles), _line(["---"] * len(titles))]
    for model, rows in results.items():
        for name, figures in rows.items():
            decibels = ", ".join(f"{value:.1f}" for value in figures.get("sqnr_db", ()))
            cells = [
                _cell(figures, "top1", ".1f"), _cell(figures, "seconds", ".2f"),
                f"{figures['bytes'] / 1e3:.0f}" if "bytes" in figures else "",
            ]  # fmt: skip
            note = figures.get("error", "") or _kept(figures)
            lines.append(_line([model, name, decibels, *cells, note]))
    if SPEED in results:
        return "\n".join([*lines, "", *_speed(results[SPEED])])
    targets = _targets(results) if any(FLOAT in rows for rows in results.values()) else []
    return "\n".join([*lines, "", *_means(results), *targets])


def _speed(rows: dict[str, Figures]) -> list[str]:
    own, others = rows[OWN].get("seconds"), [rows[name].get("seconds") for name in (DEFAULT, TRUE)]
    known = [value for value in others if value is not None]
    if own is None or not known:
        return ["- not compared: see the errors above"]
    verdict = "reached" if own <= min(known) else "missed"
    return [f"- at most the time of {DEFAULT}: {verdict} ({own:.1f} s, {min(known):.1f} s)"]


def _means(results: Results) -> list[str]:
    """Say for each quantizer the mean SQNR of all outputs, and of all models the seconds."""
    lines = []
    for name in dict.fromkeys(name for rows in results.values() for name in rows if name != FLOAT):
        figures = [rows[name] for rows in results.values() if "sqnr_db" in rows.get(name, {})]
        if not figures:
            continue
        outputs = [value for entry in figures for value in entry["sqnr_db"]]
        labelled = [entry["top1"] for entry in figures if "top1" in entry]
        line = f"- {name}: mean SQNR {np.mean(outputs):.1f} dB over {len(outputs)} outputs"
        line += f", least {min(outputs):.1f} dB"
        line += f", mean top-1 {np.mean(labelled):.2f} %" if labelled else ""
        lines.append(f"{line}, {sum(entry.get('seconds', 0) for entry in figures):.0f} s in all")
    return lines


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(figures: Figures, key: str, form: str) -> str:
    return format(figures[key], form) if key in figures else ""


def _kept(figures: Figures) -> str:
    return ", ".join(step["name"] for step in figures.get("recovery", ()) if step["kept"])


def _targets(results: Results) -> list[str]:
    below, behind, lost = [], [], []
    gains: dict[str, list[float]] = {DEFAULT: [], TRUE: []}
    for model, rows in results.items():
        own = rows.get(OWN, {}).get("sqnr_db", [])
        for place, value in enumerate(own):
            others = {
                name: rows[name]["sqnr_db"][place]
                for name in _OTHERS
                if "sqnr_db" in rows.get(name, {})
            }
            for name in gains.keys() & others.keys():
                gains[name].append(value - others[name])
            if value < _LEAST_DB:
                below.append(f"{model} output {place} ({value:.1f})")
            best = max(others, key=lambda name: others[name], default="")
            if best and value < others[best]:
                behind.append(f"{model} output {place} ({value:.1f}, {best} {others[best]:.1f})")
        if "top1" in rows.get(OWN, {}) and rows[OWN]["top1"] < rows[FLOAT]["top1"] - _POINTS:
            lost.append(f"{model} ({rows[OWN]['top1']:.1f}, float {rows[FLOAT]['top1']:.1f})")
    lines = [
        f"- {OWN} is on average {np.mean(values):.1f} dB better than {name} ({len(values)} outputs)"
        for name, values in gains.items()
        if values
    ]
    lines.append(f"- outputs below {_LEAST_DB:g} dB: {', '.join(below) or 'none'}")
    lines.append(f"- outputs on which another is better: {', '.join(behind) or 'none'}")
    lines.append(f"- top-1 more than {_POINTS} points below float: {', '.join(lost) or 'none'}")
    return lines


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--match", default="", help="only models whose name holds this text")
    parser.add_argument("--resume", action="store_true", help="leave out what the output has")
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache" / "edgeconv" / "quantization",
        help="where environments, trained models and results are kept",
    )  # fmt: skip
    parser.add_argument("--models", type=Path, default=ROOT.parent / "shared" / "real_models")
    parser.add_argument(
        "--output", type=Path, help="default: benchmarks/results/quantization*, without the suffix"
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--speed", action="store_true", help="time a MobileNetV2 with 100 samples, and nothing else"
    )
    kinds.add_argument(
        "--calibrators", action="store_true", help="compare edgeconv's calibrators, and no others"
    )
    arguments = parser.parse_args()
    cache = arguments.cache.resolve()
    kind = "_speed" if arguments.speed else "_calibrators" if arguments.calibrators else ""
    output = arguments.output or ROOT / "benchmarks" / "results" / f"quantization{kind}"
    measure: Measure
    if arguments.calibrators:
        measure = compare_calibrators
    else:
        measure = compare_speed if arguments.speed else compare
        _QUANTIZER.install(cache)
    models = _models(cache, arguments.models, speed=arguments.speed)
    run([model for model in models if arguments.match in model.stem], measure, cache, output,
        resume=arguments.resume)  # fmt: skip


def _models(cache: Path, real: Path, *, speed: bool) -> list[Path]:
    if speed:
        return [_made(cache, SPEED, "--speed")]
    trained = _made(cache, *MODELS).parent
    found = [real / f"{name}.pt2" for name in REAL]
    return found + [trained / f"{name}.pt2" for name in MODELS]


def _made(cache: Path, *names: str) -> Path:
    """Return the first of some models that are made here; what was made before is taken."""
    source = ROOT / "benchmarks" / "quantization_models.py"
    folder = cache / f"models-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    models = [name for name in names if not name.startswith("--")]
    if not all((folder / f"{name}_eval.npz").exists() for name in models):
        process = _run("benchmarks.quantization_models", str(folder), *names[len(models) :])
        if process.returncode:
            sys.exit(process.stderr)
    return folder / f"{models[0]}.pt2"


def run(
    models: Sequence[Path], measure: Measure, cache: Path, output: Path, *, resume: bool = False
) -> None:
    """Measure models, and write what there is after each.

    Args:
        models: The ``.pt2`` files.
        measure: Returns the figures of one.
        cache: Where its files go, and the environments of others are.
        output: The files to write, without their suffix.
        resume: Keep what the output has.
    """
    markdown, stored = (output.with_name(output.name + suffix) for suffix in (".md", ".json"))
    results: Results = {}
    if resume and stored.exists():
        results = json.loads(stored.read_text())
    output.parent.mkdir(parents=True, exist_ok=True)
    for model in models:
        if model.stem in results:
            continue
        if model.exists():
            results[model.stem] = measure(model, cache / "results" / model.stem, cache)
        else:
            results[model.stem] = {FLOAT: {"error": f"not run: {model.name} is missing"}}
        sys.stderr.write(f"{model.stem}: {results[model.stem]}\n")
        markdown.write_text(table(results) + "\n")
        stored.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
