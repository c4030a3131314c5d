"""The options of a conversion, as one validated value shared by the CLI and the Python API."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

from edgeconv.core.amounts import MaxDrop, parse_range
from edgeconv.core.declare import (
    CALIBRATION,
    FIRST,
    MODEL,
    PORTS,
    PRECISION,
    RUNNING,
    VERIFICATION,
    About,
    as_tuples,
    described,
    option,
    specs,
)
from edgeconv.core.errors import UsageError, meant
from edgeconv.core.gates import check_gate, parse_gate
from edgeconv.core.wording import OptionValue, named

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
class TargetOptions:
    """Options that a target adds to a conversion; a target without any has this class."""

    def to_dict(self) -> dict[str, OptionValue]:
        """Return the manifest's form."""
        return asdict(self)


Own = TypeVar("Own", bound=TargetOptions)


def _gates(texts: Sequence[str]) -> dict[str, dict[str, float]]:
    gates: dict[str, dict[str, float]] = {}
    for text in texts:
        stage, metric, limit = parse_gate(text, None)  # the pipeline knows its stages
        gates.setdefault(stage, {})[metric] = limit
    return gates


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """Options of `edgeconv.convert` and of ``edgeconv torch2tflite``."""

    quantize: QuantizeMode = option(
        "none",
        About(
            FIRST,
            "fp16, dynamic, weight-only: weights. int8: everything. int16x8: int16 activations.",
            "dynamic has int8 weights, weight-only those too, with float arithmetic.",
            place=3,
        ),
    )
    target: str = option("cpu", About(FIRST, "What to convert for.", metavar="NAME", place=5))
    calibration_samples: int = option(
        200, About(CALIBRATION, "How many of the calibration samples to use at most.")
    )
    calibrator: CalibratorName = option(
        "mse",
        About(CALIBRATION, "How ranges are chosen.", "From what calibration saw of a tensor."),
    )
    input_range: tuple[str, ...] = option(
        (),
        About(
            CALIBRATION,
            "What an input ranges over, such as 0,1 for images; else the samples tell.",
            metavar="[NAME=]LO,HI",
        ),
    )
    disable_recovery: tuple[str, ...] = option(
        (),
        About(
            PRECISION,
            "Leave a method out that wins int8 accuracy back, such as equalize.",
            metavar="NAME|all",
        ),
    )
    keep_float: tuple[str, ...] = option(
        (),
        About(
            PRECISION,
            "Operators not to quantize, by type or by name, with * and ?.",
            "Names are those of the operators' outputs.",
            metavar="OP|PATTERN",
        ),
    )
    keep_int16: tuple[str, ...] = option(
        (),
        About(
            PRECISION,
            "Operators whose activations get 16 bits, likewise.",
            metavar="OP|PATTERN",
        ),
    )
    recipe: str | None = option(
        None,
        About(
            PRECISION,
            "TOML or JSON with rules like these; ai-edge-quantizer's recipes are read too.",
            metavar="FILE",
            is_path=True,
        ),
    )
    max_drop: str | None = option(
        None,
        About(
            PRECISION,
            "Keep the fewest layers in 16 bits with which int8 loses no more, as 3dB or 0.5%.",
            "See `MaxDrop`.",
            metavar="DB|POINTS",
        ),
    )
    io_dtype: IoDtype | None = option(
        None,
        About(
            PORTS,
            "Type of an integer model's inputs and outputs.",
            "int16 in int16x8 mode only. What the target has by itself where nothing is said.",
            shown="float32; int8 where the target needs it",
        ),
    )
    io_layout: IoLayout = option(
        "nhwc",
        About(
            PORTS,
            "Layout of image inputs and outputs.",
            "nhwc stores them channels last, nchw keeps them.",
        ),
    )
    split_outputs: SplitOutputs = option(
        "auto",
        About(
            PORTS,
            "Make several of an integer output whose parts one scale cannot hold.",
            "auto where the ranges of the parts differ by more than 8 to 1.",
        ),
    )
    outputs: tuple[str, ...] = option(
        (),
        About(
            PORTS,
            "Return these outputs alone, in this order, under new names.",
            metavar="NAME[=NEW]",
        ),
    )
    states: tuple[str, ...] = option(
        (),
        About(
            PORTS,
            "Input that this output, or a part OUT[0:1] of it, is fed to in the next step of a"
            " stream; none for no states.",
            flag="--state",
            metavar="IN=OUT|none",
            shown="found by names and graph",
        ),
    )
    preprocess: PreprocessMode = option(
        "none",
        About(
            PORTS,
            "fold: mean and standard deviation go into the first layer; the model takes bytes.",
            "They are 0 to 255. See `edgeconv.convert.onnx.fold_input`.",
        ),
    )
    converter: ConverterName = option(
        "native",
        About(
            MODEL,
            "What turns ONNX into a SavedModel. auto: onnx-tf where native lacks an operator.",
            "native is edgeconv's own translator.",
        ),
    )
    runtime: RuntimeName = option(
        "litert", About(VERIFICATION, "What runs .tflite files for parity.")
    )
    verify: bool = option(
        default=True,
        about=About(
            VERIFICATION,
            "Skip parity; the bundle is marked as unverified.",
            "As a parameter: whether parity is checked after every stage.",
        ),
    )
    layers: bool = option(
        default=True,
        about=About(
            VERIFICATION,
            "Do not measure the error of each layer.",
            "As a parameter: whether it is measured.",
        ),
    )
    explain: bool = option(
        default=False,
        about=About(
            VERIFICATION,
            "Say which layers lost accuracy, and try what keeping the worst in float gains.",
        ),
    )
    parity_samples: int = option(
        16, About(VERIFICATION, "How many of the verification samples to use at most.")
    )
    gates: Mapping[str, Mapping[str, float]] = field(
        default_factory=dict,
        metadata=About(
            VERIFICATION,
            "Limit that parity must hold, for example tflite_int8:sqnr_db=20.",
            'As a parameter: ``{"tflite_int8": {"sqnr_db": 20.0}}``; the stage ``all`` stands for'
            " every stage.",
            flag="--gate",
            metavar="[STAGE:]METRIC=VALUE",
            parse=_gates,
            repeatable=True,
        ).metadata,
    )
    seed: int = option(0, About(RUNNING, "Seed of generated inputs."))
    timeout: float = option(
        1800.0, About(RUNNING, "Seconds that one call into a native runtime may take.")
    )
    memory_limit: str | None = option(
        None,
        About(
            RUNNING,
            "Memory that each worker process may take, such as 4GB.",
            metavar="SIZE",
            shown="half of the machine's",
        ),
    )
    target_options: TargetOptions | None = None

    def __post_init__(self) -> None:
        if isinstance(self.input_range, str):
            object.__setattr__(self, "input_range", (self.input_range,))
        for spec in specs(ConvertOptions):
            value = getattr(self, spec.name)
            if spec.choices and value is not None and value not in spec.choices:
                raise UsageError(
                    f"{named(spec.name)} {value} is not known", hint=meant(value, spec.choices)
                )
        as_tuples(self)
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
            raise UsageError(
                f"{named('timeout')} must be more than 0 seconds, not {self.timeout:g}"
            )
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
                f"{named('io_dtype')} {self.io_dtype} needs a model with {wide} activations",
                why=f"{named('quantize')} is {self.quantize}",
                hint=f"add {named('quantize', wide)}, or leave {named('io_dtype')} at float32",
            )
        for name in ("keep_float", "keep_int16", "recipe"):
            if getattr(self, name) and self.quantize == "none":
                raise UsageError(
                    f"{named(name)} needs a model that is quantized",
                    why=f"{named('quantize')} is none",
                    hint=f"add {named('quantize')}, which says what becomes of all the other "
                    "operators",
                )
        if self.max_drop is not None:
            MaxDrop.parse(self.max_drop)
            if self.quantize != "int8":
                raise UsageError(
                    f"{named('max_drop')} needs {named('quantize', 'int8')}",
                    why=f"{named('quantize')} is {self.quantize}",
                )

    def _check_ranges(self) -> None:
        for text in self.input_range:
            parse_range(text)
        if self.input_range and self.quantize not in CALIBRATED_MODES:
            raise UsageError(
                f"{named('input_range')} needs a model with integer activations",
                why=f"{named('quantize')} is {self.quantize}",
                hint=f"add {named('quantize', 'int8')}",
            )

    def settled(self) -> ConvertOptions:
        """Return the options with what is left to others at what it is by itself."""
        return replace(self, io_dtype=self.io_dtype or "float32")

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's form."""
        own = {} if self.target_options is None else self.target_options.to_dict()
        data = {spec.name: getattr(self, spec.name) for spec in specs(ConvertOptions)}
        data["gates"] = {stage: dict(gate) for stage, gate in self.gates.items()}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in (data | own).items()
        }

    def of(self, kind: type[Own]) -> Own:
        """Return the options that a target added; the defaults where nothing is said."""
        return self.target_options if isinstance(self.target_options, kind) else kind()


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
            f"{named('memory_limit')} {text} is {'too low' if match else 'not understood'}",
            hint=f"write it as {named('memory_limit', '4GB')}; the least is "
            f"{_LEAST_MEMORY >> 20}MB",
        )
    return size


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UsageError(f"{named(name)} must be at least {least}, not {value}")


ConvertOptions.__doc__ = f"{ConvertOptions.__doc__}\n\n{described(ConvertOptions)}"
