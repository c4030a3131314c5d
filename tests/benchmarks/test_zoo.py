from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks import zoo
from benchmarks.architectures import TEN, Architecture, all_architectures, find


def test_there_are_enough_distinct_architectures() -> None:
    entries = all_architectures()
    assert len({entry.name for entry in entries}) == len(entries) >= 150
    assert len({(entry.source, entry.family) for entry in entries}) == len(entries)
    modules = {entry.family.partition("/")[0] for entry in entries if entry.source == "timm"}
    assert len(modules) >= 80


def test_the_ten_are_there_with_their_sizes() -> None:
    sizes = {name: find(name).inputs[0].shape for name in TEN}
    special = {"lraspp_mobilenet_v3_large": 320, "mobilevit_s": 256}
    assert sizes == {name: (1, 3, *[special.get(name, 224)] * 2) for name in TEN}


@pytest.mark.parametrize("entry", [e for e in all_architectures() if e.source == "own"],
                         ids=lambda entry: entry.name)  # fmt: skip
def test_own_networks_have_outputs_that_are_worth_comparing(entry: Architecture) -> None:
    with torch.no_grad():
        module = entry.build()
        outputs = module(*entry.example(7))
    assert not module.training
    for output in outputs if isinstance(outputs, tuple) else (outputs,):
        assert output.isfinite().all()
        assert output.std(unbiased=False) > 1e-4 or output.numel() == 1


def test_building_is_reproducible_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second = find("keyword_spotting").build(), find("keyword_spotting").build()
    assert torch.equal(expected, torch.rand(1))
    for one, two in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_batch_norm_statistics_fit_the_data() -> None:
    entry = find("keyword_spotting")
    module = entry.build()
    norm = next(layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    norm.register_forward_hook(lambda _layer, inputs, _output: seen.append(inputs[0]))
    with torch.no_grad():
        module(*entry.example(5, batch=8))
    assert norm.running_var is not None
    variance = seen[0].var(dim=(0, 2, 3))
    assert (norm.running_var / variance).log().abs().max() < 0.5


def test_status_tells_the_kinds_of_failure_apart() -> None:
    done = {"stage": "done", "converts": True}
    assert zoo.status({**done, "sqnr_db": 120.0}) == "pass"
    assert zoo.status({**done, "sqnr_db": 79.0}) == "inaccurate"
    assert zoo.status({**done, "sqnr_db": None, "exact": 0.9}) == "inaccurate"
    assert zoo.status({"stage": "saved_model"}) == "saved_model"
    assert zoo.status({"stage": "litert", "converts": True}) == "litert"


def test_the_report_counts_and_explains(tmp_path: Path) -> None:
    seconds = dict.fromkeys(zoo.STAGES, 1.0)
    outcomes: dict[str, zoo.Outcome] = {
        "unet": {"stage": "done", "status": "pass", "sqnr_db": 120.0, "seconds": seconds},
        "gru": {
            "stage": "saved_model",
            "status": "saved_model",
            "error": "no\n| GRU",
            "seconds": {},
        },
    }
    zoo.write(all_architectures(), outcomes, tmp_path / "zoo")
    text = (tmp_path / "zoo.md").read_text()
    assert "1 of 2 architectures (50.0 %)" in text
    assert "- gru: saved_model: no | GRU" in text
    assert json.loads((tmp_path / "zoo.json").read_text()) == outcomes


def test_every_status_has_a_reason() -> None:
    counts = Counter(
        bool(zoo.reason(outcome))
        for outcome in (
            {"status": "inaccurate", "sqnr_db": 10.0},
            {"status": "onnx", "error": "cannot"},
            {"status": "litert"},
        )
    )
    assert counts == {True: 3}


@pytest.mark.slow
def test_a_small_network_goes_through() -> None:
    server = zoo.Server()
    try:
        outcome = server.run("tcn", timeout=200)
    finally:
        server.stop()
    assert outcome["status"] == "pass", outcome
    assert outcome["sqnr_db"] > 100
    assert outcome["operators"] > 0
    assert set(zoo.STAGES) <= set(outcome["seconds"])


@pytest.mark.slow
def test_a_model_that_takes_too_long_is_ended() -> None:
    server = zoo.Server()
    try:
        outcome = server.run("tcn", timeout=0.2)
    finally:
        server.stop()
    assert outcome["status"] != "pass"
    assert "longer than" in outcome["error"]
