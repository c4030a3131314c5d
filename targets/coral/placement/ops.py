"""Which operators the Edge TPU runs: one table, and one small check for each kind of limit.

Sources: the operation table of Coral's "TensorFlow models on the Edge TPU" for compiler 16 and
runtime 14, and what that compiler did with real models where it differs (TILE maps, a softmax over
16,384 elements does, a resize beyond a factor of two does not).

To add an operator, add its row to `RULES`; to say what to do about one that is not supported, add a
row to `REWRITES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeconv.tflite.view import EIGHT_BIT, Op, Tensor

NONE, RELU, RELU_N1_TO_1, RELU6 = 0, 1, 2, 3
"""The schema's fused activations that the hardware has."""

OLDEST_RUNTIME, NEWEST_RUNTIME = 10, 14
"""Runtimes that the compiler knows."""

LARGEST_SOFTMAX = 16_384
LARGEST_RESIZE = 2

_LIMITED = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
_DATA_TYPE = "Operation is working on an unsupported data type"
_UNSUPPORTED = "Operation not supported"
_RANK = "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
_NOT_CONSTANT = "Filter, bias, or other param is not constant at compile-time"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an operator does not map.

    Attributes:
        status: What the compiler's log says of it.
        why: What it is about this operator.
        advice: The rewrite or change that would map it.
    """

    status: str
    why: str
    advice: str


Check = Callable[[Op], Refusal | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """What an operator must be like to map.

    Attributes:
        checks: Run in order; the first refusal counts.
        constants: Input slots that must be stored in the model where they are used.
        min_runtime: Oldest runtime that has the operator.
    """

    checks: tuple[Check, ...] = ()
    constants: tuple[int, ...] = ()
    min_runtime: int = 10


def refusal(op: Op, runtime: int = NEWEST_RUNTIME) -> Refusal | None:
    """Return why the Edge TPU does not run an operator, or ``None`` where it does.

    Args:
        op: The operator.
        runtime: The oldest runtime that the model is compiled for.
    """
    rule = RULES.get(op.name)
    if rule is None:
        return _unknown(op)
    if rule.min_runtime > runtime:
        why = f"it needs runtime {rule.min_runtime}, and the model is compiled for {runtime}"
        return Refusal(_UNSUPPORTED, why, "compile for a newer runtime, and update the device")
    for check in (_eight_bit, _rank, *rule.checks):
        found = check(op)
        if found is not None:
            return found
    return _constant(op, rule.constants)


def _unknown(op: Op) -> Refusal:
    advice = REWRITES.get(op.name, "cut the model before it, or rewrite it with operators that map")
    if op.name in _FLOAT_SIDE:
        return Refusal(_DATA_TYPE, f"{op.name} has a side that is not 8 bit", advice)
    return Refusal(_UNSUPPORTED, f"the Edge TPU has no {op.name}", advice)


def _eight_bit(op: Op) -> Refusal | None:
    wrong = next((t for t in op.activations if t.dtype not in EIGHT_BIT), None)
    if wrong is None:
        return None
    if op.name == "QUANTIZE":
        return Refusal(
            _LIMITED,
            f"it quantizes {op.activations[0].dtype}",
            "at an input: --io-dtype int8; inside, change the operator in float before it",
        )
    return Refusal(
        _DATA_TYPE,
        f"{wrong.name} is {wrong.dtype}",
        "quantize the whole model, inputs and outputs included: --quantize int8 --io-dtype int8",
    )


def _rank(op: Op) -> Refusal | None:
    for tensor in op.activations:
        if any(size > 1 for size in tensor.shape[:-3]):
            return Refusal(
                _RANK,
                f"{tensor.name} is {list(tensor.shape)}",
                "use a batch of 1 and at most three dimensions beside it",
            )
    return None


def _constant(op: Op, slots: tuple[int, ...]) -> Refusal | None:
    for slot in slots:
        tensor = op.input(slot)
        if tensor is not None and not tensor.constant:
            return Refusal(
                _NOT_CONSTANT,
                f"{tensor.name} is computed",
                "store it in the model; a product of two activations does not map",
            )
    return None


def _activation(*allowed: int) -> Check:
    def check(op: Op) -> Refusal | None:
        if op.option("fusedActivationFunction") in allowed:
            return None
        return Refusal(
            _LIMITED, "its fused activation is not supported", "write the activation separately"
        )

    return check


def _dilation(op: Op) -> Refusal | None:
    wide, high = op.option("dilationWFactor", 1), op.option("dilationHFactor", 1)
    if wide == high:
        return None
    return Refusal(_LIMITED, f"it dilates by {high} x {wide}", "dilate both axes alike")


def _one_row(op: Op) -> Refusal | None:
    shape = op.outputs[0].shape
    if op.outputs[0].elements == (shape[-1] if shape else 1):
        return None
    return Refusal(
        _RANK,
        f"its output {list(shape)} has more than one row",
        "a Linear over rows: reshape to [1, 1, rows, features] and use a 1x1 convolution; "
        "otherwise flatten to [1, N]",
    )


def _weights_format(op: Op) -> Refusal | None:
    if op.option("weightsFormat") == 0:
        return None
    return Refusal(_LIMITED, "its weights are shuffled", "store them in the default format")


def _softmax_size(op: Op) -> Refusal | None:
    if op.outputs[0].elements <= LARGEST_SOFTMAX:
        return None
    why = f"{op.outputs[0].elements} elements, at most {LARGEST_SOFTMAX}"
    return Refusal(_LIMITED, why, "do the softmax on the CPU, after the model")


def _zero_constants(op: Op) -> Refusal | None:
    constants = [tensor for tensor in op.inputs if tensor and tensor.constant]
    if not constants:
        return None
    zero = all(not (t.value.any() if t.value is not None else True) for t in constants)
    if len(op.inputs) == 2 and zero:
        return None
    return Refusal(
        _LIMITED,
        "it concatenates a constant",
        "a constant may be concatenated to one input only, and only zeros; pad instead",
    )


def _axes(op: Op) -> list[int] | None:
    """Return the axes of the second input, counted from the front; ``None`` if computed."""
    data, axes = op.input(0), op.input(1)
    if data is None or axes is None or axes.value is None:
        return None
    return [int(axis) % max(len(data.shape), 1) for axis in axes.value.reshape(-1)]


def _not_batch_axis(op: Op) -> Refusal | None:
    data, axes = op.input(0), _axes(op)
    if axes is None or data is None or len(data.shape) < 4 or 0 not in axes:
        return None
    return Refusal(_LIMITED, "it reduces the batch", "reduce the other axes only")


def _depth_of_four(op: Op) -> Refusal | None:
    data, axes = op.input(0), _axes(op)
    if axes is None or data is None or not data.shape:
        return None
    depth = data.shape[-1]
    if len(data.shape) - 1 not in axes or depth % 4 == 0:
        return None
    return Refusal(_LIMITED, f"it averages {depth} channels", "use a multiple of 4 channels")


def _not_along_batch(option: str) -> Check:
    def check(op: Op) -> Refusal | None:
        rank = len(op.outputs[0].shape)
        if rank < 4 or int(op.option(option)) % rank != 0:
            return None
        return Refusal(_LIMITED, "it works along the batch", "work along another axis")

    return check


def _split_axis(op: Op) -> Refusal | None:
    axis, data = op.input(0), op.input(1)
    if axis is None or axis.value is None or data is None or len(data.shape) < 4:
        return None
    if int(axis.value.reshape(-1)[0]) % len(data.shape):
        return None
    return Refusal(_LIMITED, "it splits the batch", "split another axis")


def _batch_padding(op: Op) -> Refusal | None:
    pads, data = op.input(1), op.input(0)
    if pads is None or pads.value is None or data is None or len(data.shape) < 4:
        return None
    if not pads.value.reshape(-1, 2)[0].any():
        return None
    return Refusal(_LIMITED, "it pads the batch", "pad the other axes only")


def _batch_tiling(op: Op) -> Refusal | None:
    times, data = op.input(1), op.input(0)
    if times is None or times.value is None or data is None or len(data.shape) < 4:
        return None
    if int(times.value.reshape(-1)[0]) == 1:
        return None
    return Refusal(_LIMITED, "it repeats the batch", "repeat other axes only")


def _alpha(op: Op) -> Refusal | None:
    alpha = op.input(1)
    if alpha is None or all(size == 1 for size in alpha.shape[:-1]):
        return None
    return Refusal(_LIMITED, "its alpha is not one number per channel", "share it over the image")


def _resize_factor(op: Op) -> Refusal | None:
    data, result = op.input(0), op.outputs[0]
    if data is None or len(data.shape) != 4:
        return None
    pairs = zip(data.shape[1:3], result.shape[1:3], strict=True)
    if all(after <= LARGEST_RESIZE * before for before, after in pairs):
        return None
    before, after = data.shape[1:3], result.shape[1:3]
    advice = "enlarge in steps of two, or after the model"
    if before == (1, 1):
        advice = "from one pixel, repeat it with TILE instead"
    return Refusal(_LIMITED, f"it enlarges {before} to {after}", advice)


def _squeezed(op: Op) -> Refusal | None:
    data = op.input(0)
    if data is None or _stripped(data) == _stripped(op.outputs[0]):
        return None
    return Refusal(
        _LIMITED,
        f"{list(data.shape)} to {list(op.outputs[0].shape)} removes an inner dimension",
        "squeeze leading dimensions only",
    )


def _stripped(tensor: Tensor) -> tuple[int, ...]:
    shape = list(tensor.shape)
    while shape and shape[0] == 1:
        shape.pop(0)
    return tuple(shape)


def _plain_slice(op: Op) -> Refusal | None:
    strides = op.input(3)
    plain = not op.option("ellipsisMask") and not op.option("newAxisMask")
    if strides is not None and strides.value is not None:
        plain = plain and bool((strides.value == 1).all())
    if plain:
        return None
    return Refusal(
        _LIMITED,
        "it has strides other than 1, an ellipsis or a new axis",
        "slice with stride 1; a stride of two is a 1x1 convolution or pool with stride 2",
    )


def _keeps_channels(op: Op) -> Refusal | None:
    data, order = op.input(0), op.input(1)
    if data is None or order is None or order.value is None:
        return None
    moved = [int(axis) for axis in order.value.reshape(-1) if data.shape[int(axis)] > 1]
    if not moved or moved == sorted(moved) or moved[-1] == max(moved):
        return None
    return Refusal(
        _LIMITED,
        f"it moves the channels of {list(data.shape)}",
        "keep images channels last: --io-layout nhwc",
    )


_CONV = (_dilation, _activation(NONE, RELU, RELU_N1_TO_1, RELU6))
_POOL = (_activation(NONE),)
_WEIGHTS = (1, 2)

RULES: dict[str, Rule] = {
    "ADD": Rule(),
    "AVERAGE_POOL_2D": Rule(_POOL),
    "CONCATENATION": Rule((_activation(NONE), _not_along_batch("axis"), _zero_constants)),
    "CONV_2D": Rule(_CONV, constants=_WEIGHTS),
    "DEPTHWISE_CONV_2D": Rule(_CONV, constants=_WEIGHTS),
    "EXPAND_DIMS": Rule(constants=(1,), min_runtime=13),
    "FULLY_CONNECTED": Rule((_weights_format, _one_row), constants=_WEIGHTS),
    "L2_NORMALIZATION": Rule(),
    "LOGISTIC": Rule(),
    "MAXIMUM": Rule(),
    "MAX_POOL_2D": Rule(_POOL),
    "MEAN": Rule((_not_batch_axis, _depth_of_four), constants=(1,)),
    "MINIMUM": Rule(),
    "MUL": Rule(),
    "PACK": Rule((_not_along_batch("axis"),), min_runtime=13),
    "PAD": Rule((_batch_padding,), constants=(1,)),
    "PRELU": Rule((_alpha,), constants=(1,), min_runtime=13),
    "QUANTIZE": Rule(min_runtime=13),
    "REDUCE_MAX": Rule((_not_batch_axis,), constants=(1,), min_runtime=14),
    "REDUCE_MIN": Rule((_not_batch_axis,), constants=(1,), min_runtime=14),
    "RELU": Rule(),
    "RELU6": Rule(),
    "RELU_N1_TO_1": Rule(),
    "RESHAPE": Rule(constants=(1,)),
    "RESIZE_BILINEAR": Rule((_resize_factor,), constants=(1,)),
    "RESIZE_NEAREST_NEIGHBOR": Rule((_resize_factor,), constants=(1,)),
    "RSQRT": Rule(min_runtime=14),
    "SLICE": Rule(constants=(1, 2)),
    "SOFTMAX": Rule((_one_row, _softmax_size)),
    "SPACE_TO_DEPTH": Rule(),
    "SPLIT": Rule((_split_axis,), constants=(0,)),
    "SQUARED_DIFFERENCE": Rule(min_runtime=14),
    "SQUEEZE": Rule((_squeezed,)),
    "STRIDED_SLICE": Rule((_plain_slice,), constants=(1, 2, 3)),
    "SUB": Rule(),
    "SUM": Rule((_not_batch_axis,), constants=(1,), min_runtime=13),
    "TANH": Rule(),
    "TILE": Rule((_batch_tiling,), constants=(1,)),
    "TRANSPOSE": Rule((_keeps_channels,), constants=(1,), min_runtime=14),
    "TRANSPOSE_CONV": Rule((_activation(NONE),), constants=(0, 1, 3), min_runtime=13),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Rule(min_runtime=12),
}
"""Every operator that the Edge TPU runs, with its limits."""

_FLOAT_SIDE = ("DEQUANTIZE", "CAST")
_TAIL = "cut the model before it and do it on the CPU: --cut"
_LEGALISED = "convert with --target coral, which rewrites it"

REWRITES: dict[str, str] = {
    "ARG_MAX": _TAIL,
    "ARG_MIN": _TAIL,
    "BATCH_MATMUL": f"{_LEGALISED} where one factor is constant; of two activations it never maps",
    "CAST": "give the model 8 bit inputs and outputs: --io-dtype int8",
    "DEPTH_TO_SPACE": _LEGALISED,
    "DEQUANTIZE": "at an output: --io-dtype int8; inside, change the operator in float behind it",
    "ELU": _LEGALISED,
    "GATHER": f"{_LEGALISED} where it shuffles channels",
    "GATHER_ND": "drop it where it picks everything in order; else slice and concatenate",
    "GELU": f"{_LEGALISED} with --allow-approximate",
    "HARD_SWISH": _LEGALISED,
    "LEAKY_RELU": _LEGALISED,
    "MIRROR_PAD": _LEGALISED,
    "NEG": "multiply by -1",
    "PADV2": f"{_LEGALISED}; a padding of zero is PAD",
    "SQRT": "cut the model before it: x * RSQRT(x) maps, but 8 bits do not hold its range",
    "TOPK_V2": _TAIL,
    "TFLite_Detection_PostProcess": _TAIL,
    "UNPACK": "slice instead",
}
"""What would map instead of an operator that is not supported."""
