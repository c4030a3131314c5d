"""Conversion time grows with the number of nodes, not faster."""

from __future__ import annotations

import pytest

from benchmarks import scaling


def test_a_chain_has_the_nodes_that_were_asked_for() -> None:
    model = scaling.chain(11)
    assert [node.op_type for node in model.graph.node[:4]] == ["Conv", "Relu", "Add", "Conv"]
    assert len(model.graph.node) == 11
    assert model.graph.node[-1].output[0] == model.graph.output[0].name


def test_the_table_has_times_per_node_and_the_growth() -> None:
    results: dict[int, scaling.Times] = {
        10: {"saved_model": (0.5, 0.3), "tflite": (0.2, 0.2), "compiler": (0.1, 0.1)},
        100: {"saved_model": (1.0, 1.0), "tflite": (1.0, 1.0), "compiler": (0.4, 0.4)},
    }
    lines = scaling.table(results).splitlines()
    assert "| 100 | 1.00 | 1.00 | 0.40 | 2.00 | 20.00 | 16.00 |" in lines
    assert lines[-1] == (
        "- 10 to 100 nodes, 10 times as many: 4.0 times the CPU time, "
        "4.0 times without TensorFlow's compiler"
    )


@pytest.mark.slow
def test_ten_times_the_nodes_take_about_ten_times_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "")  # the benchmark changes it for its workers
    results = scaling.run((100, 1000))
    # Start-up costs make the true factor smaller than 10; anything quadratic that matters is more.
    assert scaling.own_cpu_of(results[1000]) < 15 * scaling.own_cpu_of(results[100])
    assert scaling.cpu_of(results[1000]) < 15 * scaling.cpu_of(results[100])
