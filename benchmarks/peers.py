"""Other converters and edgeconv on the same models, on the same machine, in the same run.

    python -m benchmarks.peers [--match TEXT] [--peers NAMES] [--cache DIR] [--output FILE]
                               [--resume [--fresh NAMES]]

Sets the converters up, each in an environment of its own; that needs a network, once. Then each
converts each model: wall time of the whole process and peak memory of all its processes; and the
results run on LiteRT side by side: latency, operators, TRANSPOSE, SQNR against torch, size.
Converters that start from ONNX get the export's time added. Ends with geometric means. The tables
are written after each model; ``--resume`` keeps the conversions that they have, but for those of
``--fresh``, and still runs all results of a model side by side.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.architectures import TEN
from benchmarks.peers_process import Measured, run
from benchmarks.peers_tools import PEERS, ROOT, Peer

Figures = dict[str, Any]
OWN = "edgeconv"
# onnx2tf downloads this file unless it lies in the current directory.
_SAMPLE_DATA = "calibration_image_sample_data_20x128x128x3_float32.npy"

_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("seconds", "convert s", ".1f"),
    ("peak_mb", "peak MB", ".0f"),
    ("latency_ms", "latency ms", ".2f"),
    ("operators", "ops", ".0f"),
    ("transposes", "TRANSPOSE", ".0f"),
    ("sqnr_db", "SQNR dB", ".0f"),
    ("megabytes", "MB", ".2f"),
)
_RATIOS = ("seconds", "peak_mb", "latency_ms", "operators")


def prepare(name: str, cache: Path) -> Path:
    """Return the directory with the files of a model that all converters start from."""
    directory = cache / "models" / name
    if not (directory / ".complete").exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        command = [sys.executable, "-m", "benchmarks.peers_prepare", name, str(directory)]
        subprocess.run(command, check=True, env=_environment(), cwd=ROOT)
        (directory / ".complete").touch()
    return directory


def _environment(*paths: Path) -> dict[str, str]:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    python_path = os.pathsep.join(map(str, (*paths, ROOT)))
    return {**os.environ, **quiet, "PYTHONPATH": python_path}


def convert(peer: Peer, model: Path, cache: Path, timeout: float) -> tuple[Figures, Path | None]:
    """Convert a prepared model; return what it took, and the file where there is one."""
    output = _directory(peer, model, cache)
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    generator = np.random.default_rng(0)
    np.save(output / _SAMPLE_DATA, generator.random((20, 128, 128, 3), np.float32))
    command = peer.command(peer.python(cache), model, output)
    measured = run(command, output, _environment(model), timeout)
    figures = _figures(measured, peer, model)
    found = sorted(output.glob(peer.result))
    if not found:
        figures.setdefault("error", "no file")
    return figures, found[0] if found else None


def _figures(measured: Measured, peer: Peer, model: Path) -> Figures:
    figures: Figures = {"seconds": measured.seconds, "peak_mb": measured.peak_mb}
    if peer.from_onnx:
        figures["seconds"] += float((model / "export.txt").read_text())
    if measured.error:
        figures["error"] = measured.error
    return figures


def measure(model: Path, files: dict[str, Path], cache: Path) -> dict[str, Figures]:
    """Run the files side by side in a process of its own."""
    request = cache / "results" / model.name / "request.json"
    result = request.with_name("result.json")
    result.unlink(missing_ok=True)
    request.write_text(
        json.dumps(
            {
                "samples": str(model / "samples.npz"),
                "files": {name: str(path) for name, path in files.items()},
                "result": str(result),
            }
        )
    )
    command = [sys.executable, "-m", "benchmarks.peers_measure", str(request)]
    subprocess.run(command, check=False, env=_environment(), cwd=ROOT, stderr=subprocess.DEVNULL)
    if not result.exists():
        return {name: {"error": "the runtime's process died"} for name in files}
    figures: dict[str, Figures] = json.loads(result.read_text())
    for entry in figures.values():
        entry["megabytes"] = entry.pop("bytes") / 1e6
    return figures


def compare(
    name: str,
    peers: Sequence[Peer],
    cache: Path,
    timeout: float,
    known: Mapping[str, Figures] | None = None,
) -> dict[str, Figures]:
    """Return the figures of each converter for one model.

    Args:
        name: The model.
        peers: The converters.
        cache: Where prepared models and results are.
        timeout: Seconds that one conversion may take.
        known: Figures of conversions that are not run again.
    """
    known = known or {}
    if all(peer.name in known for peer in peers):
        return {peer.name: known[peer.name] for peer in peers}
    model = prepare(name, cache)
    rows: dict[str, Figures] = {}
    files: dict[str, Path] = {}
    for peer in peers:
        rows[peer.name], path = known_or_converted(peer, model, cache, timeout, known)
        if path is not None and "error" not in rows[peer.name]:
            files[peer.name] = path
        sys.stderr.write(f"{name}, {peer.name}: {rows[peer.name]}\n")
    for peer_name, figures in measure(model, files, cache).items():
        rows[peer_name].update(figures)
    return rows


def known_or_converted(
    peer: Peer, model: Path, cache: Path, timeout: float, known: Mapping[str, Figures]
) -> tuple[Figures, Path | None]:
    """Return what a conversion took and its file; it is run unless it is known."""
    if peer.name not in known:
        return convert(peer, model, cache, timeout)
    found = sorted(_directory(peer, model, cache).glob(peer.result))
    return dict(known[peer.name]), found[0] if found else None


def _directory(peer: Peer, model: Path, cache: Path) -> Path:
    return cache / "results" / model.name / peer.name.replace(", ", "-")


def table(results: dict[str, dict[str, Figures]]) -> str:
    """Return all figures and the geometric means as Markdown."""
    titles = ["model", "converter", *(title for _, title, _ in _COLUMNS), ""]
    lines = [_line(titles), _line(["---"] * len(titles))]
    for model, rows in results.items():
        for peer, figures in rows.items():
            cells = [_cell(figures.get(key), form) for key, _, form in _COLUMNS]
            lines.append(_line([model, peer, *cells, figures.get("error", "")]))
    return "\n".join([*lines, "", *_means(results)])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _means(results: dict[str, dict[str, Figures]]) -> list[str]:
    """Return edgeconv's ratios to each converter, and to the best of them for each model."""
    others = sorted({peer for rows in results.values() for peer in rows if OWN not in peer})
    titles = [f"{OWN} / other, geometric mean", "models", *(_title(key) for key in _RATIOS)]
    lines = [_line(titles), _line(["---"] * len(titles))]
    lines += [_ratios(other, results, partial(_named, other)) for other in others]
    lines.append(_ratios("the best for each model", results, _best))
    return lines


def _title(key: str) -> str:
    return next(title for name, title, _ in _COLUMNS if name == key)


def _good(figures: Figures | None) -> bool:
    return figures is not None and "error" not in figures and "latency_ms" in figures


def _named(peer: str, rows: dict[str, Figures], _key: str) -> Figures | None:
    return rows.get(peer)


def _best(rows: dict[str, Figures], key: str) -> Figures | None:
    able = [figures for peer, figures in rows.items() if OWN not in peer and _good(figures)]
    return min(able, key=lambda figures: figures[key], default=None)


def _ratios(
    label: str,
    results: dict[str, dict[str, Figures]],
    choose: Callable[[dict[str, Figures], str], Figures | None],
) -> str:
    cells, count = [], 0
    for key in _RATIOS:
        values = []
        for rows in results.values():
            own, other = rows.get(OWN), choose(rows, key)
            if own is not None and other is not None and _good(own) and _good(other):
                values.append(own[key] / other[key])
        count = len(values)
        cells.append(f"{geometric_mean(values):.2f}" if values else "")
    return _line([label, str(count), *cells])


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive values."""
    return math.exp(sum(map(math.log, values)) / len(values))


def read(output: Path) -> dict[str, dict[str, Figures]]:
    """Return the figures that an earlier run wrote; none where there was none."""
    path = output.with_suffix(".json")
    if not path.exists():
        return {}
    results: dict[str, dict[str, Figures]] = json.loads(path.read_text())
    return results


def main() -> None:
    """Run the comparison."""
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--match", default="", help="only models whose name holds this text")
    parser.add_argument("--peers", default=";".join(names), help="names, with ; between them")
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache" / "edgeconv" / "peers",
        help="where environments, models and results are kept",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/peers"))
    parser.add_argument("--timeout", type=float, default=900, help="seconds per conversion")
    parser.add_argument("--resume", action="store_true", help="keep what the output has already")
    parser.add_argument("--fresh", default="", help="with --resume: converters to run again")
    arguments = parser.parse_args()
    cache = arguments.cache.resolve()
    wanted = arguments.peers.split(";")
    unknown = set(wanted) - set(names)
    if unknown:
        parser.error(f"no converter {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    peers = [peer for peer in PEERS if peer.name in wanted]
    for peer in peers:
        peer.install(cache)
    results = read(arguments.output) if arguments.resume else {}
    for name in (name for name in TEN if arguments.match in name):
        rows = results.get(name, {})
        fresh = arguments.fresh.split(";")
        known = {peer: figures for peer, figures in rows.items() if peer not in fresh}
        results[name] = {**rows, **compare(name, peers, cache, arguments.timeout, known)}
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.with_suffix(".md").write_text(table(results) + "\n")
        arguments.output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
