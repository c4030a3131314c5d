"""The samples that a conversion sees: read, or generated as the model itself tells."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.convert.onnx.input_roles import input_roles
from edgeconv.convert.torch.pt2_inputs import program_inputs
from edgeconv.core.artifacts import Arrays, Artifact, TensorSpec
from edgeconv.core.errors import InvalidData, InvalidModel, WorkerError
from edgeconv.core.job import Job
from edgeconv.core.options import CALIBRATED_MODES
from edgeconv.core.preprocess import BYTE, Preprocessing
from edgeconv.core.roles import Kind, Role, channel_axis, role_of
from edgeconv.core.states import State
from edgeconv.core.wording import named
from edgeconv.quantize.params.input_scales import InputScale, input_scales, stated_ranges
from edgeconv.samples.differences import differences
from edgeconv.samples.images import Normalisation
from edgeconv.samples.load import Samples, check_source, generate_samples, load_samples
from edgeconv.samples.raw_bytes import preprocessing_of, raw_bytes

logger = logging.getLogger(__name__)


# Generated inputs say nothing of real ranges; more of them would only take time.
_GENERATED = 16
# Vectors of a bundle that is not verified: enough to see on a device that it computes.
_UNVERIFIED = 2
_STEPS = 3
"""So many steps are run to see what states become."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that samples are generated for.

    Attributes:
        onnx: The model.
        states: Its states.
        run: Runs it on samples by input name, ``[sample, ...]``.
    """

    onnx: Artifact
    states: tuple[State, ...]
    run: Callable[[Artifact, Arrays], Arrays]

    def carried(self, samples: Samples) -> Samples:
        """Return samples of which some have the states that the model itself makes of others.

        Every fourth sample begins with zeros, the others are one, two or three steps on.
        """
        if not self.states:
            return samples
        arrays, feeds = dict(samples.arrays), dict(samples.arrays)
        place = np.arange(samples.count) % (_STEPS + 1)
        try:
            for step in range(1, _STEPS + 1):
                outputs = self.run(self.onnx, feeds)
                for state in self.states:
                    found = arrays[state.input].copy()
                    rows = range(samples.count)
                    made = [state.of(outputs[state.output][i], found.shape[1:]) for i in rows]
                    fed = np.stack(made).astype(found.dtype, copy=False)
                    if not np.isfinite(fed).all():
                        return replace(samples, arrays=arrays)
                    feeds[state.input] = fed
                    found[place == step] = fed[place == step]
                    arrays[state.input] = found
        except (WorkerError, InvalidModel) as error:
            logger.info("states are zeros: %s", error)
        return replace(samples, arrays=arrays)


@dataclass(frozen=True, slots=True)
class Data:
    """The inputs that a conversion sees.

    Attributes:
        calibration: What ranges are taken from.
        verification: What parity is measured on.
        input_scales: What inputs can hold, as far as it is known, by name; see
            `edgeconv.quantize.params.input_scales`.
        preprocessing: What the model does itself to bytes, which the samples are then, by input.
        differences: In what the two differ so much that one of them must be wrong.
    """

    calibration: Samples
    verification: Samples
    input_scales: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    preprocessing: Mapping[str, Preprocessing] = field(default_factory=dict)
    differences: tuple[str, ...] = ()

    @property
    def calibrated(self) -> bool:
        """Whether the calibration inputs were given, not generated."""
        return not self.calibration.generated

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's form."""
        return {
            "calibration": self.calibration.to_dict(),
            "verification": self.verification.to_dict(),
            "input_scales": self.input_scales,
            "differences": list(self.differences),
            "preprocessing": {name: one.to_dict() for name, one in self.preprocessing.items()},
        }


def check_data(job: Job) -> None:
    """Check of data that is named what can be checked before the model is loaded.

    Raises:
        InvalidData: It is missing, damaged, of another kind, or its arrays have other names.
    """
    names = program_inputs(Path(job.source)) if job.is_file else None
    for option, source in (
        (named("calibration_data"), job.calibration_data),
        (named("verify_data"), job.verify_data),
    ):
        if isinstance(source, str | Path):
            check_source(str(source), names, option)


def generates(job: Job) -> bool:
    """Tell whether inputs are generated, so that the model itself has to say what it takes."""
    return job.calibration_data is None


def data_for(job: Job, inputs: tuple[TensorSpec, ...], model: Model | None = None) -> Data:
    """Load or generate the samples.

    Parity is measured on the verification data; without it, on calibration samples that
    calibration does not use, as far as there are any; without both, on generated inputs. Where
    it is not measured, the first few of them do.

    Args:
        job: The job.
        inputs: The model's inputs.
        model: The ONNX model, which tells more of what it takes than the inputs alone.

    Raises:
        InvalidData: The data does not fit the model's inputs.
        UsageError: The function that yields it cannot be imported, or fails.
    """
    options = job.options
    inputs = tuple(spec.of_one for spec in inputs)
    wanted = options.calibration_samples + options.parity_samples
    few = options.parity_samples if options.verify else min(options.parity_samples, _UNVERIFIED)
    pool = _given(job, named("calibration_data"), job.calibration_data, inputs, wanted)
    given = _given(job, named("verify_data"), job.verify_data, inputs, options.parity_samples)
    preprocessing = preprocessing_for(job, inputs, pool)
    pool, given = (
        None if one is None else _as_bytes(one, inputs, preprocessing) for one in (pool, given)
    )
    if pool is None:
        calibrates = options.verify or options.quantize != "none"
        count = min(wanted, _GENERATED + options.parity_samples) if calibrates else few
        pool = _generated(job, inputs, count, model)
    calibration, rest = _split(pool, options.calibration_samples, options.parity_samples)
    verification = rest.select(0, few) if given is None else given
    return Data(
        calibration,
        verification,
        _scales(job, inputs, calibration, preprocessing),
        preprocessing,
        _differences(job, calibration, verification),
    )


def preprocessing_for(
    job: Job, inputs: tuple[TensorSpec, ...], samples: Samples | None = None
) -> dict[str, Preprocessing]:
    """Return what the model is to do to bytes itself, by input; nothing without ``fold``.

    Args:
        job: The job.
        inputs: The model's inputs.
        samples: Calibration samples, where they are given.

    Raises:
        UsageError: No input can be an image, or nothing tells the mean and standard deviation.
    """
    if job.options.preprocess != "fold":
        return {}
    given = Normalisation.of(job.image_mean, job.image_std)
    return preprocessing_of(inputs, {} if samples is None else samples.arrays, given)


def _as_bytes(
    samples: Samples, inputs: tuple[TensorSpec, ...], preprocessing: Mapping[str, Preprocessing]
) -> Samples:
    """Return samples with those inputs as bytes that are to be."""
    arrays = {
        spec.name: raw_bytes(spec, samples.arrays[spec.name], preprocessing[spec.name])
        for spec in inputs
        if spec.name in preprocessing
    }
    return replace(samples, arrays={**samples.arrays, **arrays})


def _differences(job: Job, calibration: Samples, verification: Samples) -> tuple[str, ...]:
    """Return in what the data differ, and warn of it, where it decides about the model."""
    generated = calibration.generated and verification.generated
    if job.options.quantize not in CALIBRATED_MODES or not job.options.verify or generated:
        return ()
    found = differences(calibration, verification)
    for text in found:
        logger.warning("%s", text)
    return tuple(found)


def _scales(
    job: Job,
    inputs: tuple[TensorSpec, ...],
    calibration: Samples,
    preprocessing: Mapping[str, Preprocessing],
) -> dict[str, dict[str, Any]]:
    """Return what inputs can hold, where activations become integers."""
    if job.options.quantize not in CALIBRATED_MODES:
        return {}
    found = input_scales(
        [spec for spec in inputs if spec.name not in preprocessing],
        calibration.arrays,
        stated_ranges(job.options.input_range, inputs),
        Normalisation.of(job.image_mean, job.image_std),
    )
    whole = InputScale(0.0, BYTE, "--preprocess fold makes it take bytes", bytes=True)
    found |= dict.fromkeys(preprocessing, whole)
    return {name: scale.to_dict() for name, scale in found.items()}


def _given(
    job: Job, option: str, source: Any, inputs: tuple[TensorSpec, ...], limit: int
) -> Samples | None:
    if source is None:
        return None
    if job.options.preprocess == "fold" and isinstance(source, str | Path):
        raw = tuple(
            replace(spec, dtype="uint8") if channel_axis(spec.source_shape) is not None else spec
            for spec in inputs
        )
        with suppress(InvalidData):
            return load_samples(source, raw, limit=limit, option=option)
    return load_samples(
        source, inputs, limit=limit, mean=job.image_mean, std=job.image_std, option=option
    )


def _split(pool: Samples, calibration: int, parity: int) -> tuple[Samples, Samples]:
    """Split off samples for parity; calibration keeps up to its number first."""
    used = min(pool.count, calibration)
    first = min(used, max(0, pool.count - parity))
    return pool.select(0, used), pool.select(first, first + parity)


def _generated(
    job: Job, inputs: tuple[TensorSpec, ...], count: int, model: Model | None
) -> Samples:
    """Return samples of the kind that the model takes."""
    roles = {spec.name: role_of(spec) for spec in inputs}
    if model is not None:
        roles = input_roles(model.onnx)
        for state in model.states:
            roles[state.input] = Role(Kind.STATE, output=state.output)
    ends = _picture_ends(job, inputs)
    for name in preprocessing_for(job, inputs):
        picture = roles[name].kind is Kind.IMAGE
        roles[name] = replace(roles[name], high=(BYTE,)) if picture else Role(Kind.INDEX, size=256)
        ends.pop(name, None)
    for name, role in roles.items():
        if role.kind is Kind.IMAGE and name in ends:
            low, high = ends[name]
            roles[name] = replace(role, low=low, high=high)
    samples = generate_samples(inputs, count, job.options.seed, roles)
    return samples if model is None else model.carried(samples)


def _picture_ends(
    job: Job, inputs: tuple[TensorSpec, ...]
) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return what bytes 0 and 255 are, of each channel or of all, by what the options say."""
    stated = stated_ranges(job.options.input_range, inputs)
    if job.image_mean or job.image_std:
        means, stds = job.image_mean or (0.0,), job.image_std or (1.0,)
        count = max(len(means), len(stds))
        pairs = [(means[i % len(means)], stds[i % len(stds)]) for i in range(count)]
        low, high = (tuple((end - mean) / std for mean, std in pairs) for end in (0, 1))
        normalised = {spec.name: (low, high) for spec in inputs if np.dtype(spec.dtype).kind == "f"}
    else:
        normalised = {}
    return normalised | {name: ((low,), (high,)) for name, (low, high) in stated.items()}
