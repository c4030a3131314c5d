"""What ``edgetpu_compiler`` puts into a model: the package inside the custom operator, decoded.

A compiled ``.tflite`` holds operators ``edgetpu-custom-op``. Their options are a flexbuffer map
whose entry ``"4"`` is a flatbuffer with the identifier ``DWN1``; its schema is libedgetpu's
``executable/executable.fbs``, whose field numbers are the constants below. Nothing of a package is
executed, and every offset of it is checked before it is followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgeconv.core.errors import InvalidModel
from edgeconv.tflite import file as tflite
from edgeconv.tflite import flatbuffer
from edgeconv.tflite.flatbuffer import Damaged, Table

CUSTOM_OP = "edgetpu-custom-op"
"""Name of the custom operator."""

CHIP_BYTES = 8 * 1024 * 1024
"""Memory on the chip, for parameters, instructions and activations together."""

STAND_ALONE, PARAMETER_CACHING, EXECUTION_ONLY = range(3)
EXECUTABLE_TYPES = ("stand-alone", "parameter caching", "execution only")
"""Names of the types of an executable, by number."""

DATA_TYPES = {
    0: "fixed point 8",
    1: "fixed point 16",
    2: "signed fixed point 32",
    3: "bfloat16",
    4: "float16",
    5: "float32",
    8: "signed fixed point 8",
    9: "signed fixed point 16",
}
"""Names of a layer's data types, by the schema's number."""

_IDENTIFIER = b"DWN1"
_PACKAGE_KEY, _MORE_PACKAGES_KEY = "4", "7"


@dataclass(frozen=True, slots=True)
class Layer:
    """An input or output of an executable.

    Attributes:
        name: Name of the tensor.
        size_bytes: Bytes with padding.
        shape: (y, x, z); what is absent is 1.
        data_type: One of `DATA_TYPES`.
        scale: Scale of the stored numbers.
        zero_point: Their zero point; the hardware's numbers are unsigned.
        executions: How often the layer runs in one inference.
    """

    name: str
    size_bytes: int
    shape: tuple[int, int, int]
    data_type: str
    scale: float
    zero_point: int
    executions: int


@dataclass(frozen=True, slots=True)
class Executable:
    """One program of a package.

    Attributes:
        type: Number of its type, an index into `EXECUTABLE_TYPES`.
        batch_size: Inputs that one run takes.
        scratch_bytes: Scratch memory on the host for one run.
        instruction_bytes: Bytes of its instruction streams.
        parameter_bytes: Bytes of its parameters.
        inputs: Input layers.
        outputs: Output layers.
        chip: Name of the chip, ``"beagle"``.
        activation_bytes_per_tile: Most activation memory that a tile uses.
        caching_token: Executables with one token share the memory on the chip; 0 for none.
        estimated_cycles: The compiler's estimate; 0 where it made none.
    """

    type: int
    batch_size: int
    scratch_bytes: int
    instruction_bytes: int
    parameter_bytes: int
    inputs: tuple[Layer, ...]
    outputs: tuple[Layer, ...]
    chip: str
    activation_bytes_per_tile: int
    caching_token: int
    estimated_cycles: int


@dataclass(frozen=True, slots=True)
class Package:
    """The content of one custom operator.

    Attributes:
        min_runtime_version: Oldest runtime that runs it.
        compiler_version: The compiler's change list, ``"cl/343520747"``; not its release.
        virtual_chip_id: Chip of a cluster; 0 for a single chip.
        executables: Its programs.
        further_packages: Packages for further chips.
    """

    min_runtime_version: int
    compiler_version: str
    virtual_chip_id: int
    executables: tuple[Executable, ...]
    further_packages: int = 0

    @property
    def cached_parameter_bytes(self) -> int:
        """Parameters that are loaded once and stay on the chip."""
        return self._sum("parameter_bytes", PARAMETER_CACHING)

    @property
    def streamed_parameter_bytes(self) -> int:
        """Parameters that are sent for every inference."""
        return self._sum("parameter_bytes", EXECUTION_ONLY, STAND_ALONE)

    @property
    def instruction_bytes(self) -> int:
        """Instructions of all programs."""
        return self._sum("instruction_bytes", *range(len(EXECUTABLE_TYPES)))

    @property
    def activation_bytes_per_tile(self) -> int:
        """Most activation memory that a tile uses."""
        return max((item.activation_bytes_per_tile for item in self.executables), default=0)

    @property
    def caching_token(self) -> int:
        """Models with one token were compiled together; 0 where nothing is cached."""
        return max((item.caching_token for item in self.executables), default=0)

    @property
    def inputs(self) -> tuple[Layer, ...]:
        """Input layers of the program that runs the inference."""
        return self._inference().inputs if self.executables else ()

    @property
    def outputs(self) -> tuple[Layer, ...]:
        """Output layers of the program that runs the inference."""
        return self._inference().outputs if self.executables else ()

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return {
            "min_runtime_version": self.min_runtime_version,
            "compiler_version": self.compiler_version,
            "virtual_chip_id": self.virtual_chip_id,
            "cached_parameter_bytes": self.cached_parameter_bytes,
            "streamed_parameter_bytes": self.streamed_parameter_bytes,
            "instruction_bytes": self.instruction_bytes,
            "activation_bytes_per_tile": self.activation_bytes_per_tile,
            "caching_token": f"{self.caching_token:016x}",
            "further_packages": self.further_packages,
            "inputs": [asdict(layer) for layer in self.inputs],
            "outputs": [asdict(layer) for layer in self.outputs],
            "executables": [_describe(item) for item in self.executables],
        }

    def _inference(self) -> Executable:
        return max(self.executables, key=lambda item: item.type != PARAMETER_CACHING)

    def _sum(self, field: str, *types: int) -> int:
        return sum(getattr(item, field) for item in self.executables if item.type in types)


def packages(model: tflite.ModelT, where: str = "model") -> list[tuple[int, Package]]:
    """Decode the custom operators of a model.

    Args:
        model: A model, compiled or not.
        where: Its name, for messages.

    Returns:
        The index in the first subgraph and the content of each custom operator; none where the
        model is not compiled.

    Raises:
        InvalidModel: A custom operator does not hold a package, or a damaged one.
    """
    found = []
    for index, operator in enumerate(model.subgraphs[0].operators):
        if tflite.operator_name(model, operator) != CUSTOM_OP:
            continue
        try:
            options = operator.customOptions
            found.append((index, decode(b"" if options is None else bytes(options))))
        except Damaged as error:
            raise InvalidModel(
                "the compiled part of the model cannot be read",
                where=f"{where}, operator {index} ({CUSTOM_OP})",
                why=str(error),
                hint="compile the model again",
            ) from error
    return found


def decode(options: bytes) -> Package:
    """Decode the options of a custom operator.

    Raises:
        Damaged: They are not what the compiler writes, or are cut short.
    """
    entries = flatbuffer.flexbuffer_map(options)
    content = entries.get(_PACKAGE_KEY)
    if not isinstance(content, bytes):
        raise Damaged(f"the options hold no package (key {_PACKAGE_KEY})")
    further = entries.get(_MORE_PACKAGES_KEY)
    return _package(content, further if isinstance(further, int) else 0)


def _package(content: bytes, further: int) -> Package:
    if content[4:8] != _IDENTIFIER:
        raise Damaged(f"the package lacks the identifier {_IDENTIFIER.decode()}")
    table = Table.root(content)
    multi = Table.root(table.blob(1))
    return Package(
        min_runtime_version=table.int32(0),
        compiler_version=table.text(4),
        virtual_chip_id=table.int32(5),
        executables=tuple(_executable(Table.root(item)) for item in multi.byte_vectors(0)),
        further_packages=max(further, len(table.tables(6))),
    )


def _executable(table: Table) -> Executable:
    kind = table.int16(13)
    if kind not in range(len(EXECUTABLE_TYPES)):
        raise Damaged(f"an executable is of the unknown type {kind}")
    return Executable(
        type=kind,
        batch_size=table.int32(3),
        scratch_bytes=table.int32(4),
        instruction_bytes=sum(chunk.length(0) for chunk in table.tables(5)),
        parameter_bytes=table.length(6),
        inputs=_layers(table.tables(8)),
        outputs=_layers(table.tables(9)),
        chip=table.text(10),
        activation_bytes_per_tile=table.int32(12),
        caching_token=table.uint64(14),
        estimated_cycles=table.int64(16) or table.int32(11),
    )


def _layers(tables: Sequence[Table]) -> tuple[Layer, ...]:
    return tuple(_layer(table) for table in tables)


def _layer(table: Table) -> Layer:
    numerics = table.table(5)
    data_type = table.int16(6)
    return Layer(
        name=table.text(0),
        size_bytes=table.int32(1),
        shape=(table.int32(2), table.int32(3), table.int32(4)),
        data_type=DATA_TYPES.get(data_type, f"type {data_type}"),
        scale=numerics.float32(1) if numerics else 0.0,
        zero_point=numerics.int32(0) if numerics else 0,
        executions=table.int32(9, 1),
    )


def _describe(executable: Executable) -> dict[str, Any]:
    data = asdict(executable)
    data["type"] = EXECUTABLE_TYPES[executable.type]
    data["caching_token"] = f"{executable.caching_token:016x}"
    return data
