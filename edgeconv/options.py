"""The options of a conversion, as one validated value shared by the CLI and the Python API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from edgeconv.errors import UsageError

QuantizeMode = Literal["none", "fp16", "dynamic", "int8"]
IoDtype = Literal["float32", "int8", "uint8"]
IoLayout = Literal["nhwc", "nchw"]
CalibratorName = Literal["minmax", "mse"]
TargetName = Literal["cpu"]


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """Options of `edgeconv.convert` and of ``edgeconv torch2tflite``.

    Attributes:
        quantize: ``none``, ``fp16`` (weights), ``dynamic`` (int8 weights), ``int8`` (everything).
        io_dtype: dtype of the quantized model's inputs and outputs; ``int8`` mode only.
        io_layout: ``nhwc`` stores image inputs and outputs channels last; ``nchw`` keeps them.
        calibration_samples: Largest number of calibration samples used; ``None`` for all.
        calibrator: How a tensor's range is chosen from what calibration saw.
        target: What the model is converted for.
        verify: Check parity after every stage.
        parity_samples: Largest number of samples that parity is measured on.
        gates: Overrides of the default gates, ``{"tflite_int8": {"sqnr_db": 20.0}}``.
        seed: Seed of generated inputs.
        timeout: Seconds that one call into a native runtime may take.
    """

    quantize: QuantizeMode = "none"
    io_dtype: IoDtype = "float32"
    io_layout: IoLayout = "nhwc"
    calibration_samples: int | None = None
    calibrator: CalibratorName = "minmax"
    target: TargetName = "cpu"
    verify: bool = True
    parity_samples: int = 16
    gates: dict[str, dict[str, float]] = field(default_factory=dict)
    seed: int = 0
    timeout: float = 1800.0

    def __post_init__(self) -> None:
        _require("quantize", self.quantize, get_args(QuantizeMode))
        _require("io_dtype", self.io_dtype, get_args(IoDtype))
        _require("io_layout", self.io_layout, get_args(IoLayout))
        _require("calibrator", self.calibrator, get_args(CalibratorName))
        _require("target", self.target, get_args(TargetName))
        if self.io_dtype != "float32" and self.quantize != "int8":
            raise UsageError(
                f"--io-dtype {self.io_dtype} needs an integer model",
                why=f"--quantize is {self.quantize}",
                hint="add --quantize int8, or leave --io-dtype at float32",
            )
        for name in ("calibration_samples", "parity_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} must be at least 1, not {value}")


def _require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(
            f"--{name.replace('_', '-')} {value} is not known",
            hint="use one of " + ", ".join(allowed),
        )
