"""Calibration and verification inputs: read from what users have, checked against the model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.core.arrays import sample_of, write_npz
from edgeconv.core.artifacts import Array, Arrays, TensorSpec
from edgeconv.core.errors import InvalidData
from edgeconv.core.roles import Role, role_of
from edgeconv.core.user_code import import_function, is_reference
from edgeconv.core.wording import named
from edgeconv.metrics.report_parts import SamplesSummary
from edgeconv.samples.conform import conform, shape_text
from edgeconv.samples.files import check_npz, read_npy, read_npz_inputs, require_same_counts
from edgeconv.samples.generate import generate_arrays
from edgeconv.samples.images import Normalisation, image_files, read_images
from edgeconv.samples.iterables import as_array, from_iterable, wrong_names

Source = str | Path | Array | Mapping[str, Any] | Iterable[Any] | Callable[[], Iterable[Any]]
"""Where samples come from; see `load_samples`."""

_KINDS = "an .npz or .npy file, a directory of images, or package.module:function"


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs of a model, in its own layout.

    Attributes:
        arrays: For each input ``[sample, *input shape]``, by name, in the model's order.
        source: What they were read from.
        generated: Whether they are made up instead of data.
        kinds: Of generated ones what each input is, in words, by name.
    """

    arrays: Arrays
    source: str
    generated: bool = False
    kinds: Mapping[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(next(iter(self.arrays.values())))

    @property
    def digest(self) -> str:
        """SHA-256 of names, types, shapes and values, as hexadecimal digits."""
        state = hashlib.sha256()
        for name, array in self.arrays.items():
            state.update(f"{name}\0{array.dtype.str}\0{shape_text(array.shape)}\0".encode())
            state.update(np.ascontiguousarray(array).data)
        return state.hexdigest()

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of each input."""
        return {
            name: (float(array.min()), float(array.max())) for name, array in self.arrays.items()
        }

    def __iter__(self) -> Iterator[Arrays]:
        """Yield each sample: arrays of the inputs' own shapes, by name."""
        for index in range(self.count):
            yield sample_of(self.arrays, index)

    def select(self, start: int, stop: int | None = None) -> Samples:
        """Return the samples from ``start`` up to ``stop``, without copying them."""
        arrays = {name: array[start:stop] for name, array in self.arrays.items()}
        return Samples(arrays, self.source, self.generated, self.kinds)

    def save(self, path: Path) -> None:
        """Write the arrays, by input name, into an ``.npz`` file."""
        write_npz(path, self.arrays)

    def summary(self) -> SamplesSummary:
        """Return what reports say of the samples."""
        return SamplesSummary(
            source=self.source,
            samples=self.count,
            generated=self.generated,
            sha256=self.digest,
            ranges=self.ranges,
            kinds=dict(self.kinds),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what the manifest says of the samples."""
        return self.summary().to_dict()


def load_samples(
    source: Source,
    inputs: Sequence[TensorSpec],
    *,
    limit: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    option: str = named("calibration_data"),
) -> Samples:
    """Read samples and check that they fit the model.

    Args:
        source: One of

            - an ``.npz`` file: arrays under the names of the inputs, or ``in0``, ``in1``, ... or
              ``arr_0``, ``arr_1``, ... in order. Arrays named like outputs or labels (``out0``,
              ``y``, ``labels``, ...) are left out; any other name is an error;
            - an ``.npy`` file, for models with one input;
            - a directory of images, for models with one image input; see `read_images`;
            - ``package.module:function``, or a function, or an iterable, such as a DataLoader: it
              yields samples or batches of samples, each an array, a tuple in the order of the
              inputs, or a mapping by name; see `edgeconv.samples.iterables`;
            - an array, or a mapping of arrays by input name.

            Arrays of many samples have a leading sample axis, then the shape of the input; a
            first dimension of 1 in that shape may be left out.
        inputs: The model's inputs, in its own layout.
        limit: The largest number of samples to read; functions are not asked for more.
        mean: For images: subtracted from each channel, after scaling to 0..1.
        std: For images: each channel is divided by it.
        option: The command line option, for messages.

    Raises:
        InvalidData: The data cannot be read or does not fit the inputs.
        UsageError: The function cannot be imported or fails.
    """
    if limit is not None and limit < 1:
        raise InvalidData(f"the number of samples must be at least 1, not {limit}")
    if isinstance(source, (str, Path)):
        return _from_text(str(source), inputs, limit, Normalisation.of(mean, std), option)
    if isinstance(source, Mapping):
        arrays = {str(name): as_array(array) for name, array in source.items()}
        return _checked(arrays, inputs, limit, "arrays in memory")
    if isinstance(source, np.ndarray) or hasattr(source, "detach"):
        return _checked(_only(inputs, as_array(source), option), inputs, limit, "array in memory")
    where = "function in memory" if callable(source) else f"{type(source).__name__} in memory"
    return Samples(from_iterable(source, inputs, limit, where), where)


def check_source(text: str, names: Sequence[str] | None, option: str) -> None:
    """Check of data that is named what can be checked before there is a model.

    Args:
        text: As `load_samples` takes it.
        names: The model's inputs, where they are known.
        option: The command line option, for messages.

    Raises:
        InvalidData: It is missing, damaged, of another kind, or its arrays have other names.
    """
    path = Path(text)
    if path.is_dir():
        image_files(path)
    elif path.exists() or not is_reference(text):
        head = _head(path, option)
        if head.startswith(b"PK"):
            check_npz(path, names)
        elif head.startswith(b"\x93NUMPY"):
            read_npy(path)
        else:
            raise _no_data(text, head)


def generate_samples(
    inputs: Sequence[TensorSpec],
    count: int,
    seed: int,
    roles: Mapping[str, Role] | None = None,
) -> Samples:
    """Return inputs of the kind that the model takes; see `edgeconv.samples.generate`.

    Args:
        inputs: The model's inputs.
        count: Number of samples.
        seed: Seed of what is random.
        roles: What the inputs stand for, as far as more is known than their specs tell.
    """
    found = {spec.name: (roles or {}).get(spec.name) or role_of(spec) for spec in inputs}
    return Samples(
        generate_arrays(inputs, count, seed, found),
        f"generated, seed {seed}",
        generated=True,
        kinds={name: role.told() for name, role in found.items()},
    )


def _from_text(
    text: str,
    inputs: Sequence[TensorSpec],
    limit: int | None,
    normalisation: Normalisation,
    option: str,
) -> Samples:
    path = Path(text)
    if path.is_dir():
        name, images = read_images(path, inputs, limit, normalisation)
        return _checked({name: images}, inputs, None, text)
    if not path.exists() and is_reference(text):
        function = import_function(text, option)
        return Samples(from_iterable(function, inputs, limit, text, f"{option} {text}"), text)
    head = _head(path, option)
    if head.startswith(b"PK"):
        return _checked(read_npz_inputs(path, inputs, limit), inputs, limit, text)
    if head.startswith(b"\x93NUMPY"):
        return _checked(_only(inputs, read_npy(path), text), inputs, limit, text)
    raise _no_data(text, head)


def _no_data(text: str, head: bytes) -> InvalidData:
    return InvalidData(
        "this is not calibration or verification data",
        where=text,
        why=f"its content starts with {head!r}",
        hint=f"give {_KINDS}",
    )


def _head(path: Path, option: str) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(6)
    except FileNotFoundError as error:
        raise InvalidData(
            "no such file or directory", where=str(path), hint=f"{option} takes {_KINDS}"
        ) from error
    except OSError as error:
        raise InvalidData(
            "the file cannot be read", where=str(path), why=error.strerror or ""
        ) from error
    if not head:
        raise InvalidData("the file is empty", where=str(path), hint=f"give {_KINDS}")
    return head


def _only(inputs: Sequence[TensorSpec], array: Array, where: str) -> Arrays:
    """Return an array without a name as the arrays of a model with one input."""
    if len(inputs) != 1:
        raise InvalidData(
            "one array for a model with several inputs",
            where=where,
            why=f"its inputs are {', '.join(spec.name for spec in inputs)}",
            hint="give an .npz file with an array for each",
        )
    return {inputs[0].name: array}


def _checked(
    arrays: Arrays, inputs: Sequence[TensorSpec], limit: int | None, where: str
) -> Samples:
    """Check arrays of many samples and bring them into the inputs' types."""
    names = [spec.name for spec in inputs]
    if set(arrays) != set(names):
        raise wrong_names(names, list(arrays), where)
    counts = {name: len(arrays[name]) if arrays[name].ndim else 0 for name in names}
    require_same_counts(counts, where)
    checked: Arrays = {}
    for spec in inputs:
        array = arrays[spec.name]
        checked[spec.name] = conform(spec, array[:limit] if array.ndim else array, where)
    return Samples(checked, where)
