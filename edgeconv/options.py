"""The options of a conversion, as one validated value shared by the CLI and the Python API."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from edgeconv.errors import UsageError
from edgeconv.gates import check_gate

QuantizeMode = Literal["none", "fp16", "dynamic", "int8"]
IoDtype = Literal["float32", "int8", "uint8"]
IoLayout = Literal["nhwc", "nchw"]
CalibratorName = Literal["minmax", "mse"]
ConverterName = Literal["native"]


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """Options of `edgeconv.convert` and of ``edgeconv torch2tflite``.

    Attributes:
        quantize: ``none``, ``fp16`` (weights), ``dynamic`` (int8 weights), ``int8`` (everything).
        io_dtype: dtype of the quantized model's inputs and outputs; ``int8`` mode only.
        io_layout: ``nhwc`` stores image inputs and outputs channels last; ``nchw`` keeps them.
        calibration_samples: Largest number of calibration samples used.
        calibrator: How a tensor's range is chosen from what calibration saw.
        target: What the model is converted for; a name of `edgeconv.targets.TARGETS`.
        allow_approximate: Whether a target may replace operators that it lacks by close ones.
        converter: What turns ONNX into a SavedModel; ``native`` is edgeconv's own translator.
        verify: Check parity after every stage.
        parity_samples: Largest number of samples that parity is measured on.
        gates: Overrides of the default gates, ``{"tflite_int8": {"sqnr_db": 20.0}}``; the stage
            ``all`` stands for every stage.
        seed: Seed of generated inputs.
        timeout: Seconds that one call into a native runtime may take.
    """

    quantize: QuantizeMode = "none"
    io_dtype: IoDtype = "float32"
    io_layout: IoLayout = "nhwc"
    calibration_samples: int = 200
    calibrator: CalibratorName = "minmax"
    target: str = "cpu"
    allow_approximate: bool = False
    converter: ConverterName = "native"
    verify: bool = True
    parity_samples: int = 16
    gates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seed: int = 0
    timeout: float = 1800.0

    def __post_init__(self) -> None:
        _require("quantize", self.quantize, get_args(QuantizeMode))
        _require("io_dtype", self.io_dtype, get_args(IoDtype))
        _require("io_layout", self.io_layout, get_args(IoLayout))
        _require("calibrator", self.calibrator, get_args(CalibratorName))
        _require("converter", self.converter, get_args(ConverterName))
        if self.io_dtype != "float32" and self.quantize != "int8":
            raise UsageError(
                f"--io-dtype {self.io_dtype} needs an integer model",
                why=f"--quantize is {self.quantize}",
                hint="add --quantize int8, or leave --io-dtype at float32",
            )
        for name in ("calibration_samples", "parity_samples"):
            _at_least(name, getattr(self, name), 1)
        _at_least("seed", self.seed, 0)
        if not (self.timeout > 0 and math.isfinite(self.timeout)):
            raise UsageError(f"--timeout must be more than 0 seconds, not {self.timeout:g}")
        for stage, gate in self.gates.items():
            for metric, limit in gate.items():
                check_gate(stage, metric, limit)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's form."""
        return asdict(self)


def _require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{_option(name)} {value} is not known", hint=_one_of(allowed))


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UsageError(f"{_option(name)} must be at least {least}, not {value}")


def _one_of(allowed: tuple[str, ...]) -> str:
    return "use one of " + ", ".join(allowed)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
