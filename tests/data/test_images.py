import io
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from minivae.data import load, to_float
from minivae.errors import DataError, ShapeError, UsageError

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write(path, pixels: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path)


def everything(data) -> list[bytes]:
    return sorted(image.tobytes() for image in np.concatenate([data.train_images, data.test_images]))


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3)])
def test_png_files_come_back_bit_for_bit(tmp_path, shape):
    images = draw(30, *shape)
    for i, pixels in enumerate(images):
        write(tmp_path / "mine" / f"{i}.png", pixels)
    data = load(str(tmp_path / "mine"), progress=False)
    assert data.name == "mine"
    assert data.image_shape == (5, 4, 1 if len(shape) == 2 else 3)
    assert (len(data.train_images), len(data.test_images)) == (27, 3)
    assert data.train_labels is data.test_labels is None
    assert everything(data) == sorted(image.tobytes() for image in images)
    assert_array_equal(load(tmp_path / "mine", progress=False).test_images, data.test_images)  # a fixed split


def test_sub_folders_are_labels(tmp_path):
    for label, name in enumerate(["ant", "bee", "cat"]):
        for i in range(20):
            write(tmp_path / name / f"deep{i % 2}" / f"{i}.PNG", np.full((2, 2), 50 * label + i, np.uint8))
    write(tmp_path / ".thumbnails" / "a.png", draw(9, 9))
    (tmp_path / "ant" / "notes.txt").write_text("no image")
    data = load(tmp_path, progress=False)
    assert data.label_names == ("ant", "bee", "cat")
    for images, labels, n in ((data.train_images, data.train_labels, 18), (data.test_images, data.test_labels, 2)):
        assert np.bincount(labels).tolist() == [n] * 3
        assert_array_equal(images[:, 0, 0, 0] // 50, labels)
    write(tmp_path / "loose.png", draw(2, 2))
    data = load(tmp_path, progress=False)
    assert data.train_labels is None
    assert data.note.startswith("no labels, because 1 of the 61 images")


def test_jpeg_files(tmp_path):
    smooth = np.add.outer(np.arange(16) * 8, np.arange(16) * 7).astype(np.uint8)
    for i, suffix in enumerate([".jpg", ".jpeg", ".JPG"]):
        write(tmp_path / f"{i}{suffix}", smooth)
    data = load(tmp_path, progress=False)
    assert data.image_shape == (16, 16, 1)
    assert np.abs(data.train_images[0, ..., 0].astype(int) - smooth).max() <= 16  # lossy, but the same picture


def test_a_photograph_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF 2.32, tag Orientation: row 0 is the right-hand side
    pixels = draw(2, 3)
    for i in range(2):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png", exif=exif)
    assert_array_equal(load(tmp_path, progress=False).train_images[0, ..., 0], pixels[::-1].T)


def test_modes_that_hold_the_same_pixels(tmp_path):
    black_white = np.array([[0, 255], [255, 255]], np.uint8)
    for mode in ("L", "1", "LA"):
        write(tmp_path / "gray" / f"{mode}.png", black_white, mode)
    data = load(tmp_path / "gray", progress=False)
    assert everything(data) == [black_white.tobytes()] * 3
    few_colours = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)
    for mode in ("RGB", "RGBA", "P"):
        write(tmp_path / "colour" / f"{mode}.png", few_colours, mode)
    data = load(tmp_path / "colour", progress=False)
    assert everything(data) == [few_colours.tobytes()] * 3


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (draw(4, 5), r"a\.png is 4x5 gray and b\.png is 5x4 gray; give all one size"),
        (draw(5, 4, 3), r"a\.png is 4x5 gray and b\.png is 4x5 colour"),
        (draw(5, 4, 4), r"b\.png has transparent pixels; say what they lie on: --background white"),
    ],
)
def test_images_that_do_not_fit_are_named(tmp_path, other, sentence):
    write(tmp_path / "a.png", draw(5, 4))
    write(tmp_path / "b.png", other)
    with pytest.raises(DataError, match=sentence):
        load(tmp_path, progress=False)


@pytest.mark.parametrize("content", [b"", b"no image", "cut", "flipped"])
def test_a_damaged_image_is_named(tmp_path, content):
    write(tmp_path / "a.png", draw(64, 64))
    whole = (tmp_path / "a.png").read_bytes()
    damaged = {"cut": whole[: len(whole) // 2], "flipped": whole[:14] + bytes(20) + whole[34:]}.get(content, content)
    (tmp_path / "b.png").write_bytes(damaged)
    with pytest.raises(DataError, match=r"b\.png is no readable image"):
        load(tmp_path, progress=False)


def test_a_folder_without_images_and_a_machine_without_pillow(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"holds no \.png, \.jpg, \.jpeg, \.webp"):
        load(tmp_path)
    write(tmp_path / "a.png", draw(2, 2))
    with pytest.raises(DataError, match="at least 2 images"):
        load(tmp_path, progress=False)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match=r'Pillow, which is not installed; pip install "minivae\[demos\]"'):
        load(tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("shape", [(20, 5, 4), (20, 5, 4, 1), (20, 5, 4, 3)])
def test_an_array_file_gives_its_bytes_back(tmp_path, shape, dtype):
    images = draw(*shape)
    # float16 has 11 bits: k / 255 is off by less than 2^-12, which is 0.06 of a byte's step
    np.save(tmp_path / "x.npy", images if dtype == np.uint8 else to_float(images).astype(dtype))
    data = load(tmp_path / "x.npy")
    assert data.image_shape == (*shape[1:3], shape[3] if len(shape) == 4 else 1)
    assert everything(data) == sorted(image.tobytes() for image in images)


def test_floats_go_to_the_nearest_byte_and_bools_to_both_ends(tmp_path):
    x = np.array([0, 0.4, 0.6, 127.4, 127.6, 254.4, 254.6, 255]) / 255
    np.save(tmp_path / "x.npy", np.tile(x, (2, 1, 1)))
    assert load(tmp_path / "x.npy").train_images.ravel().tolist() == [0, 0, 1, 127, 128, 254, 255, 255]
    np.save(tmp_path / "b.npy", np.tile(np.array([False, True]), (2, 1, 1)))
    assert load(tmp_path / "b.npy").train_images.ravel().tolist() == [0, 255]


def test_npz_with_and_without_a_split(tmp_path):
    images, labels = draw(40, 3, 3), np.arange(40, dtype=np.int32) % 2
    np.savez(tmp_path / "split.npz", train_images=images[:30], test_images=images[30:], train_labels=labels[:30], test_labels=labels[30:])
    data = load(tmp_path / "split.npz")
    assert_array_equal(data.train_images[..., 0], images[:30])
    assert_array_equal(data.test_images[..., 0], images[30:])
    assert_array_equal(data.test_labels, labels[30:])
    np.savez_compressed(tmp_path / "images.npz", images=images, labels=labels)
    data = load(tmp_path / "images.npz")
    label_of = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    assert [label_of[image.tobytes()] for image in data.train_images] == data.train_labels.tolist()
    assert np.bincount(data.test_labels).tolist() == [2, 2]
    np.savez(tmp_path / "one.npz", images)
    assert everything(load(tmp_path / "one.npz")) == everything(data)


def bad_arrays():
    good, nan = draw(4, 3, 3), np.zeros((4, 3, 3))
    nan[1, 1, 1] = np.nan
    yield "rank", good[0, 0], r"images has shape \(3,\); need \(N, H, W\)"
    yield "empty", good[:0], r"shape \(0, 3, 3\).*none of them 0"
    yield "channels first", draw(4, 3, 8, 8), r"looks like \(N, C, H, W\).*transpose"
    yield "int64", good.astype(np.int64), "dtype int64; need uint8"
    yield "text", np.full((4, 3, 3), "a"), "dtype <U1"
    yield "nan", nan, "values from nan to nan"
    yield "infinite", np.full((4, 3, 3), np.inf), "values from inf to inf"
    yield "0 to 255", good.astype(np.float32), r"values from \d+ to \d+; floats must lie in \[0, 1\]"
    yield "negative", np.full((4, 3, 3), -1e-7), "values from -1e-07"
    yield "pickled", np.full((4, 3, 3), None), "no readable .npy or .npz file of numbers: Object arrays"


@pytest.mark.parametrize(("array", "sentence"), [pytest.param(*case[1:], id=case[0]) for case in bad_arrays()])
def test_bad_arrays_get_a_sentence(tmp_path, array, sentence):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=sentence):
        load(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("arrays", "error", "sentence"),
    [
        ({"images": draw(4, 3, 3), "labels": np.arange(3)}, DataError, r"labels are int64 of shape \(3,\).*\(4,\)"),
        ({"images": draw(4, 3, 3), "labels": np.zeros(4)}, DataError, "labels are float64"),
        (
            {"a": draw(4, 3, 3), "b": draw(4, 3, 3)},
            DataError,
            "holds a, b; need train_images and test_images, or x_train",
        ),
        ({"train_images": draw(4, 3, 3), "test_images": draw(4, 3, 2)}, ShapeError, "need equal shapes"),
    ],
)
def test_bad_archives_get_a_sentence(tmp_path, arrays, error, sentence):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(error, match=sentence):
        load(tmp_path / "x.npz")


def test_damaged_array_files_get_a_sentence(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, images=draw(4, 3, 3))
    packed = buffer.getvalue()
    for content in (b"", b"junk", packed[:100], packed[:60] + b"\0\0\0" + packed[63:]):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"x\.npz"):
            load(tmp_path / "x.npz")
    with pytest.raises(DataError, match=r"none\.npy.*No such file"):
        load(tmp_path / "none.npy")
