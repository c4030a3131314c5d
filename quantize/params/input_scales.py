"""Choose the scale of an input by what its source can hold, not by what a few samples do.

A camera gives bytes. An image input in 0..1 whose scale is 1/255 takes them as they are; with any
other scale everything that feeds bytes is too bright or too dark, and no comparison that quantizes
its own inputs can see it. Calibration must neither widen such an input nor cut it: 255 may come.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeconv.core.amounts import parse_range
from edgeconv.core.artifacts import Array, TensorSpec
from edgeconv.core.errors import UsageError
from edgeconv.core.roles import channel_axis
from edgeconv.core.wording import named
from edgeconv.quantize.params.qparams import INT8_MAX, INT8_MIN, QuantParams, Range
from edgeconv.quantize.rules.table import RULES, Scaling
from edgeconv.samples.byte_grid import (
    LAST,
    SIGNED,
    UNIT,
    WHOLE,
    Grid,
    channel_grids,
    find,
    normalised,
)
from edgeconv.samples.images import Normalisation
from edgeconv.tflite.graph import Graph

_NEAR = 0.02
"""An image whose extremes are no farther from the ends than that share, means these ends."""

_BYTE_STEPS = 128
"""In 16 bits a byte has so many steps, so that each byte is a stored value."""

_HALFWAY = 0.05
"""Bytes that lie so near the middle of two integers, in steps, may be rounded to either."""

_PCM = (32768.0, 32767.0)
"""What 16 bit audio is divided by."""

_HEARD = 32
"""So many different values of audio on its grid are no chance."""

_PLACES = 4


_STATED = "as --input-range says"


@dataclass(frozen=True, slots=True)
class InputScale:
    """What an input can hold.

    Attributes:
        low: The lowest real number.
        high: The highest.
        why: How that is known, for the manifest.
        held: Whether the scale has to be that of this range; otherwise it is a limit only.
        bytes: Whether the samples are 256 values evenly spread over the range.
    """

    low: float
    high: float
    why: str
    held: bool = True
    bytes: bool = False

    @property
    def range(self) -> Range:
        """The range, zero included."""
        return Range.of(self.low, self.high)

    def affine(self, bits: int, *, real: bool = False) -> QuantParams:
        """Return the scale and zero point.

        Args:
            bits: 8 or 16, of the activations.
            real: Whether the input is float32 and quantized on its way in. Then bytes must not
                lie halfway between two integers, which would be rounded this way and that.
        """
        if bits == 16 and self.low == 0.0 and self.high > 0:
            return QuantParams(float(np.float32(self.high / (LAST * _BYTE_STEPS))), 0, 16)
        found = QuantParams.of(self.range, bits)
        if bits == 16 or not self.bytes:
            return found
        zero = self._zero
        if real and abs(zero % 1 - 0.5) < _HALFWAY:
            step = (self.high - self.low) / (LAST - 1)
            return QuantParams(float(np.float32(step)), round(INT8_MIN + 0.5 - self.low / step))
        # Halves go down: stored bytes are those of the source then, and not the ones after.
        return QuantParams(found.scale, min(max(math.ceil(zero - 0.5 - 1e-6), INT8_MIN), INT8_MAX))

    @property
    def _zero(self) -> float:
        """Where zero lies among the int8 numbers of the bytes."""
        return INT8_MIN - self.low * LAST / (self.high - self.low)

    def shift(self, *, real: bool) -> float:
        """Return by how much int8 stands for more than the bytes were; see `centre`."""
        found = self.affine(8, real=real)
        if not self.bytes or not np.isclose(found.scale * LAST, self.high - self.low, 1e-4):
            return 0.0
        shift = (self._zero - found.zero_point) * found.scale
        return shift if abs(shift) > 1e-3 * found.scale else 0.0

    @property
    def stated(self) -> bool:
        """Whether the user says so."""
        return self.why == _STATED

    def note(self, name: str) -> str:
        """Return what reports say of it."""
        ends = f"{_text(self.low)} to {_text(self.high)}"
        if self.held:
            return f"input {name} has the range {ends}, whatever calibration saw: {self.why}"
        return f"the range of input {name} stays within {ends}: {self.why}"

    def to_dict(self) -> dict[str, Any]:
        """Return the form that goes to workers and into the manifest."""
        return asdict(self)


def stated_ranges(
    texts: Sequence[str], specs: Sequence[TensorSpec]
) -> dict[str, tuple[float, float]]:
    """Return what ``--input-range`` says, by input name.

    Args:
        texts: ``LO,HI``, for the only float input or for all that have the shape of an image, or
            ``NAME=LO,HI``.
        specs: The inputs.

    Raises:
        UsageError: There is no such input, it holds integers, or it is not clear which is meant.
    """
    reals = {spec.name: spec for spec in specs if np.dtype(spec.dtype).kind == "f"}
    images = [name for name, spec in reals.items() if channel_axis(spec.source_shape) is not None]
    found: dict[str, tuple[float, float]] = {}
    for name, low, high in map(parse_range, texts):
        meant = [name] if name else (list(reals) if len(reals) == 1 else images)
        if not meant or (name and name not in reals):
            raise UsageError(
                f"{named('input_range')} {name or f'{low:g},{high:g}'} fits no input",
                why=f"the inputs of real numbers are {', '.join(reals) or 'none'}",
                hint=f"name one of them: {named('input_range')} NAME=LO,HI",
            )
        found |= dict.fromkeys(meant, (low, high))
    return found


Held = Sequence[InputScale | None]
"""What a graph's inputs can hold, in order, as far as it is known."""


def quant_params_of(
    graph: Graph,
    held: Held,
    bits: Mapping[int, int],
    origin: Mapping[int, int] | None = None,
    *,
    real: bool = True,
) -> dict[int, QuantParams]:
    """Return the scale and zero point of the inputs that are held, and of copies of them.

    Args:
        graph: The graph.
        held: What its inputs can hold.
        bits: 8 or 16 for each float activation that becomes an integer one.
        origin: For each copy in another precision, the tensor that it repeats.
        real: Whether the inputs are float32.
    """
    known = {
        index: scale
        for index, scale in zip(graph.inputs, held, strict=False)
        if scale is not None and scale.held
    }
    sources = {index: (origin or {}).get(index, index) for index in bits}
    found = {
        index: known[source].affine(bits[index], real=real)
        for index, source in sources.items()
        if source in known
    }
    return _joined(graph, found, bits) if found else found


def _joined(
    graph: Graph, known: Mapping[int, QuantParams], bits: Mapping[int, int]
) -> dict[int, QuantParams]:
    """Return scales with those of inputs that are moved, and framed with constants."""
    found = dict(known)
    for operator in graph.operators:
        rule = RULES.get(graph.op(operator))
        output = operator.outputs[0] if operator.outputs else -1
        sources = [index for index in operator.inputs if graph.is_float(index)]
        scales = {found[index] for index in sources if index in found}
        if len(scales) != 1 or rule is None or bits.get(output) != next(iter(scales)).bits:
            continue
        (scale,) = scales
        framed = graph.op(operator) == "CONCATENATION" and all(
            index in found or _within(graph, index, scale.limits) for index in sources
        )
        if framed or (rule.scaling is Scaling.SAME and sources[0] in found and len(sources) == 1):
            found |= {index: scale for index in operator.outputs if index in bits}
    return found


def _within(graph: Graph, index: int, limits: Range) -> bool:
    """Tell whether a tensor is a constant within a range."""
    if not graph.is_constant(index):
        return False
    value = graph.value(index)
    return bool(value.min(initial=0) >= limits.low and value.max(initial=0) <= limits.high)


def limit(graph: Graph, held: Held, ranges: Mapping[int, Range]) -> dict[int, Range]:
    """Return ranges in which those of inputs go no farther than what these can hold."""
    found = dict(ranges)
    for index, scale in zip(graph.inputs, held, strict=False):
        if scale is not None and index in found:
            found[index] = found[index].meet(scale.range)
    return found


def input_scales(
    specs: Sequence[TensorSpec],
    arrays: Mapping[str, Array],
    stated: Mapping[str, tuple[float, float]] | None = None,
    normalisation: Normalisation | None = None,
) -> dict[str, InputScale]:
    """Return what inputs can hold, by name, as far as it is known.

    Args:
        specs: The inputs.
        arrays: Samples by input name, ``[sample, *input shape]`` in the source model's layout.
        stated: Ranges that the user states, by name.
        normalisation: How images were normalised, where the user says so.
    """
    found: dict[str, InputScale] = {}
    for spec in specs:
        array = arrays[spec.name]
        if spec.name in (stated or {}):
            low, high = (stated or {})[spec.name]
            scale: InputScale | None = InputScale(
                low, high, _STATED, bytes=Grid(low, high).holds(array)
            )
        elif array.dtype.kind != "f" or not array.size or not np.isfinite(array).all():
            scale = None
        else:
            scale = _of_samples(array, channel_axis(spec.source_shape), normalisation)
        if scale is not None:
            found[spec.name] = scale
    return found


def _of_samples(
    array: Array, axis: int | None, normalisation: Normalisation | None
) -> InputScale | None:
    """Return what an input can hold, by its samples ``[sample, ...]``.

    Args:
        array: The samples.
        axis: Axis of the channels in the input's shape; ``None`` for no image.
        normalisation: That of images.
    """
    if axis is None:
        grid = find(array, image=False, known=(normalised(0.5, 0.5), normalised(0.5, 128 / 255)))
        return _limited(array) if grid is None else _on(grid)
    channels = [np.take(array, place, axis=axis + 1) for place in range(array.shape[axis + 1])]
    if normalisation is not None and (normalisation.mean or normalisation.std):
        return _normalised(normalisation, channels)
    grids = channel_grids(channels)
    known = [grid for grid in grids if grid is not None]
    varied = [channel.min() != channel.max() for channel in channels]
    if not known or any(grid is None and some for grid, some in zip(grids, varied, strict=True)):
        return _nearly(array)
    return _on(known[0]) if all(map(known[0].same, known)) else _around(known, "samples")


def _on(grid: Grid) -> InputScale:
    """Return the scale of one grid for all channels."""
    if grid == UNIT:
        why = "all samples are whole multiples of 1/255"
    elif grid == WHOLE:
        why = "all samples are whole numbers from 0 to 255"
    else:
        std = 1 / (LAST * grid.step)
        why = f"all samples are (x/255 - {_text(-grid.low * std)}) / {_text(std)} of bytes x"
        if not grid.anchored:
            why += ", of which 0 and 255 do not occur: --input-range states what they are"
    return InputScale(grid.low, grid.high, why, bytes=True)


def _around(grids: Sequence[Grid], source: str) -> InputScale:
    """Return the scale that holds the grids of all channels."""
    low, high = min(grid.low for grid in grids), max(grid.high for grid in grids)
    why = f"by the {source} each channel has bytes normalised in its own way, and no byte goes "
    return InputScale(low, high, f"{why}beyond; --preprocess fold makes a model that takes bytes")


def _normalised(normalisation: Normalisation, channels: Sequence[Array]) -> InputScale | None:
    """Return the scale of images that were normalised as the user says."""
    count = len(channels)
    means, stds = normalisation.mean or (0.0,), normalisation.std or (1.0,)
    if {len(means), len(stds)} - {1, count}:
        return None
    grids = [
        normalised(means[place % len(means)], stds[place % len(stds)]) for place in range(count)
    ]
    for grid, channel in zip(grids, channels, strict=True):
        slack = grid.step / 2
        if channel.min() < grid.low - slack or channel.max() > grid.high + slack:
            return None
    if all(map(grids[0].same, grids)):
        why = "that is what 0 to 1 becomes by --image-mean and --image-std"
        on_it = grids[0].holds(np.stack(channels))
        return InputScale(grids[0].low, grids[0].high, why, bytes=on_it)
    return _around(grids, "mean and standard deviation")


def _nearly(array: Array) -> InputScale | None:
    """Return the scale of an image off any grid, resized in float perhaps, that fills a range."""
    low, high = float(array.min()), float(array.max())
    for grid in (UNIT, SIGNED, WHOLE):
        near, slack = _NEAR * (grid.high - grid.low), 1e-5 * (grid.high - grid.low)
        inside = low >= grid.low - slack and high <= grid.high + slack
        if inside and low <= grid.low + near and high >= grid.high - near:
            ends = f"{_text(grid.low)} to {_text(grid.high)}"
            return InputScale(grid.low, grid.high, f"the samples look like images that fill {ends}")
    return None


def _limited(array: Array) -> InputScale | None:
    """Return the limit of 16 bit audio."""
    flat = array.reshape(-1)
    some = np.unique(flat[:: max(1, flat.size // 65536)]).astype(np.float64)
    if some.size < _HEARD or np.abs(flat).max() > 1:
        return None
    for full in _PCM:
        if np.abs(some * full - np.rint(some * full)).max() <= 2e-3:
            why = f"all samples are whole multiples of 1/{full:.0f}, as in 16 bit audio"
            return InputScale(-1.0, 1.0, why, held=False)
    return None


def _text(value: float) -> str:
    return f"{round(value, _PLACES):g}"
