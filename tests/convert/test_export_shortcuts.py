"""The exporter's shortcuts change nothing but its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
from onnxscript import rewriter

from edgeconv.convert.torch import export as torch_to_onnx
from edgeconv.convert.torch.export_shortcuts import Rooted, export_shortcuts
from edgeconv.convert.torch.model import from_module


class Net(torch.nn.Module):
    """Has something for many of the rules: padding, normalisation, reshapes, clips, casts."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = torch.nn.ConstantPad2d(1, 0.0)
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = (
            torch.relu(self.norm(self.conv(self.pad(image)))).clamp(0, 6).clamp(1, 5)
        )
        found = found.permute(0, 2, 3, 1).permute(0, 1, 2, 3).reshape(1, -1, 4)
        found = self.linear(found).unsqueeze(0) * 1 + 0
        found = found.transpose(1, 2).transpose(1, 2).expand(2, 1, -1, 2)
        return found.float()[:, :, 0:]


@contextmanager
def nothing() -> Iterator[None]:
    yield


def exported(path: Path) -> bytes:
    torch.manual_seed(0)
    model = from_module(Net().eval(), torch.ones(1, 3, 8, 8), "net")
    torch_to_onnx.export(model, path)
    return path.read_bytes()


def test_the_file_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = exported(tmp_path / "quick.onnx")
    monkeypatch.setattr(torch_to_onnx, "export_shortcuts", nothing)
    assert exported(tmp_path / "slow.onnx") == quick


def test_rules_are_tried_on_the_operator_that_their_pattern_ends_in() -> None:
    rules = [Rooted.of(rule) for rule in rewriter._DEFAULT_REWRITE_RULES]
    kept = [rule for rule in rules if isinstance(rule, Rooted)]
    assert len(kept) > len(rules) * 0.8
    for rule, original in zip(rules, rewriter._DEFAULT_REWRITE_RULES, strict=True):
        assert rule.remove_nodes == original.remove_nodes


def test_a_rule_is_not_tried_on_another_operator() -> None:
    tried = []

    class Rule:
        name = "rule"

        def try_rewrite(self, _model: Any, _graph: Any, node: ir.Node, **options: Any) -> str:
            tried.append((node.op_type, options))
            return "found"

    rooted = Rooted(Rule(), "", "Relu")
    assert rooted.name == "rule"
    assert rooted.try_rewrite(None, None, ir.node("Abs", []), verbose=1) is None
    assert rooted.try_rewrite(None, None, ir.Node("other", "Relu", []), verbose=1) is None
    assert rooted.try_rewrite(None, None, ir.node("Relu", []), verbose=1) == "found"
    assert tried == [("Relu", {"verbose": 1})]


def test_what_was_replaced_comes_back() -> None:
    before = rewriter._DEFAULT_REWRITE_RULES
    with export_shortcuts():
        assert rewriter._DEFAULT_REWRITE_RULES is not before
    assert rewriter._DEFAULT_REWRITE_RULES is before


def test_another_onnxscript_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(rewriter, "_DEFAULT_REWRITE_RULES")
    with export_shortcuts():
        assert not hasattr(rewriter, "_DEFAULT_REWRITE_RULES")
