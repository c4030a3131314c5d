"""Find the operator that makes the compiler fail, by compiling ever shorter beginnings of a model.

A beginning of n operators is a model of its own. If one fails, longer ones are taken to fail too;
then log2 of the number of operators runs find the shortest that fails, and its last operator is the
one that triggers the failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeconv.core.errors import CompilerError, NothingMapped, error_from_dict
from edgeconv.core.scratch import scratch_directory
from edgeconv.core.wording import as_it_is
from edgeconv.targets.coral.compiler.compile import compile_model
from edgeconv.targets.coral.compiler.find import Compiler
from edgeconv.targets.coral.compiler.options import CompileOptions
from edgeconv.tflite import file as tflite

Progress = Callable[[int, int], None]
"""Told (done, total) after each run of the compiler."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """The operator that makes the compiler fail.

    Attributes:
        index: Its index.
        op: Its name.
        output: Name of its first output.
        shape: Shape of that.
        error: What the compiler says of the shortest beginning that fails.
        runs: How often the compiler was run.
    """

    index: int
    op: str
    output: str
    shape: tuple[int, ...]
    error: str
    runs: int

    def __str__(self) -> str:
        return f"operator {self.index} ({self.op}, which makes {self.output} {list(self.shape)})"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return asdict(self)


def find_trigger(
    model: Path,
    compiler: Compiler,
    options: CompileOptions | None = None,
    progress: Progress | None = None,
) -> Trigger | None:
    """Find the operator that makes the compiler fail.

    Args:
        model: A model that the compiler fails on.
        compiler: The compiler.
        options: Its options; the search for a delegate is left out.
        progress: Told how far the search is.

    Returns:
        The operator, or ``None`` where the model compiles.

    Raises:
        InvalidModel: The model cannot be read.
    """
    options = options or CompileOptions()
    options = CompileOptions(
        min_runtime_version=options.min_runtime_version,
        timeout=options.timeout,
        image=options.image,
        memory=options.memory,
    )
    count = len(tflite.load(model).subgraphs[0].operators)
    total = count.bit_length() + 1
    with scratch_directory() as scratch:
        place = Path(scratch)
        error = _failure(model, count, place, options, compiler)
        runs = 1
        if error is None:
            return None
        works, fails = 0, count
        while fails - works > 1:
            if progress is not None:
                progress(min(runs, total), total)
            middle = (works + fails) // 2
            found = _failure(model, middle, place, options, compiler)
            runs += 1
            if found is None:
                works = middle
            else:
                fails, error = middle, found
        if progress is not None:
            progress(total, total)
    return _trigger(model, fails - 1, str(error), runs)


def beginning(model: tflite.ModelT, count: int) -> tflite.ModelT:
    """Cut a model after its first operators, in place, and return it.

    Its outputs are what the rest of it, or its user, read of them.
    """
    graph = model.subgraphs[0]
    kept, rest = graph.operators[:count], graph.operators[count:]
    made = [index for operator in kept for index in operator.outputs]
    wanted = {index for operator in rest for index in operator.inputs} | set(graph.outputs)
    used = {index for operator in kept for index in operator.inputs}
    graph.operators = kept
    graph.outputs = [index for index in made if index in wanted]
    graph.inputs = [index for index in graph.inputs if index in used]
    model.signatureDefs = []
    return model


def _failure(
    model: Path, count: int, place: Path, options: CompileOptions, compiler: Compiler
) -> CompilerError | None:
    part = place / f"first_{count}.tflite"
    tflite.save(beginning(tflite.load(model), count), part)
    try:
        compile_model(part, place, options, compiler)
    except NothingMapped:
        return None
    except CompilerError as error:
        return error
    return None


def _trigger(model: Path, index: int, error: str, runs: int) -> Trigger:
    content = tflite.load(model)
    graph = content.subgraphs[0]
    operator = graph.operators[index]
    result = graph.tensors[operator.outputs[0]]
    shape = () if result.shape is None else tuple(int(size) for size in result.shape)
    name = tflite.operator_name(content, operator)
    return Trigger(index, name, tflite.tensor_name(result), shape, error, runs)


def located(
    error: CompilerError,
    model: Path,
    options: CompileOptions,
    compiler: Compiler,
    progress: Progress | None = None,
) -> CompilerError:
    """Return an error with the operator that triggers it, where a search finds one."""
    trigger = find_trigger(model, compiler, options, progress)
    if trigger is None:
        return error
    parts = error.to_dict(as_it_is)
    parts["why"] = f"{parts['why']}; {trigger} triggers it"
    found = error_from_dict(parts)
    assert isinstance(found, CompilerError)
    return found
