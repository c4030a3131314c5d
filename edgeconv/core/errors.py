"""Every error that edgeconv raises on purpose.

::

    EdgeconvError
    ├── UsageError            the call is wrong: option, path, output directory
    │   └── InvalidModel      the model file is missing, corrupt, hostile or not a model
    │   └── InvalidData       calibration or verification data does not fit the model
    ├── ConversionError       the model is fine, but a stage cannot express it
    │   ├── UnsupportedModel  named nodes that the translator or quantizer does not cover
    │   └── CompilerError     a device's compiler made nothing usable of the model
    │       ├── CompilerRefused   it said why, or at least that it failed
    │       ├── CompilerCrashed   it died
    │       ├── CompilerTimeout   it did not end in time
    │       ├── NothingMapped     it wrote a file in which nothing runs on the device
    │       └── BadCompilerOutput what it wrote is missing, a stub, or not the same model
    ├── ToolMissing           a program, package or device that the call insists on is absent
    └── WorkerError           a native runtime failed in its worker process
        ├── WorkerCrashed     it died (signal, abort)
        ├── WorkerTimeout     it did not answer in time
        ├── LimitExceeded     it took more memory or processor time than it may
        └── NoRuntime         it does not have what a valid model needs

A message has up to four parts, always in this order: what went wrong, where (file, node, op,
module), why, and what to do next. `EdgeconvError` builds the text; callers give the parts, in which
`edgeconv.core.wording.named` stands for an option: an error that is raised in Python speaks of
parameters, the command line has it speak of flags.
The command line alone turns the classes into exit codes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import Any

from edgeconv.core.wording import Wording, as_it_is, in_python


class EdgeconvError(Exception):
    """Base class: an error with a what, a where, a why and a next step.

    Args:
        what: One sentence without a full stop: what went wrong.
        where: The file, node, op or module concerned.
        why: The cause, where known.
        hint: What the user can do next.
        details: Long technical text (a traceback, a tool's log), shown with ``--verbose`` only.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        why: str = "",
        hint: str = "",
        details: str = "",
    ) -> None:
        self._parts = {"what": what, "where": where, "why": why, "hint": hint, "details": details}
        super().__init__(str(self))

    @property
    def what(self) -> str:
        """What went wrong."""
        return in_python(self._parts["what"])

    @property
    def where(self) -> str:
        """The file, node, op or module concerned, or ``""``."""
        return in_python(self._parts["where"])

    @property
    def why(self) -> str:
        """The cause, or ``""``."""
        return in_python(self._parts["why"])

    @property
    def hint(self) -> str:
        """What to do next, or ``""``."""
        return in_python(self._parts["hint"])

    @property
    def details(self) -> str:
        """Long technical text, or ``""``."""
        return self._parts["details"]

    def __str__(self) -> str:
        return self.text(in_python)

    def text(self, wording: Wording) -> str:
        """Return the message.

        Args:
            wording: How options are called where it is shown.
        """
        what, where, why, hint, _ = self._parts.values()
        head = f"{where}: {what}" if where else what
        lines = [f"{head}: {why}" if why else head]
        if hint:
            lines.append(f"  next: {hint}")
        return wording("\n".join(lines))

    def to_dict(self, wording: Wording = in_python) -> dict[str, Any]:
        """Return the class name and the parts, for ``--json`` and for crossing processes.

        Args:
            wording: How options are called where it is read; `as_it_is` for `error_from_dict`.
        """
        parts = {name: wording(text) for name, text in self._parts.items()}
        return {"error": type(self).__name__, **parts}


class UsageError(EdgeconvError):
    """The call is wrong: an option, a path, the output directory."""


class NotOffered(UsageError):
    """A target is asked for what it does not do: to predict, or to compile."""


class InvalidModel(UsageError):
    """The model file is missing, truncated, corrupt, hostile, or not a model at all."""


class InvalidData(UsageError):
    """Calibration or verification data does not fit the model."""


class ConversionError(EdgeconvError):
    """A stage cannot express the model."""


@dataclass(frozen=True, slots=True)
class UnsupportedNode:
    """One node that a stage does not cover.

    Attributes:
        op: Operator type with its version, ``"Resize-19"``.
        node: Node name.
        module: Path of the PyTorch module it came from, or ``""``.
        source: ``file:line`` in the PyTorch source, or ``""``.
        reason: Which part is not supported.
        hint: What to do about it.
    """

    op: str
    node: str
    reason: str
    module: str = ""
    source: str = ""
    hint: str = ""

    def __str__(self) -> str:
        return self.of_several(1)

    def of_several(self, count: int) -> str:
        """Return the line that stands for several nodes of one kind, of which it is the first."""
        origin = ", ".join(part for part in (self.module, self.source) if part)
        place = f"{self.node}{', from ' + origin if origin else ''}"
        head = f"{self.op} ({place})" if count == 1 else f"{count} x {self.op} (first {place})"
        text = f"{head}: {self.reason}"
        return f"{text}; {self.hint}" if self.hint else text


def _worded(node: UnsupportedNode, wording: Wording) -> UnsupportedNode:
    return replace(node, reason=wording(node.reason), hint=wording(node.hint))


class UnsupportedModel(ConversionError):
    """The model holds nodes that a stage does not cover; all of them are listed.

    Nodes of one module with one operator that are refused for one reason share a line.

    Args:
        stage: The stage that refuses, for example ``"onnx to saved_model"``.
        nodes: Every node concerned, at least one.
        hint: What to do next.
    """

    def __init__(self, stage: str, nodes: Sequence[UnsupportedNode], hint: str = "") -> None:
        self.stage = stage
        self._nodes = tuple(nodes)
        noun = "node is" if len(nodes) == 1 else "nodes are"
        alike = Counter((node.module, node.op, node.reason, node.hint) for node in nodes)
        firsts = {(node.module, node.op, node.reason, node.hint): node for node in nodes[::-1]}
        listing = "".join(
            f"\n  - {firsts[kind].of_several(count)}" for kind, count in alike.items()
        )
        super().__init__(f"{len(nodes)} {noun} not supported", where=stage, why=listing, hint=hint)

    @property
    def nodes(self) -> tuple[UnsupportedNode, ...]:
        """Every node concerned."""
        return tuple(_worded(node, in_python) for node in self._nodes)

    def to_dict(self, wording: Wording = in_python) -> dict[str, Any]:
        """Return the parts with the list of nodes."""
        return {
            "error": type(self).__name__,
            "stage": self.stage,
            "nodes": [asdict(_worded(node, wording)) for node in self._nodes],
            "hint": wording(self._parts["hint"]),
        }


class CompilerError(ConversionError):
    """A device's compiler made nothing usable of the model."""


class CompilerRefused(CompilerError):
    """The compiler said why it does not take the model, or at least that it failed."""


class CompilerCrashed(CompilerError):
    """The compiler died: a signal, or an end without a word."""


class CompilerTimeout(CompilerError):
    """The compiler did not end in time and was stopped."""


class NothingMapped(CompilerError):
    """The compiler wrote a file in which nothing runs on the device."""


class BadCompilerOutput(CompilerError):
    """What the compiler wrote is missing, a stub, or not the same model."""


class ToolMissing(EdgeconvError):
    """A program, package or device that the call insists on is absent."""


class WorkerError(EdgeconvError):
    """A native runtime failed in its worker process."""


class WorkerCrashed(WorkerError):
    """The worker process died: a signal, an abort, or an exit in native code."""


class WorkerTimeout(WorkerError):
    """The worker process did not answer in time and was stopped."""


class LimitExceeded(WorkerError):
    """The worker process took more memory or processor time than it may, and was stopped."""


class NoRuntime(WorkerError):
    """No runtime here has what a valid model needs; all else can go on without running it."""


def first_line(error: BaseException) -> str:
    """Return what went wrong in one line; the class's name where the error has no words."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def meant(text: str, known: Iterable[str]) -> str:
    """Return the next step after a name that is not known: what is close, and all that are."""
    names = list(known)
    return " ".join(filter(None, (close_to(text, names), "use one of " + ", ".join(names))))


def close_to(text: str, known: Iterable[str]) -> str:
    """Return a question after the names that are close to another one, ``""`` without any."""
    folded = {name.casefold(): name for name in known}
    same = [text.casefold()] if text.casefold() in folded else []
    found = same or get_close_matches(text.casefold(), folded, 2, 0.6)
    return f"did you mean {' or '.join(folded[name] for name in found)}?" if found else ""


_BY_NAME: dict[str, type[EdgeconvError]] = {
    cls.__name__: cls
    for cls in (
        EdgeconvError,
        UsageError,
        NotOffered,
        InvalidModel,
        InvalidData,
        ConversionError,
        CompilerError,
        CompilerRefused,
        CompilerCrashed,
        CompilerTimeout,
        NothingMapped,
        BadCompilerOutput,
        ToolMissing,
        WorkerError,
        WorkerCrashed,
        WorkerTimeout,
        LimitExceeded,
        NoRuntime,
    )
}


def error_from_dict(data: Mapping[str, Any]) -> EdgeconvError:
    """Rebuild the error that `EdgeconvError.to_dict` described."""
    if data["error"] == UnsupportedModel.__name__:
        nodes = [UnsupportedNode(**node) for node in data["nodes"]]
        return UnsupportedModel(data["stage"], nodes, data["hint"])
    parts = {key: data.get(key, "") for key in ("where", "why", "hint", "details")}
    return _BY_NAME.get(data["error"], EdgeconvError)(data["what"], **parts)


def at_stage(stage: str, error: EdgeconvError) -> EdgeconvError:
    """Return the error with the name of the stage that raised it."""
    if isinstance(error, UnsupportedModel):
        return error
    parts = error.to_dict(as_it_is)
    parts["where"] = f"stage {stage}, {parts['where']}" if parts["where"] else f"stage {stage}"
    return error_from_dict(parts)
