"""A directory of images becomes the input of an image model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeconv.core.artifacts import TensorSpec
from edgeconv.core.errors import InvalidData, UsageError
from edgeconv.samples.load import load_samples

RGB = TensorSpec.plain("image", (1, 3, 4, 6), "float32")


def save(path: Path, pixels: object, mode: str = "RGB") -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images of one colour each; image ``n`` has red ``40 n``."""
    for number in range(6):
        place = tmp_path / "images" / f"class{number // 3}" / f"{number}.png"
        save(place, np.full((9, 9, 3), (40 * number, 100, 0)))
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    (tmp_path / "images" / ".hidden.png").write_text("not an image")
    return tmp_path / "images"


def reds(images: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> list[int]:
    return [round(float(image[0, 0].mean()) * 255) for image in images]


def test_images_are_read_in_order(folder: Path) -> None:
    samples = load_samples(folder, [RGB])
    images = samples.arrays["image"]
    assert images.shape == (6, 1, 3, 4, 6)
    assert images.dtype == np.float32
    assert reds(images) == [0, 40, 80, 120, 160, 200]
    np.testing.assert_allclose(images[:, :, 1], 100 / 255)


def test_a_limit_takes_from_all_classes(folder: Path) -> None:
    assert reds(load_samples(folder, [RGB], limit=2).arrays["image"]) == [0, 200]


def test_normalisation(folder: Path) -> None:
    samples = load_samples(folder, [RGB], mean=[0.5, 0.4, 0.3], std=[0.1, 0.2, 0.5])
    np.testing.assert_allclose(
        samples.arrays["image"][0, 0, :, 0, 0],
        [-5, (100 / 255 - 0.4) / 0.2, -0.6],
        rtol=1e-5,
    )
    with pytest.raises(InvalidData, match="2 values of mean for 3 channels"):
        load_samples(folder, [RGB], mean=[0.5, 0.4])
    with pytest.raises(UsageError, match="standard deviation must be above 0"):
        load_samples(folder, [RGB], std=[0.0])


def test_grey_channels_last_and_integer_inputs(folder: Path) -> None:
    grey = TensorSpec.plain("g", (1, 1, 4, 6), "float32")
    assert load_samples(folder, [grey]).arrays["g"].shape == (6, 1, 1, 4, 6)
    last = TensorSpec.plain("l", (1, 4, 6, 3), "uint8")
    images = load_samples(folder, [last]).arrays["l"]
    assert images.shape == (6, 1, 4, 6, 3)
    assert images.dtype == np.uint8
    assert images[5, 0, 0, 0].tolist() == [200, 100, 0]


def test_the_centre_is_kept(tmp_path: Path) -> None:
    wide = np.zeros((4, 12, 3))
    wide[:, 3:9] = 255
    save(tmp_path / "d" / "wide.png", wide)
    assert load_samples(tmp_path / "d", [RGB]).arrays["image"].min() == 1.0


def test_exif_turns_the_image(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    pixels = np.zeros((6, 4, 3), np.uint8)
    pixels[:3] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "d" / "turned.png", exif=exif)
    image = load_samples(tmp_path / "d", [RGB]).arrays["image"][0, 0, 0]
    assert image[:, 0].max() == 0
    assert image[:, -1].min() == 1


def test_palette_and_transparent_images(tmp_path: Path) -> None:
    save(tmp_path / "d" / "p.png", np.full((4, 6, 3), 255), "P")
    save(tmp_path / "d" / "l.png", np.full((4, 6, 3), 255), "L")
    assert load_samples(tmp_path / "d", [RGB]).arrays["image"].min() == 1.0


def test_images_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = folder / "class0" / "1.png"
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidData, match=r"1\.png: the image cannot be read"):
        load_samples(folder, [RGB])
    broken.write_bytes(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    with pytest.raises(InvalidData, match="decompression bomb"):
        load_samples(folder, [RGB])


def test_directories_without_images(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="no images in this directory"):
        load_samples(tmp_path, [RGB])


@pytest.mark.parametrize(
    "inputs",
    [
        [RGB, TensorSpec.plain("ids", (1, 7), "int64")],
        [TensorSpec.plain("x", (1, 7), "float32")],
        [TensorSpec.plain("x", (1, 5, 4, 5), "float32")],
        [TensorSpec.plain("x", (2, 3, 4, 5), "float32")],
        [TensorSpec.plain("x", (1, 3, 4, 5), "int64")],
    ],
)
def test_models_that_take_no_images(folder: Path, inputs: list[TensorSpec]) -> None:
    with pytest.raises(InvalidData, match="does not fit this model"):
        load_samples(folder, inputs)
