"""Random weights with sane statistics.

A freshly initialised network is a poor test: some layers start as zero or next to it and hide
what is computed behind them, all scales are one, and batch-norm statistics that nothing has been
run for let the outputs vanish or explode.

Deep networks of batch norm and ReLU are chaotic at initialisation: each layer amplifies rounding,
so that torch in single precision is tens of decibels away from torch in double precision, and a
comparison says little. Batch norms therefore get mostly positive biases, with which most ReLUs
pass most of their input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_BATCH, _BATCHES = 4, 2
_NEXT_TO_ZERO = 0.01
_LEAST_VARIANCE = 0.01  # of the mean over channels

Example = Callable[[int], tuple["torch.Tensor", ...]]
"""Makes inputs for a batch size."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's and numpy's legacy generators, as initialisers use either, for a while."""
    import numpy as np
    import torch

    before = np.random.get_state()  # noqa: NPY002 - what the libraries' initialisers draw from
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


def settle(module: torch.nn.Module, example: Example) -> None:
    """Replace constant parameters by random ones and calibrate batch-norm statistics."""
    import torch

    with torch.no_grad():
        for layer in _batch_norms(module):
            if layer.affine:
                layer.bias.uniform_(0, 1)
        for parameter in module.parameters():
            _enliven(parameter)
        _calibrate(module, example)


def _enliven(parameter: torch.Tensor) -> None:
    """Randomise a parameter that is 0, next to 0, or 1 throughout."""
    if not parameter.is_floating_point() or not parameter.numel():
        return
    value = float(parameter.flatten()[0])
    if not bool((parameter == value).all()) or (parameter.numel() == 1 and value not in (0, 1)):
        return
    if value == 1:
        parameter.uniform_(0.5, 1.5)
    elif value == 0 and parameter.ndim >= 2:
        parameter.normal_(0, 1 / max(1, parameter[0].numel()) ** 0.5)
    elif value == 0:
        parameter.normal_(0, 0.05)
    elif abs(value) < _NEXT_TO_ZERO:
        parameter.uniform_(0.1, 0.5)


def _batch_norms(module: torch.nn.Module) -> list[torch.nn.modules.batchnorm._BatchNorm]:
    from torch.nn.modules.batchnorm import _BatchNorm

    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]


def _calibrate(module: torch.nn.Module, example: Example) -> None:
    layers = [layer for layer in _batch_norms(module) if layer.track_running_stats]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over the batches
        layer.train()
    for _ in range(_BATCHES):
        module(*example(_BATCH))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
        # A channel that is constant on these batches would amplify rounding without bounds.
        if layer.running_var is not None:
            layer.running_var.clamp_(min=float(layer.running_var.mean()) * _LEAST_VARIANCE)
