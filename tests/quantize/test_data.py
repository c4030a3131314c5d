"""Calibration data is read in every form and checked against the inputs."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from edgeconv.core.arrays import read_npz
from edgeconv.core.artifacts import TensorSpec
from edgeconv.core.errors import InvalidData, UsageError
from edgeconv.samples.load import generate_samples, load_samples

IMAGE = TensorSpec.plain("image", (1, 3, 4, 5), "float32")
IDS = TensorSpec.plain("ids", (1, 7), "int64")
BATCH = TensorSpec.plain("x", (2, 6), "float32")


def images(count: int, *, axis: bool = True) -> np.ndarray[Any, np.dtype[np.float32]]:
    shape = (count, 1, 3, 4, 5) if axis else (count, 3, 4, 5)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, allow_pickle=True, **arrays)
    return path


@pytest.mark.parametrize("key", ["image", "in0", "arr_0"])
@pytest.mark.parametrize("axis", [True, False])
def test_npz(tmp_path: Path, key: str, axis: bool) -> None:
    path = save(tmp_path / "c.npz", **{key: images(5, axis=axis)})
    samples = load_samples(path, [IMAGE])
    assert samples.count == 5
    assert list(samples.arrays) == ["image"]
    np.testing.assert_array_equal(samples.arrays["image"], images(5))
    assert [sample["image"].shape for sample in samples] == [IMAGE.shape] * 5
    assert load_samples(str(path), [IMAGE], limit=2).count == 2
    assert not samples.generated


def test_npz_of_several_inputs_in_the_order_of_the_model(tmp_path: Path) -> None:
    ids = np.arange(14, dtype=np.int32).reshape(2, 7)
    path = save(tmp_path / "c.npz", ids=ids, image=images(2), out0=np.ones(2), labels=np.ones(2))
    samples = load_samples(path, [IMAGE, IDS])
    assert list(samples.arrays) == ["image", "ids"]
    assert samples.arrays["ids"].dtype == np.int64
    assert samples.arrays["ids"].shape == (2, 1, 7)
    path = save(tmp_path / "d.npz", in1=ids, in0=images(2), out0=np.ones(2))
    assert load_samples(path, [IMAGE, IDS]).digest == samples.digest


@pytest.mark.parametrize(
    "keys", [("picture",), ("in1",), ("image", "noise"), ("in0", "in1"), ("out0",)]
)
def test_wrong_names(tmp_path: Path, keys: tuple[str, ...]) -> None:
    path = save(tmp_path / "c.npz", **dict.fromkeys(keys, images(2)))
    with pytest.raises(InvalidData, match="expected image") as caught:
        load_samples(path, [IMAGE])
    assert all(key in str(caught.value) for key in keys)


def test_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", images(3).astype(np.float64))
    samples = load_samples(tmp_path / "c.npy", [IMAGE], limit=2)
    assert samples.arrays["image"].dtype == np.float32
    np.save(tmp_path / "c.npy", images(3) + 1)
    np.testing.assert_allclose(samples.arrays["image"], images(2))
    with pytest.raises(InvalidData, match="several inputs"):
        load_samples(tmp_path / "c.npy", [IMAGE, IDS])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (images(2)[:, 0, 0], r"another rank(.|\n)*expected Nx1x3x4x5 or Nx3x4x5, found 2x4x5"),
        (images(2)[..., :4], "another shape"),
        (images(2).transpose(0, 1, 3, 4, 2), "channels last"),
        (images(2, axis=False).transpose(0, 2, 3, 1), "channels last"),
        (np.float32(3), r"found a single number"),
        (images(0), "no samples"),
        (np.ones((2, 3, 4, 5), np.uint8), r"expected float32, found uint8(.|\n)*x / 255"),
        (np.ones((2, 3, 4, 5), np.complex64), "found complex64"),
        (np.full((2, 3, 4, 5), np.nan), r"NaN(.|\n)*in 2 of 2 samples"),
        (np.concatenate([images(2), images(1) * np.inf]), r"infinity(.|\n)*the first is sample 2"),
        (np.full((2, 3, 4, 5), 1e300), "infinity"),
        (np.array(["a", "b"]), "not numbers"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, array: Any, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        load_samples(save(tmp_path / "c.npz", image=array), [IMAGE])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((2, 7)), r"expected int64, found float64(.|\n)*takes integers"),
        (np.full((2, 7), 2**63, np.uint64), "numbers that int64 cannot"),
        (np.ones((2, 7), bool), "found bool"),
    ],
)
def test_integers_that_do_not_fit(array: Any, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        load_samples({"ids": array}, [IDS])


def test_different_numbers_of_samples(tmp_path: Path) -> None:
    path = save(tmp_path / "c.npz", image=images(2), ids=np.ones((3, 7), int))
    with pytest.raises(InvalidData, match="image 2, ids 3"):
        load_samples(path, [IMAGE, IDS])


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    path = save(tmp_path / "c.npz", image=images(50))
    content = path.read_bytes()
    for end in (4, 100, len(content) // 2, len(content) - 10):
        path.write_bytes(content[:end])
        with pytest.raises(InvalidData, match="truncated or corrupt"):
            load_samples(path, [IMAGE])
    np.save(tmp_path / "c.npy", images(5))
    content = (tmp_path / "c.npy").read_bytes()
    for end in (7, 50, len(content) // 2):
        (tmp_path / "c.npy").write_bytes(content[:end])
        with pytest.raises(InvalidData, match="truncated or corrupt"):
            load_samples(tmp_path / "c.npy", [IMAGE])
    (tmp_path / "empty").touch()
    with pytest.raises(InvalidData, match="is empty"):
        load_samples(tmp_path / "empty", [IMAGE])
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InvalidData, match="not calibration or verification data"):
        load_samples(tmp_path / "text", [IMAGE])
    with pytest.raises(InvalidData, match="no such file"):
        load_samples(tmp_path / "missing.npz", [IMAGE])


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_pickled_objects_are_not_loaded(tmp_path: Path, suffix: str) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    path = tmp_path / f"c.{suffix}"
    if suffix == "npz":
        save(path, image=objects)
    else:
        np.save(path, objects, allow_pickle=True)
    with pytest.raises(InvalidData, match="runs code from it"):
        load_samples(path, [IMAGE])


FUNCTIONS = """
    import numpy as np
    asked = []
    def endless():
        while True:
            asked.append(1)
            yield np.full((3, 4, 5), len(asked), np.float32)
    def pairs():
        for n in range(3):
            yield np.ones((1, 3, 4, 5), np.float32), np.full(7, n)
    def named():
        return [{"ids": np.full((1, 7), n), "image": np.ones((3, 4, 5))} for n in range(3)]
    def labelled():
        yield np.ones((3, 4, 5), np.float32), 3, 4
    def misnamed():
        yield {"picture": np.ones((3, 4, 5))}
    def batched():
        yield np.ones((8, 2, 4, 5), np.float32)
    def broken():
        yield np.ones((3, 4, 5), np.float32)
        raise RuntimeError("the disk is gone")
    def number():
        return 3
    def nothing():
        return []
    def strings():
        yield [object()]
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module ``calibration_here`` in the current directory."""
    (tmp_path / "calibration_here.py").write_text(textwrap.dedent(FUNCTIONS))
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("calibration_here", None)


@pytest.mark.usefixtures("functions")
def test_functions() -> None:
    samples = load_samples("calibration_here:endless", [IMAGE], limit=4)
    assert samples.arrays["image"][:, 0, 0, 0, 0].tolist() == [1, 2, 3, 4]
    assert len(sys.modules["calibration_here"].asked) == 4
    for name in ("pairs", "named"):
        samples = load_samples(f"calibration_here:{name}", [IMAGE, IDS])
        assert samples.arrays["ids"][:, 0, 0].tolist() == [0, 1, 2]


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("labelled", "a sample has 3 arrays, the model 1 inputs"),
        ("misnamed", "expected image; found picture"),
        ("batched", r"expected 1x3x4x5 or 3x4x5, found 8x2x4x5"),
        ("broken", r"RuntimeError: the disk is gone"),
        ("number", "gave a int, not samples"),
        ("nothing", "no samples"),
        ("strings", "not an array of numbers"),
        ("missing", "has no 'missing'"),
    ],
)
def test_functions_that_do_not_fit(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_samples(f"calibration_here:{name}", [IMAGE])


def test_batches_are_taken_apart_and_labels_left_out() -> None:
    pictures, classes = torch.from_numpy(images(10, axis=False)), torch.arange(10)
    pairs = TensorDataset(pictures, classes)
    named: Any = [{"image": x, "labels": y} for x, y in zip(pictures, classes, strict=True)]
    expected = load_samples(images(10), [IMAGE])
    sources: list[Any] = [
        DataLoader(TensorDataset(pictures), batch_size=4),
        DataLoader(pairs, batch_size=4),
        DataLoader(pairs, batch_size=1),
        DataLoader(pairs, batch_size=None),
        pairs,
        DataLoader(named, batch_size=3),
        lambda: (images(10)[start : start + 5] for start in (0, 5)),
    ]
    for source in sources:
        assert load_samples(source, [IMAGE]).digest == expected.digest
    assert load_samples(sources[0], [IMAGE], limit=6).digest == expected.select(0, 6).digest


def test_batches_of_several_inputs() -> None:
    ids = torch.arange(70).reshape(10, 7)
    both = TensorDataset(torch.from_numpy(images(10, axis=False)), ids)
    samples = load_samples(DataLoader(both, batch_size=4), [IMAGE, IDS])
    np.testing.assert_array_equal(samples.arrays["ids"][:, 0], ids)
    assert samples.count == 10
    fixed = load_samples([np.zeros((4, 2, 6), np.float32)], [BATCH])
    assert fixed.count == 4


def test_data_in_memory() -> None:
    expected = load_samples(images(3), [IMAGE])
    batches: list[Any] = [
        {"image": images(3, axis=False)},
        torch.from_numpy(images(3)),
        list(images(3)),
        lambda: iter(torch.from_numpy(images(3))),
    ]
    for source in batches:
        samples = load_samples(source, [IMAGE])
        assert samples.digest == expected.digest
    with pytest.raises(InvalidData, match="at least 1"):
        load_samples(images(3), [IMAGE], limit=0)


def test_batches_above_one_need_their_whole_shape() -> None:
    assert load_samples(np.ones((5, 2, 6)), [BATCH]).count == 5
    with pytest.raises(InvalidData, match="expected Nx2x6, found 2x6"):
        load_samples(np.ones((2, 6)), [BATCH])


def test_generated_samples() -> None:
    flag = TensorSpec.plain("flag", (1,), "bool")
    samples = generate_samples([IMAGE, IDS, flag], 64, seed=3)
    assert samples.generated
    assert samples.arrays["image"].shape == (64, 1, 3, 4, 5)
    assert samples.ranges["image"] == (0.0, 1.0)
    assert samples.to_dict()["kinds"]["image"] == "smooth pictures in 0..1"
    assert set(np.unique(samples.arrays["ids"])) == {0, 1}
    assert samples.arrays["flag"].dtype == np.bool_
    assert samples.digest == generate_samples([IMAGE, IDS, flag], 64, seed=3).digest
    assert samples.digest != generate_samples([IMAGE, IDS, flag], 64, seed=4).digest


def test_what_is_reported_and_saved(tmp_path: Path) -> None:
    samples = load_samples(np.stack([np.zeros((1, 3, 4, 5)), np.ones((1, 3, 4, 5))]), [IMAGE])
    assert samples.ranges == {"image": (0.0, 1.0)}
    assert samples.to_dict()["samples"] == 2
    assert samples.select(1).ranges == {"image": (1.0, 1.0)}
    samples.save(tmp_path / "s.npz")
    np.testing.assert_array_equal(read_npz(tmp_path / "s.npz")["image"], samples.arrays["image"])


@settings(deadline=None, max_examples=40)
@given(
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    count=st.integers(1, 4),
    short=st.booleans(),
)
def test_every_shape_comes_back(shape: list[int], count: int, short: bool) -> None:
    spec = TensorSpec.plain("x", tuple(shape), "float32")
    data = np.arange(count * np.prod(shape), dtype=np.float32).reshape(count, *shape)
    given_data = data[:, 0] if short and shape[0] == 1 else data
    samples = load_samples(given_data, [spec])
    np.testing.assert_array_equal(samples.arrays["x"], data)
    rows = load_samples(list(given_data), [spec])
    assert rows.digest == samples.digest


def test_real_calibration_data(real_models: Path) -> None:
    inputs = [
        TensorSpec.plain(name, (1, size), "float32")
        for name, size in (("x", 576), ("h", 128), ("c", 128))
    ]
    for part in ("calib", "eval"):
        samples = load_samples(real_models / f"silero16k_{part}.npz", inputs, limit=8)
        assert samples.arrays["h"].shape == (8, 1, 128)
