from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.peers_process import run
from benchmarks.peers_tools import PEERS, Peer


def test_geometric_mean() -> None:
    assert peers.geometric_mean([1.0, 4.0]) == pytest.approx(2.0)


def test_means_leave_out_what_failed_and_take_the_best_for_each_figure() -> None:
    good = {"peak_mb": 100, "operators": 10, "sqnr_db": 120.0, "transposes": 0, "megabytes": 1.0}
    results: dict[str, dict[str, peers.Figures]] = {
        "one": {
            "edgeconv": {"seconds": 5.0, "latency_ms": 2.0, **good},
            "a": {"seconds": 10.0, "latency_ms": 4.0, **good},
            "b": {"seconds": 20.0, "latency_ms": 1.0, **good},
        },
        "two": {
            "edgeconv": {"seconds": 5.0, "latency_ms": 2.0, **good},
            "a": {"seconds": 40.0, "latency_ms": 4.0, **good},
            "b": {"seconds": 1.0, "peak_mb": 1, "error": "exit status 1: no"},
        },
    }
    lines = peers.table(results).splitlines()
    assert "| a | 2 | 0.25 | 1.00 | 0.50 | 1.00 |" in lines
    assert "| b | 1 | 0.25 | 1.00 | 2.00 | 1.00 |" in lines
    assert "| the best for each model | 2 | 0.25 | 1.00 | 1.00 | 1.00 |" in lines
    assert any("exit status 1: no" in line for line in lines)


def test_a_command_is_measured_with_its_children(tmp_path: Path) -> None:
    child = "import time; block = b'x' * 60_000_000; time.sleep(1)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    measured = run([sys.executable, "-c", parent], tmp_path, os.environ, timeout=60)
    assert measured.error == ""
    assert measured.seconds >= 1
    assert 60 <= measured.peak_mb < 200


def test_failures_and_late_commands_are_told(tmp_path: Path) -> None:
    failing = "import sys; print('what went wrong'); sys.exit(3)"
    measured = run([sys.executable, "-c", failing], tmp_path, os.environ, timeout=60)
    assert measured.error == "exit status 3: what went wrong"
    started = time.monotonic()
    late = "import time; time.sleep(60)"
    measured = run([sys.executable, "-c", late], tmp_path, os.environ, timeout=0.5)
    assert "longer than" in measured.error
    assert time.monotonic() - started < 20


def test_each_peer_has_an_environment_of_its_own(tmp_path: Path) -> None:
    others = [peer for peer in PEERS if peer.requirements]
    assert len({peer.python(tmp_path) for peer in others}) == len(others) >= 3
    for peer in others:
        assert all("==" in entry or "<" in entry for entry in peer.requirements)


def test_what_is_known_is_not_converted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "peers"
    output.with_suffix(".json").write_text('{"resnet18": {"edgeconv": {"seconds": 5.0}}}')
    known = peers.read(output)["resnet18"]
    one, two = PEERS[0], PEERS[2]
    ran = []

    def convert(peer: Peer, *_: object) -> tuple[peers.Figures, None]:
        ran.append(peer.name)
        return {"seconds": 7.0, "error": "no file"}, None

    monkeypatch.setattr(peers, "prepare", lambda name, cache: cache / name)
    monkeypatch.setattr(peers, "convert", convert)
    monkeypatch.setattr(peers, "measure", lambda *_: {})
    assert peers.compare("resnet18", [one], tmp_path, 1, known) == known
    rows = peers.compare("resnet18", [one, two], tmp_path, 1, known)
    assert {name: row["seconds"] for name, row in rows.items()} == {one.name: 5.0, two.name: 7.0}
    assert ran == [two.name]
    assert peers.read(tmp_path / "none") == {}


@pytest.mark.slow
def test_files_of_either_layout_are_compared_with_the_same_samples(tmp_path: Path) -> None:
    import tensorflow as tf

    from benchmarks.peers_measure import measure

    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((2, 1, 3, 6, 5), np.float32)
    np.savez(tmp_path / "samples.npz", inputs=inputs, outputs=inputs * 2)
    files = {}
    for name, shape in (("nchw", (1, 3, 6, 5)), ("nhwc", (1, 6, 5, 3))):
        double = tf.function(lambda x: x * 2, input_signature=[tf.TensorSpec(shape)])
        concrete = double.get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
        files[name] = tmp_path / f"{name}.tflite"
        files[name].write_bytes(converter.convert())
    request = {"samples": str(tmp_path / "samples.npz"), "files": files}
    for figures in measure(request).values():
        assert figures["sqnr_db"] > 120
        assert figures["operators"] == 1
        assert figures["latency_ms"] > 0
