"""Where the pieces of an output are, checked with what LiteRT computes."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.quantize.joins.joins import NO_PIECE, find
from edgeconv.tflite import file as tflite
from edgeconv.tflite.graph import Graph
from tests.quantize.conftest import FloatModel, run


def traced(model: FloatModel, path: Any, output: int, sizes: list[tuple[int, ...]]) -> None:
    """Require the labels to be what LiteRT makes of inputs that hold their own numbers.

    The pieces are the model's inputs, each times two.
    """
    model.save(path, output)
    feed = [np.full(size, number + 1, np.float32) for number, size in enumerate(sizes)]
    (values,) = run(path, [feed])
    graph = Graph(tflite.load(path))
    join = find(graph).get(graph.outputs[0])
    if len(np.unique(values)) < 2:
        assert join is None
        return
    assert join is not None
    names = [graph.name(piece) for piece in join.pieces]
    numbers = {name: 2 * (place + 1) for place, name in enumerate(_doubled(graph))}
    expected = np.array([*(numbers[name] for name in names), 0])
    np.testing.assert_array_equal(expected[join.labels], values[0])


def _doubled(graph: Graph) -> list[str]:
    return [
        graph.name(index)
        for operator in graph.operators
        if graph.op(operator) == "ADD"
        for index in operator.outputs
    ]


def doubled(model: FloatModel, *shape: int) -> int:
    source = model.input(*shape)
    return int(model.op("ADD", source, source))


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, list[tuple[int, ...]]]:
    """Return an axis and shapes that differ along it alone."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    axis = draw(st.integers(0, len(shape) - 1))
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    return axis, [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


@settings(max_examples=60, deadline=None)
@given(made=shapes(), data=st.data())
def test_labels_go_where_the_values_go(
    tmp_path_factory: Any, made: Any, data: st.DataObject
) -> None:
    axis, sizes = made
    model = FloatModel()
    pieces = [doubled(model, *size) for size in sizes]
    x = model.op("CONCATENATION", *pieces, axis=axis)
    shape = list(sizes[0])
    shape[axis] = sum(size[axis] for size in sizes)
    for _ in range(data.draw(st.integers(0, 3))):
        x, shape = data.draw(st.sampled_from(MOVERS))(model, x, shape, data)
    traced(model, tmp_path_factory.mktemp("joins") / "float.tflite", x, sizes)


def transposed(model: FloatModel, x: int, shape: list[int], data: Any) -> tuple[int, list[int]]:
    order = data.draw(st.permutations(range(len(shape))))
    return model.op("TRANSPOSE", x, model.constant(order, "int32")), [shape[a] for a in order]


def reshaped(model: FloatModel, x: int, shape: list[int], data: Any) -> tuple[int, list[int]]:
    total = int(np.prod(shape))
    first = data.draw(st.sampled_from([n for n in range(1, total + 1) if total % n == 0]))
    wanted = data.draw(
        st.sampled_from([[total], [first, total // first], [1, first, total // first]])
    )
    return model.op("RESHAPE", x, model.constant(wanted, "int32"), newShape=wanted), wanted


def sliced(model: FloatModel, x: int, shape: list[int], data: Any) -> tuple[int, list[int]]:
    begin = [data.draw(st.integers(0, size - 1)) for size in shape]
    sizes = [data.draw(st.integers(1, size - at)) for size, at in zip(shape, begin, strict=True)]
    operands = model.constant(begin, "int32"), model.constant(sizes, "int32")
    return model.op("SLICE", x, *operands), sizes


def stepped(model: FloatModel, x: int, shape: list[int], data: Any) -> tuple[int, list[int]]:
    """Take a STRIDED_SLICE with all that its masks can say."""
    masks = dict.fromkeys(("begin", "end", "shrink"), 0)
    begin: list[int] = []
    end: list[int] = []
    step: list[int] = []
    index: list[Any] = []
    for axis, size in enumerate(shape):
        kind = data.draw(st.sampled_from(("all", "some", "back", "one")))
        if kind == "one" and len(shape) - sum(isinstance(i, int) for i in index) > 1:
            at = data.draw(st.integers(-size, size - 1))
            masks["shrink"] |= 1 << axis
            begin, end, step, index = [*begin, at], [*end, at + 1], [*step, 1], [*index, at]
            continue
        first, last, by = 0, size, 1
        if kind == "some":
            first = data.draw(st.integers(0, size - 1))
            last = data.draw(st.integers(first + 1, size + 2))
            by = data.draw(st.integers(1, 3))
        masks["begin"] |= (kind in ("all", "back")) << axis
        masks["end"] |= (kind in ("all", "back")) << axis
        by = -1 if kind == "back" else by
        begin, end, step = [*begin, first], [*end, last], [*step, by]
        index.append(slice(first, last, by) if kind == "some" else slice(None, None, by))
    operands = [model.constant(one, "int32") for one in (begin, end, step)]
    x = model.op(
        "STRIDED_SLICE", x, *operands,
        beginMask=masks["begin"], endMask=masks["end"], shrinkAxisMask=masks["shrink"],
    )  # fmt: skip
    return x, list(np.empty(shape)[tuple(index)].shape)


def gathered(model: FloatModel, x: int, shape: list[int], data: Any) -> tuple[int, list[int]]:
    axis = data.draw(st.integers(0, len(shape) - 1))
    at = data.draw(st.lists(st.integers(0, shape[axis] - 1), min_size=1, max_size=4))
    x = model.op("GATHER", x, model.constant(at, "int32"), axis=axis)
    return x, [*shape[:axis], len(at), *shape[axis + 1 :]]


def reversed_(model: FloatModel, x: int, shape: list[int], data: Any) -> tuple[int, list[int]]:
    axis = data.draw(st.integers(0, len(shape) - 1))
    return model.op("REVERSE_V2", x, model.constant([axis], "int32")), shape


def tiled(model: FloatModel, x: int, shape: list[int], data: Any) -> tuple[int, list[int]]:
    counts = [data.draw(st.integers(1, 2)) for _ in shape]
    x = model.op("TILE", x, model.constant(counts, "int32"))
    return x, [size * count for size, count in zip(shape, counts, strict=True)]


def split_again(model: FloatModel, x: int, shape: list[int], data: Any) -> tuple[int, list[int]]:
    axis = data.draw(st.integers(0, len(shape) - 1))
    cut = data.draw(st.integers(0, shape[axis] - 1))
    sizes = [size for size in (cut, shape[axis] - cut) if size]
    operands = model.constant(sizes, "int32"), model.constant(axis, "int32")
    parts = model.op("SPLIT_V", x, *operands, dtypes=["float32"] * len(sizes), numSplits=len(sizes))
    part = parts[-1] if len(sizes) > 1 else parts
    return part, [*shape[:axis], sizes[-1], *shape[axis + 1 :]]


def unpacked(model: FloatModel, x: int, shape: list[int], data: Any) -> tuple[int, list[int]]:
    if len(shape) == 1:
        return x, shape
    axis = data.draw(st.integers(0, len(shape) - 1))
    count = shape[axis]
    parts = model.op("UNPACK", x, dtypes=["float32"] * count, num=count, axis=axis)
    return (parts[-1] if count > 1 else parts), [*shape[:axis], *shape[axis + 1 :]]


def packed(model: FloatModel, x: int, shape: list[int], data: Any) -> tuple[int, list[int]]:
    if len(shape) > 4:
        return x, shape
    axis = data.draw(st.integers(0, len(shape)))
    x = model.op("PACK", x, x, valuesCount=2, axis=axis)
    return x, [*shape[:axis], 2, *shape[axis:]]


MOVERS = (
    transposed, reshaped, sliced, stepped, gathered, reversed_, tiled, split_again, unpacked,
    packed,
)  # fmt: skip


def joined_of(model: FloatModel, path: Any, output: int) -> Any:
    model.save(path, output)
    graph = Graph(tflite.load(path))
    return graph, find(graph).get(graph.outputs[0])


def test_a_head_of_boxes_and_scores_has_two_pieces_along_an_axis(tmp_path: Any) -> None:
    model = FloatModel()
    boxes, scores = doubled(model, 1, 3, 3, 4), doubled(model, 1, 3, 3, 10)
    sure = model.op("LOGISTIC", scores)
    x = model.op("CONCATENATION", boxes, sure, axis=3)
    x = model.op("RESHAPE", x, model.constant([1, 9, 14], "int32"))
    x = model.op("TRANSPOSE", x, model.constant([0, 2, 1], "int32"))
    graph, join = joined_of(model, tmp_path / "float.tflite", x)
    assert [graph.shape(piece)[-1] for piece in join.pieces] == [4, 10]
    assert [graph.op(operator) for operator in join.between] == [
        "CONCATENATION",
        "RESHAPE",
        "TRANSPOSE",
    ]
    along = join.along()
    assert along.axis == 1
    assert [list(part) for part in along.positions] == [[0, 1, 2, 3], list(range(4, 14))]


def test_levels_that_each_join_boxes_and_scores_are_told_by_both_axes(tmp_path: Any) -> None:
    model = FloatModel()
    levels = []
    for count in (6, 4, 2):
        parts = doubled(model, 1, 4, count), doubled(model, 1, 3, count)
        levels.append(model.op("CONCATENATION", *parts, axis=1))
    x = model.op("CONCATENATION", *levels, axis=2)
    graph, join = joined_of(model, tmp_path / "float.tflite", x)
    assert len(join.pieces) == 6
    assert join.along() is None
    rows = [graph.shape(piece)[1] for piece in join.pieces]
    groups = [[place for place, count in enumerate(rows) if count == size] for size in (4, 3)]
    along = join.along(groups)
    assert along.axis == 1
    assert [list(part) for part in along.positions] == [[0, 1, 2, 3], [4, 5, 6]]


def test_interleaved_keypoints_are_positions_with_steps(tmp_path: Any) -> None:
    model = FloatModel()
    places, seen = doubled(model, 1, 5, 2, 7), doubled(model, 1, 5, 1, 7)
    x = model.op("CONCATENATION", places, model.op("LOGISTIC", seen), axis=2)
    x = model.op("RESHAPE", x, model.constant([1, 15, 7], "int32"))
    _, join = joined_of(model, tmp_path / "float.tflite", x)
    along = join.along()
    assert along.axis == 1
    assert list(along.positions[1]) == [2, 5, 8, 11, 14]


def test_elementwise_work_behind_a_join_keeps_its_pieces(tmp_path: Any) -> None:
    model = FloatModel()
    parts = doubled(model, 1, 2, 5), doubled(model, 1, 3, 5)
    x = model.op("CONCATENATION", *parts, axis=1)
    x = model.op("MUL", x, model.constant(np.arange(5.0).reshape(5, 1)))
    x = model.op("MUL", x, model.op("LOGISTIC", x))
    _, join = joined_of(model, tmp_path / "float.tflite", x)
    assert [list(part) for part in join.along().positions] == [[0, 1], [2, 3, 4]]


def test_constants_that_are_joined_are_no_pieces(tmp_path: Any) -> None:
    model = FloatModel()
    parts = doubled(model, 1, 2), model.constant(np.ones((1, 1))), doubled(model, 1, 3)
    _, join = joined_of(model, tmp_path / "float.tflite", model.op("CONCATENATION", *parts, axis=1))
    assert len(join.pieces) == 2
    assert join.labels.tolist() == [[0, 0, NO_PIECE, 1, 1, 1]]


def test_what_mixes_values_is_a_piece_as_a_whole(tmp_path: Any) -> None:
    model = FloatModel()
    parts = doubled(model, 1, 2), doubled(model, 1, 3)
    x = model.op("SOFTMAX", model.op("CONCATENATION", *parts, axis=1), beta=1.0)
    _, join = joined_of(model, tmp_path / "float.tflite", x)
    assert join is None


def test_computed_positions_of_rows_leave_the_columns_known(tmp_path: Any) -> None:
    model = FloatModel()
    parts = doubled(model, 6, 4), doubled(model, 6, 2)
    x = model.op("CONCATENATION", *parts, axis=1)
    where = model.op("CAST", model.input(3), dtypes=["int32"], inDataType=0, outDataType=2)
    x = model.op("GATHER", x, where, axis=0)
    _, join = joined_of(model, tmp_path / "float.tflite", x)
    assert join.labels.tolist() == [[0, 0, 0, 0, 1, 1]] * 3


def test_an_axis_that_computed_positions_mix_is_not_followed(tmp_path: Any) -> None:
    model = FloatModel()
    parts = doubled(model, 6, 4), doubled(model, 6, 2)
    x = model.op("CONCATENATION", *parts, axis=1)
    where = model.op("CAST", model.input(3), dtypes=["int32"], inDataType=0, outDataType=2)
    x = model.op("GATHER", x, where, axis=1)
    _, join = joined_of(model, tmp_path / "float.tflite", x)
    assert join is None
