"""Recurrent layers, written out step by step: shapes are static.

Source of the semantics: ONNX operator spec, LSTM, GRU and RNN. The inputs of all steps are
projected in one product; a step multiplies the state only. A batch-first sequence stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from edgeconv.convert.ops.recurrent_cells import (
    Activation,
    Gates,
    gru_step,
    lstm_step,
    rnn_step,
    take_activations,
    times,
)
from edgeconv.convert.translate.context import Context
from edgeconv.convert.translate.registry import Unsupported, op
from edgeconv.convert.translate.value import Tensor, Value, arranged, reshaped, shape_of
from edgeconv.convert.translate.view import DYNAMIC, product
from edgeconv.core.wording import named

State = tuple[Tensor | None, ...]
Step = Callable[[Sequence[Tensor], State], State]


@dataclass(frozen=True, slots=True)
class Layer:
    """What the three operators share.

    Attributes:
        x: The sequence [T, B, I] as ONNX sees it, whatever ``layout`` was.
        lens: Lengths of the sequences [B], or None.
        direction: ONNX's name of it.
        layout: 1 where ONNX wants the batch first.
        hidden: Size of the state.
    """

    x: Value
    lens: Value | None
    direction: str
    layout: int
    hidden: int

    @classmethod
    def of(cls, x: Value, r: Value, lens: Value | None, direction: str, layout: int) -> Layer:
        """Check and collect.

        Raises:
            Unsupported: The number of steps is known at run time only.
        """
        sequence = x.transpose((1, 0, 2)) if layout else x
        if sequence.shape[0] == DYNAMIC:
            raise Unsupported(
                "a number of steps known at run time only", f"give {named('input_shapes')}"
            )
        fixed = None if lens is None else lens.constant
        if fixed is not None and np.all(fixed == sequence.shape[0]):
            lens = None
        return cls(sequence, lens, direction, layout, r.shape[2])

    @property
    def backwards(self) -> tuple[bool, ...]:
        """For each direction of the layer, whether it runs from the end."""
        return {"forward": (False,), "reverse": (True,)}.get(self.direction, (False, True))

    @property
    def time_axis(self) -> int:
        """Axis of the steps in the sequence as it is stored."""
        stored_time_first = self.x.view.is_stored_as((0, 1, 2))
        return 0 if stored_time_first or not self.x.view.is_stored_as((1, 0, 2)) else 1

    def initial(self, states: Sequence[Value | None], number: int) -> State:
        """Return the initial states of one direction."""
        order = (1, 0, 2) if self.layout else (0, 1, 2)
        return tuple(
            None if state is None else arranged(state.transpose(order), (0, 1, 2))[number]
            for state in states
        )

    def projected(self, weights: Tensor, bias: Tensor | None, sizes: Sequence[int]) -> list[Tensor]:
        """Project the inputs of all steps; the result is split into groups of gates."""
        order = (1, 0, 2) if self.time_axis else (0, 1, 2)
        lead = tuple(self.x.shape[axis] for axis in order[:2])
        rows = arranged(self.x, order, (product(lead), self.x.shape[2]))
        y = times(rows, weights, bias)
        parts = [y] if len(sizes) == 1 else tf.split(y, list(sizes), axis=1)
        return [reshaped(part, (*lead, part.shape[1])) for part in parts]

    def unrolled(
        self, projections: Sequence[Tensor], state: State, step: Step, *, backwards: bool
    ) -> tuple[list[Tensor], State]:
        """Run all steps; return the outputs by time, and the last state."""
        count = self.x.shape[0]
        inputs = [tf.unstack(part, axis=self.time_axis) for part in projections]
        masks = self._masks()
        outputs: list[Tensor] = [None] * count
        for time in range(count)[:: -1 if backwards else 1]:
            new = step([part[time] for part in inputs], state)
            outputs[time] = new[0]
            if masks is not None:
                mask = masks[:, time : time + 1]
                zero = np.zeros((1, self.hidden), np.float32)
                outputs[time] = tf.where(mask, new[0], zero)
                new = tuple(
                    tf.where(mask, now, zero if before is None else before)
                    for now, before in zip(new, state, strict=True)
                )
            state = new
        return outputs, state

    def _masks(self) -> Tensor | None:
        """Return for each sample and time whether the sequence is still going on, [B, T]."""
        if self.lens is None:
            return None
        lengths = tf.cast(arranged(self.lens, (0,), (self.lens.shape[0], 1)), tf.int32)
        return lengths > np.arange(self.x.shape[0], dtype=np.int32)[None]

    def sequence_of(self, directions: Sequence[Sequence[Tensor]]) -> Value:
        """Return ONNX's Y, [T, D, B, H] or [B, T, D, H], from the outputs by direction and time."""
        whole = [tf.stack(outputs, axis=self.time_axis) for outputs in directions]
        t = whole[0] if len(whole) == 1 else tf.concat(whole, axis=2)
        stored = Value.of(t, (1, 0, 2) if self.time_axis else (0, 1, 2))
        time, batch = stored.shape[:2]
        split = stored.reshape((time, batch, len(whole), self.hidden))
        return split.transpose((1, 0, 2, 3) if self.layout else (0, 2, 1, 3))

    def final_of(self, states: Sequence[Tensor]) -> Value:
        """Return ONNX's Y_h or Y_c, [D, B, H] or [B, D, H], from the states by direction."""
        if len(states) == 1:
            value = Value.of(states[0]).reshape((1, *shape_of(states[0])))
        else:
            value = Value.of(tf.stack(states, axis=0))
        return value.transpose((1, 0, 2)) if self.layout else value


def _run(
    g: Context,
    layer: Layer,
    weights: tuple[Value, Value, Value | None],
    states: Sequence[Value | None],
    gates: Callable[[int, Tensor, Tensor, Tensor | None], Gates],
) -> tuple[Value, ...]:
    """Run every direction and collect the outputs that ONNX has."""
    outputs, finals = [], []
    for number, backwards in enumerate(layer.backwards):
        w, r, b = (None if value is None else _part(value, number) for value in weights)
        cell = gates(number, w, r, b)
        projections = layer.projected(cell.weights, cell.bias, cell.sizes)
        out, final = layer.unrolled(
            projections, layer.initial(states, number), cell.step, backwards=backwards
        )
        outputs.append(out)
        finals.append(final)
    wanted = (*g.outputs, False, False, False)
    first = layer.sequence_of(outputs) if wanted[0] else layer.final_of([f[0] for f in finals])
    return (first, *(layer.final_of(list(state)) for state in zip(*finals, strict=True)))


def _part(value: Value, number: int) -> Tensor:
    return arranged(value, range(value.rank))[number]


def _activations(
    names: Sequence[str] | None,
    default: Sequence[str],
    alphas: Sequence[float] | None,
    betas: Sequence[float] | None,
    directions: int,
) -> list[list[Activation]]:
    chosen = list(names or list(default) * directions)
    functions = take_activations(chosen, alphas or (), betas or ())
    count = len(default)
    return [functions[count * n : count * (n + 1)] for n in range(directions)]


@op("LSTM", since=7)
def lstm(
    g: Context,
    x: Value,
    w: Value,
    r: Value,
    b: Value | None = None,
    sequence_lens: Value | None = None,
    initial_h: Value | None = None,
    initial_c: Value | None = None,
    p: Value | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Value, ...]:
    """LSTM: w [D, 4H, I], r [D, 4H, H], b [D, 8H], p [D, 3H]; gates in the order i, o, f, c."""
    layer = Layer.of(x, r, sequence_lens, direction, layout)
    functions = _activations(
        activations, ("Sigmoid", "Tanh", "Tanh"), activation_alpha, activation_beta, w.shape[0]
    )

    def gates(number: int, weights: Tensor, recurrence: Tensor, bias: Tensor | None) -> Gates:
        peepholes = None if p is None else _part(p, number)
        step = lstm_step(recurrence, peepholes, functions[number], clip, bool(input_forget))
        return Gates(weights, _summed(bias), (4 * layer.hidden,), step)

    return _run(g, layer, (w, r, b), (initial_h, initial_c), gates)


def _summed(bias: Tensor | None) -> Tensor | None:
    """Add the input's bias and the recurrence's, which lie behind each other."""
    if bias is None:
        return None
    half = bias.shape[0] // 2
    return bias[:half] + bias[half:]


@op("GRU", since=7)
def gru(
    g: Context,
    x: Value,
    w: Value,
    r: Value,
    b: Value | None = None,
    sequence_lens: Value | None = None,
    initial_h: Value | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Value, ...]:
    """GRU: w [D, 3H, I], r [D, 3H, H], b [D, 6H]; gates in the order z, r, h."""
    layer = Layer.of(x, r, sequence_lens, direction, layout)
    functions = _activations(
        activations, ("Sigmoid", "Tanh"), activation_alpha, activation_beta, w.shape[0]
    )
    size = layer.hidden

    def gates(number: int, weights: Tensor, recurrence: Tensor, bias: Tensor | None) -> Gates:
        inner: Tensor | None = None
        if bias is not None and linear_before_reset:
            bias, inner = bias[: 3 * size], bias[3 * size :]
        else:
            bias = _summed(bias)
        step = gru_step(recurrence, inner, functions[number], clip, bool(linear_before_reset))
        return Gates(weights, bias, (2 * size, size), step)

    return _run(g, layer, (w, r, b), (initial_h,), gates)


@op("RNN", since=7)
def rnn(
    g: Context,
    x: Value,
    w: Value,
    r: Value,
    b: Value | None = None,
    sequence_lens: Value | None = None,
    initial_h: Value | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,
    layout: int = 0,
) -> tuple[Value, ...]:
    """RNN: w [D, H, I], r [D, H, H], b [D, 2H]."""
    layer = Layer.of(x, r, sequence_lens, direction, layout)
    functions = _activations(activations, ("Tanh",), activation_alpha, activation_beta, w.shape[0])

    def gates(number: int, weights: Tensor, recurrence: Tensor, bias: Tensor | None) -> Gates:
        step = rnn_step(recurrence, functions[number], clip)
        return Gates(weights, _summed(bias), (layer.hidden,), step)

    return _run(g, layer, (w, r, b), (initial_h,), gates)
