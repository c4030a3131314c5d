"""What a target is: a device, with all that only it knows, from a conversion to the board.

`Target` is the whole of it. A package that adds one subclasses `BaseTarget`, which answers for
everything that a target does not say itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from edgeconv.core.artifacts import Artifact, Format
from edgeconv.core.errors import EdgeconvError, NotOffered, ToolMissing, UsageError
from edgeconv.core.gates import Gates
from edgeconv.core.options import ConvertOptions, TargetOptions
from edgeconv.core.wording import named
from edgeconv.quantize.rules.precision import Rule
from edgeconv.targets.compile_stage import CompileStage, run_of
from edgeconv.targets.compiling import CompilerResult, CompilerRun, Setting
from edgeconv.targets.placement import Placement
from edgeconv.toolchain.device.part import DevicePart
from edgeconv.toolchain.probes import Component
from edgeconv.toolchain.worker.stage import Stage


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a device will make of a model.

    Attributes:
        notes: Sentences for the report.
        data: The same for the manifest, JSON-ready.
    """

    notes: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe:
    """Looks for components that a target needs on this machine, or can use.

    Attributes:
        ask: Returns them. It changes nothing, and calls native code in a worker process.
        needed: Names of those without which the target cannot be served.
    """

    ask: Callable[[], Sequence[Component]]
    needed: tuple[str, ...] = ()


class Target(Protocol):
    """A device that a model is converted for.

    Attributes:
        name: What ``--target`` calls it.
        also_called: What else people call it, for a hint.
        label: What sentences call the device: ``the Edge TPU``.
        place: The word for the device in JSON, where ``cpu`` stands for the CPU beside it; also the
            name of the compiled stage in reports and gates.
        suffix: What the names of compiled files end with.
        word: What manifests call the format of compiled files.
        options: The options that it adds to a conversion; see `edgeconv.core.declare`.
        compiles: Whether it has a compiler.
        settings: What its compiler can be told.
        gates: Default limits of the stages that it adds.
        float_stage_names: The names that its float stages can have.
        mixed_precision: Whether an int8 model may have operators with float or 16-bit activations.
        precision_rules: Operators that an int8 model for it has in another precision.
        fixed_shapes: Whether it takes models of fixed shapes only; an open batch then becomes 1.
        keeps_old_operators: Whether its models have operator versions that old runtimes know.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def also_called(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def label(self) -> str: ...  # noqa: D102
    @property
    def options(self) -> type[TargetOptions]: ...  # noqa: D102
    @property
    def place(self) -> str: ...  # noqa: D102
    @property
    def suffix(self) -> str: ...  # noqa: D102
    @property
    def word(self) -> str: ...  # noqa: D102
    @property
    def compiles(self) -> bool: ...  # noqa: D102
    @property
    def settings(self) -> Sequence[Setting]: ...  # noqa: D102
    @property
    def gates(self) -> Gates: ...  # noqa: D102
    @property
    def float_stage_names(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def mixed_precision(self) -> bool: ...  # noqa: D102
    @property
    def precision_rules(self) -> Sequence[Rule]: ...  # noqa: D102
    @property
    def fixed_shapes(self) -> bool: ...  # noqa: D102
    @property
    def keeps_old_operators(self) -> bool: ...  # noqa: D102

    def adapt(self, options: ConvertOptions) -> ConvertOptions:
        """Return the options that a conversion for this target uses; log what was changed.

        Raises:
            UsageError: An option cannot lead to a model for this target, for example one that
                asks for float weights on an integer device.
        """

    def float_stages(self, options: ConvertOptions) -> Sequence[Stage]:
        """Return the stages between the float .tflite and quantization: rewrites of the graph."""

    def stages(self, options: ConvertOptions) -> Sequence[Stage]:
        """Return the stages after quantization: rewriting for the device, its compiler."""

    def assess(self, model: Artifact) -> Assessment:
        """Say what the device will make of the last stage's model."""

    def placement(self, model: Path, *, converted: bool) -> Placement:
        """Say where the operators of a .tflite model will run. Called in a worker process.

        Args:
            model: The file, not compiled.
            converted: Whether it was converted for this target.

        Raises:
            NotOffered: The target predicts nothing.
            InvalidModel: The file cannot be read.
        """

    def deployable(self, models: Mapping[str, Artifact], where: str) -> str:
        """Return the stage whose model is compiled, and runs where the device does not.

        Args:
            models: The .tflite models of a bundle by stage, at least one, in order.
            where: The bundle, for messages.

        Raises:
            UsageError: None of them will do.
        """

    def require_compiler(self, run: CompilerRun) -> None:
        """Refuse to compile where there is nothing to compile with.

        Raises:
            NotOffered: The target has no compiler.
            ToolMissing: It is not installed.
            UsageError: A setting is wrong.
        """

    def compile(
        self, models: Sequence[Path], directory: Path, run: CompilerRun
    ) -> Sequence[CompilerResult]:
        """Compile models, together where the compiler can.

        Args:
            models: .tflite files.
            directory: Where the results go, under the models' names with `suffix`.
            run: How.

        Raises:
            NotOffered: See `require_compiler`; so for `ToolMissing` and `UsageError`.
            InvalidModel: A model cannot be read.
            CompilerError: Nothing usable came out of one of them; then none is kept.
        """

    def describe(self, path: Path) -> Mapping[str, Any] | None:
        """Return what a compiled file of this target holds, JSON-ready. Called in a worker process.

        Returns:
            ``None`` where the file is none of this target's.

        Raises:
            InvalidModel: It is one, but damaged.
        """

    def description(self, found: Mapping[str, Any]) -> Iterable[str]:
        """Return what `describe` found as lines for a terminal."""

    def probes(self) -> Sequence[Probe]:
        """Return what ``doctor`` looks for."""

    def device_part(self) -> DevicePart | None:
        """Return how compiled models are run; ``None`` where nothing can run them."""

    def notes_on(self, found: Mapping[str, Any]) -> Sequence[str]:
        """Return what is wrong on a board but stops nothing, of what the part's ``look`` found."""


class BaseTarget:
    """A target that says nothing but its name: what each member is by itself."""

    name = ""
    also_called: Sequence[str] = ()
    word = Format.COMPILED.value
    options: type[TargetOptions] = TargetOptions
    compiles = False
    settings: Sequence[Setting] = ()
    gates: Gates = MappingProxyType({})
    float_stage_names: Sequence[str] = ()
    mixed_precision = True
    precision_rules: Sequence[Rule] = ()
    fixed_shapes = False
    keeps_old_operators = False

    @property
    def label(self) -> str:
        """Its name."""
        return self.name

    @property
    def place(self) -> str:
        """Its name."""
        return self.name

    @property
    def suffix(self) -> str:
        """``_<place>.tflite``."""
        return f"_{self.place}.tflite"

    def adapt(self, options: ConvertOptions) -> ConvertOptions:
        """Take every option."""
        return options

    def float_stages(self, options: ConvertOptions) -> Sequence[Stage]:  # noqa: ARG002
        """Return no stage."""
        return ()

    def stages(self, options: ConvertOptions) -> Sequence[Stage]:
        """Return the compiler, where there is one and it is installed."""
        if not self.compiles:
            return ()
        try:
            self.require_compiler(run_of(self, options))
        except ToolMissing:
            return ()
        return (CompileStage(self),)

    def assess(self, model: Artifact) -> Assessment:
        """Say whether the model is compiled, if there is a compiler."""
        if not self.compiles:
            return Assessment()
        compiled = model.format is Format.COMPILED
        why = f"not compiled: edgeconv doctor --target {self.name} says what is missing"
        return Assessment(() if compiled else (why,), {"name": self.name, "compiled": compiled})

    def placement(self, model: Path, *, converted: bool) -> Placement:  # noqa: ARG002
        """Predict nothing.

        Raises:
            NotOffered: Always.
        """
        raise NotOffered(
            f"{named('target', self.name)} predicts nothing",
            where=str(model),
            why="it does not say which operators its device runs",
            hint=f"compile the model: edgeconv compile --target {self.name} {model.name}"
            if self.compiles
            else "leave --target out to see what the file holds",
        )

    def deployable(self, models: Mapping[str, Artifact], where: str) -> str:  # noqa: ARG002
        """Return the last one."""
        return list(models)[-1]

    def require_compiler(self, run: CompilerRun) -> None:  # noqa: ARG002
        """Refuse where the target has none.

        Raises:
            NotOffered: It has none.
        """
        if not self.compiles:
            raise NotOffered(
                f"{named('target', self.name)} has no compiler",
                why="its device runs .tflite models as they are",
                hint="deploy the model: edgeconv deploy",
            )

    def compile(
        self,
        models: Sequence[Path],  # noqa: ARG002
        directory: Path,  # noqa: ARG002
        run: CompilerRun,
    ) -> Sequence[CompilerResult]:
        """Compile nothing.

        Raises:
            NotOffered: Always.
        """
        self.require_compiler(run)
        raise NotOffered(f"{named('target', self.name)} does not say how it compiles")

    def describe(self, path: Path) -> Mapping[str, Any] | None:  # noqa: ARG002
        """Know no file."""
        return None

    def description(self, found: Mapping[str, Any]) -> Iterable[str]:  # noqa: ARG002
        """Return no line."""
        return ()

    def probes(self) -> Sequence[Probe]:
        """Ask `require_compiler`, if there is a compiler."""
        name = f"compiler of {self.name}"
        return [Probe(lambda: [self._compiler(name)], (name,))] if self.compiles else ()

    def _compiler(self, name: str) -> Component:
        try:
            self.require_compiler(CompilerRun())
        except EdgeconvError as error:
            return Component(name, works=False, problem=error.what, next_step=error.hint)
        return Component(name, works=True)

    def device_part(self) -> DevicePart | None:
        """Return nothing: the device runs .tflite models as they are."""
        return None

    def notes_on(self, found: Mapping[str, Any]) -> Sequence[str]:  # noqa: ARG002
        """Return no note."""
        return ()


def require_int8(models: Mapping[str, Artifact], target: Target, where: str) -> str:
    """Return the stage of the int8 model, for devices that run nothing else.

    Raises:
        UsageError: There is none.
    """
    stage = "tflite_int8"
    if stage not in models:
        raise UsageError(
            f"the bundle has no int8 model, and {target.label} runs nothing else",
            where=where,
            hint=f"convert again with --target {target.name}",
        )
    return stage
