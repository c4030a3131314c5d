"""The options of a conversion, as one validated value shared by the CLI and the Python API."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from edgeconv.core.errors import UsageError, meant
from edgeconv.core.gates import check_gate

QuantizeMode = Literal["none", "fp16", "dynamic", "weight-only", "int8", "int16x8"]
IoDtype = Literal["float32", "int8", "uint8", "int16"]
SplitOutputs = Literal["auto", "never", "always"]
IoLayout = Literal["nhwc", "nchw"]
PreprocessMode = Literal["none", "fold"]
CalibratorName = Literal["minmax", "moving-average", "percentile", "mse", "entropy"]
ConverterName = Literal["native", "onnx-tf", "auto"]
RuntimeName = Literal["litert", "tflite-runtime", "tf"]

CALIBRATED_MODES = ("int8", "int16x8")
"""What `ConvertOptions.quantize` says where activations get ranges from calibration samples."""

_MEMORY = re.compile(r"(\d+(?:\.\d*)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = ("", "K", "M", "G", "T")
_LEAST_MEMORY = 256 << 20


@dataclass(frozen=True, slots=True)
class MaxDrop:
    """The most that an int8 model may lose.

    Attributes:
        amount: In dB, how far the SQNR of any output may lie below that of the same model with all
            activations in 16 bits. In points, the share of samples in percent whose top class may
            change.
        unit: ``dB`` or ``points``.
    """

    amount: float
    unit: Literal["dB", "points"]

    @classmethod
    def parse(cls, text: str) -> MaxDrop:
        """Return what ``3dB``, ``0.5%`` or ``0.5points`` means.

        Raises:
            UsageError: The text is none of these.
        """
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(dB|%|points?)\s*", text, re.IGNORECASE)
        if found is None:
            raise UsageError(
                f"--max-drop {text} is not understood",
                hint="write decibels as 3dB, points of accuracy as 0.5%",
            )
        return cls(float(found[1]), "dB" if found[2].lower() == "db" else "points")


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """Options of `edgeconv.convert` and of ``edgeconv torch2tflite``.

    Attributes:
        quantize: ``none``, ``fp16`` (weights), ``dynamic`` (int8 weights), ``weight-only`` (int8
            weights, float arithmetic), ``int8`` (everything), ``int16x8`` (int16 activations).
        io_dtype: dtype of the quantized model's inputs and outputs, where its activations are
            integers; ``int16`` in ``int16x8`` mode only. ``None`` is what the target has by
            itself: ``float32``, for an accelerator of integers ``int8``.
        split_outputs: Whether an integer output that joins several parts becomes several outputs,
            each with its own scale: ``auto`` where the ranges of the parts differ by more than 8
            to 1, ``always``, or ``never``.
        keep_float: Operators that are not quantized: builtin names, or patterns for the names of
            their outputs.
        keep_int16: Operators whose activations get 16 bits, likewise.
        recipe: File with rules for further operators; see `edgeconv.quantize.rules.recipe`.
        max_drop: The most that an int8 model may lose, ``"3dB"`` or ``"1%"``; layers are kept in
            16 bits until that holds. See `MaxDrop`.
        io_layout: ``nhwc`` stores image inputs and outputs channels last; ``nchw`` keeps them.
        states: Inputs that outputs are fed to in the next step of a stream, ``IN=OUT`` or
            ``IN=OUT[0:1]`` for a part of the output; ``none`` where there are none. Found from
            names and graph where nothing is said.
        outputs: The outputs that are wanted, in order, ``NAME`` or ``NAME=NEW``; all where empty.
        calibration_samples: Largest number of calibration samples used.
        calibrator: How a tensor's range is chosen from what calibration saw.
        preprocess: ``fold`` makes a model that takes bytes, 0 to 255: mean and standard deviation
            go into the first layer. See `edgeconv.convert.onnx.fold_input`.
        input_range: What inputs of an integer model range over, ``"0,1"`` or ``"name=0,1"``; by the
            samples where nothing is said. See `edgeconv.quantize.params.input_scales`.
        disable_recovery: Methods of winning accuracy back that are left out; names of
            `edgeconv.quantize.recovery.RECOVERIES`, or ``all``.
        target: What the model is converted for; a name of `edgeconv.targets.names`.
        allow_approximate: Whether a target may replace operators that it lacks by close ones.
        cut: Names of ONNX nodes after which a target cuts the model; what follows becomes a float
            model of its own for the CPU. ``auto`` cuts off what does not map at the end.
        compiler_image: Container image that holds the target's compiler.
        min_runtime_version: Oldest version of the target's runtime that must run the model.
        search_delegate: Let the target's compiler cut the model earlier and earlier if it fails.
        bisect: Search the operator on which the target's compiler fails.
        converter: What turns ONNX into a SavedModel: ``native`` is edgeconv's own translator;
            ``auto`` is that too, and onnx-tf where it lacks an operator.
        runtime: What runs .tflite files for parity.
        verify: Check parity after every stage.
        layers: Then measure the error of each layer, too.
        explain: Then keep the worst layers of an integer model in float, one at a time, and report
            what each gains.
        parity_samples: Largest number of samples that parity is measured on.
        gates: Overrides of the default gates, ``{"tflite_int8": {"sqnr_db": 20.0}}``; the stage
            ``all`` stands for every stage.
        seed: Seed of generated inputs.
        timeout: Seconds that one call into a native runtime may take.
        memory_limit: Memory that each native runtime may take, such as ``4GB``; half of the
            machine's by default.
    """

    quantize: QuantizeMode = "none"
    io_dtype: IoDtype | None = None
    split_outputs: SplitOutputs = "auto"
    keep_float: tuple[str, ...] = ()
    keep_int16: tuple[str, ...] = ()
    recipe: str | None = None
    max_drop: str | None = None
    io_layout: IoLayout = "nhwc"
    states: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    calibration_samples: int = 200
    calibrator: CalibratorName = "mse"
    preprocess: PreprocessMode = "none"
    input_range: tuple[str, ...] = ()
    disable_recovery: tuple[str, ...] = ()
    target: str = "cpu"
    allow_approximate: bool = False
    cut: tuple[str, ...] = ()
    compiler_image: str | None = None
    min_runtime_version: int | None = None
    search_delegate: bool = False
    bisect: bool = False
    converter: ConverterName = "native"
    runtime: RuntimeName = "litert"
    verify: bool = True
    layers: bool = True
    explain: bool = False
    parity_samples: int = 16
    gates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seed: int = 0
    timeout: float = 1800.0
    memory_limit: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.input_range, str):
            object.__setattr__(self, "input_range", (self.input_range,))
        _require("quantize", self.quantize, get_args(QuantizeMode))
        _require("io_dtype", self.io_dtype or "float32", get_args(IoDtype))
        _require("split_outputs", self.split_outputs, get_args(SplitOutputs))
        _require("io_layout", self.io_layout, get_args(IoLayout))
        _require("preprocess", self.preprocess, get_args(PreprocessMode))
        _require("calibrator", self.calibrator, get_args(CalibratorName))
        _require("converter", self.converter, get_args(ConverterName))
        _require("runtime", self.runtime, get_args(RuntimeName))
        for name in (
            "keep_float",
            "keep_int16",
            "outputs",
            "cut",
            "disable_recovery",
            "input_range",
            "states",
        ):
            if isinstance(getattr(self, name), str):
                raise UsageError(f"{name} is a list of texts, not one text")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.states:
            # It works on arrays, and numpy takes most of the time that `import edgeconv` would.
            from edgeconv.core.states import parse_states

            parse_states(self.states)
        self._check_quantization()
        self._check_ranges()
        for name in ("calibration_samples", "parity_samples"):
            _at_least(name, getattr(self, name), 1)
        _at_least("seed", self.seed, 0)
        if not (self.timeout > 0 and math.isfinite(self.timeout)):
            raise UsageError(f"--timeout must be more than 0 seconds, not {self.timeout:g}")
        parse_memory(self.memory_limit)
        for stage, gate in self.gates.items():
            for metric, limit in gate.items():
                check_gate(stage, metric, limit, None)  # the pipeline knows its stages

    def _check_quantization(self) -> None:
        """Refuse options that the mode makes senseless."""
        wide = "int16x8" if self.io_dtype == "int16" else "int8"
        real = self.io_dtype in (None, "float32")
        if not real and self.quantize not in (wide, "int16x8"):
            raise UsageError(
                f"--io-dtype {self.io_dtype} needs a model with {wide} activations",
                why=f"--quantize is {self.quantize}",
                hint=f"add --quantize {wide}, or leave --io-dtype at float32",
            )
        for name in ("keep_float", "keep_int16", "recipe"):
            if getattr(self, name) and self.quantize == "none":
                raise UsageError(
                    f"{_option(name)} needs a model that is quantized",
                    why="--quantize is none",
                    hint="add --quantize, which says what becomes of all the other operators",
                )
        if self.max_drop is not None:
            MaxDrop.parse(self.max_drop)
            if self.quantize != "int8":
                raise UsageError(
                    "--max-drop needs --quantize int8", why=f"--quantize is {self.quantize}"
                )

    def _check_ranges(self) -> None:
        for text in self.input_range:
            parse_range(text)
        if self.input_range and self.quantize not in CALIBRATED_MODES:
            raise UsageError(
                "--input-range needs a model with integer activations",
                why=f"--quantize is {self.quantize}",
                hint="add --quantize int8",
            )

    def settled(self) -> ConvertOptions:
        """Return the options with what is left to others at what it is by itself."""
        return replace(self, io_dtype=self.io_dtype or "float32")

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's form."""
        data = asdict(self)
        return data | {name: list(value) for name, value in data.items() if type(value) is tuple}


def parse_range(text: str) -> tuple[str, float, float]:
    """Return what ``LO,HI`` or ``NAME=LO,HI`` means: a name, which may be empty, and the ends.

    Raises:
        UsageError: The text is neither, or the ends are no range.
    """
    name, _, ends = text.rpartition("=")
    try:
        low, high = (float(end) for end in ends.split(","))
    except ValueError:
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(
            f"--input-range {text} is not understood",
            hint="write the lowest and the highest value, as 0,1 or image=-1,1",
        )
    return name.strip(), low, high


def parse_memory(text: str | None) -> int | None:
    """Return the bytes that a text such as ``4GB`` means; units are powers of 1024.

    Raises:
        UsageError: It means none, or less than any native runtime needs.
    """
    if text is None:
        return None
    match = _MEMORY.fullmatch(str(text).strip())
    size = int(float(match[1]) * 1024 ** _UNITS.index(match[2].upper())) if match else 0
    if size < _LEAST_MEMORY:
        raise UsageError(
            f"--memory-limit {text} is {'too low' if match else 'not understood'}",
            hint=f"write it as --memory-limit 4GB; the least is {_LEAST_MEMORY >> 20}MB",
        )
    return size


def _require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{_option(name)} {value} is not known", hint=meant(value, allowed))


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UsageError(f"{_option(name)} must be at least {least}, not {value}")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
