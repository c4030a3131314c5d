"""Spare torch's ONNX exporter work that cannot change its result.

Its optimiser tries each of thirty patterns on each node, most of which look for another operator;
and for patterns with several results it goes through all nodes each time. Its registry reads and
parses the source of each of five hundred functions, only to name their domain. Together that is a
quarter of an export.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

_log = logging.getLogger(__name__)


@contextmanager
def export_shortcuts() -> Iterator[None]:
    """Let the exporter take shortcuts, as far as the installed onnxscript has what they replace."""
    with ExitStack() as stack:
        try:
            rewriter: Any = import_module("onnxscript.rewriter")
            traced: Any = import_module("onnxscript").TracedOnnxFunction
            rules = tuple(Rooted.of(rule) for rule in rewriter._DEFAULT_REWRITE_RULES)
            stack.enter_context(patch.object(rewriter, "_DEFAULT_REWRITE_RULES", rules))
            stack.enter_context(patch.object(traced, "function_ir", property(_named_only)))
        except (ImportError, AttributeError) as error:
            _log.debug("no shortcuts: %s", error)
        yield


def _named_only(function: Any) -> SimpleNamespace:
    """Return what the registry asks a function's signature for."""
    return SimpleNamespace(domain=function.opset.domain, name=function.name)


class Rooted:
    """A rewrite rule that looks at nodes of one operator only: the one that its pattern ends in.

    Args:
        rule: The rule.
        domain: Domain of the operator.
        op_type: The operator.
    """

    def __init__(self, rule: Any, domain: str, op_type: str) -> None:
        self._rule = rule
        self._operator = domain, op_type

    @classmethod
    def of(cls, rule: Any) -> Any:
        """Return a rule that does the same; the given one where its pattern ends in any operator.

        Args:
            rule: An `onnxscript.rewriter.RewriteRule`.

        Raises:
            AttributeError: It is made in another way than expected.
        """
        found = rule._target_pattern.output_nodes[0].op_identifier()
        simple = type(rule._matcher).__name__ == "SimplePatternMatcher"
        return cls(rule, *found[:2]) if simple and found is not None else rule

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rule, name)

    def try_rewrite(self, model: Any, graph: Any, node: Any, **options: Any) -> Any:
        """Return what takes the node's place, or None; as the rule does."""
        if (node.domain, node.op_type) != self._operator:
            return None
        return self._rule.try_rewrite(model, graph, node, **options)
