"""Data as people have it: each format against arrays that the test wrote itself, and each fault as a sentence."""

import gzip
import struct

import numpy as np
import pytest

import minivae as mv
from minivae import UsageError
from minivae.cli import main
from minivae.data import images as folder_images
from minivae.data import load
from minivae.errors import DataError

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
RNG = np.random.default_rng(0)


def draw(*shape):
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def everything(data):
    return sorted(image.tobytes() for image in np.concatenate([data.train_images, data.test_images]))


def test_the_commonest_file_of_mnist(tmp_path):
    x, y, xt, yt = draw(6, 28, 28), np.arange(6, dtype=np.uint8), draw(3, 28, 28), np.arange(3, dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=xt, y_test=yt)
    data = load(tmp_path / "mnist.npz")
    np.testing.assert_array_equal(data.train_images[..., 0], x)
    np.testing.assert_array_equal(data.test_labels, yt)
    np.savez(tmp_path / "cifar.npz", x_train=draw(6, 4, 4, 3), y_train=y[:, None], x_test=draw(3, 4, 4, 3), y_test=yt[:, None])
    assert load(tmp_path / "cifar.npz").train_labels.tolist() == list(range(6))


def cifar_bytes(x, y):
    return b"".join(bytes([label]) + image.transpose(2, 0, 1).tobytes() for image, label in zip(x, y, strict=True))


def test_cifar_batches(tmp_path):
    x, y = draw(7, 32, 32, 3), np.arange(7) % 10
    (tmp_path / "data_batch_1.bin").write_bytes(cifar_bytes(x[:3], y[:3]))
    (tmp_path / "data_batch_2.bin").write_bytes(cifar_bytes(x[3:5], y[3:5]))
    with pytest.raises(DataError, match=r"has 2 data_batch_\*\.bin, and needs these and test_batch\.bin"):
        load(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(cifar_bytes(x[5:], y[5:]))
    data = load(tmp_path)
    np.testing.assert_array_equal(data.train_images, x[:5])
    np.testing.assert_array_equal(data.test_images, x[5:])
    assert (data.train_labels.tolist(), data.label_names[3]) == ([0, 1, 2, 3, 4], "cat")
    assert len(load(tmp_path / "test_batch.bin").train_images) == 1
    (tmp_path / "cut.bin").write_bytes(cifar_bytes(x[:1], y[:1])[:-1])
    with pytest.raises(DataError, match=r"has 3072 bytes; a batch of CIFAR-10 is records of 3073"):
        load(tmp_path / "cut.bin")
    (tmp_path / "odd.bin").write_bytes(cifar_bytes(x[:1], [77]))
    with pytest.raises(DataError, match="has a label 77"):
        load(tmp_path / "odd.bin")


def idx_bytes(a):
    return bytes([0, 0, 8, a.ndim]) + struct.pack(f">{a.ndim}I", *a.shape) + a.tobytes()


def test_idx_files_of_any_name(tmp_path):
    x, y = draw(20, 5, 4), (np.arange(20) % 3).astype(np.uint8)
    for part, at in (("train", slice(14)), ("test", slice(14, 20))):
        (tmp_path / f"emnist-letters-{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(x[at])))
        (tmp_path / f"emnist-letters-{part}-labels-idx1-ubyte").write_bytes(idx_bytes(y[at]))
    data = load(tmp_path)
    np.testing.assert_array_equal(data.train_images[..., 0], x[:14])
    np.testing.assert_array_equal(data.test_labels, y[14:])
    alone = load(tmp_path / "emnist-letters-test-images-idx3-ubyte.gz")
    assert everything(alone) == sorted(image.tobytes() for image in x[14:])
    (tmp_path / "more-train-images-idx3-ubyte").write_bytes(idx_bytes(x))
    with pytest.raises(DataError, match="these IDX files of images: emnist-letters-test-images"):
        load(tmp_path)
    (tmp_path / "emnist-letters-test-labels-idx1-ubyte").write_bytes(idx_bytes(y))
    with pytest.raises(DataError, match=r"holds uint8 \(20,\), and .* 6 images; need as many"):
        load(tmp_path / "emnist-letters-test-images-idx3-ubyte.gz")


def test_a_table_of_vectors(tmp_path):
    x = np.random.default_rng(2).normal(size=(40, 3)) * [1, 10, 0] + [5, 0, 7]
    lines = ["a,b,c,kind", *(f"{r[0]},{r[1]},{r[2]},{'xy'[i % 2]}" for i, r in enumerate(x))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"row 2, column kind: 'x' is no number; choose it as the class with --label-column kind"):
        load(tmp_path / "t.csv")
    data = load(tmp_path / "t.csv", label="kind")
    assert (data.shape, data.label_names, data.train_images.dtype) == ((3,), ("x", "y"), np.float32)
    assert everything(data) == sorted(row.tobytes() for row in x.astype(np.float32))
    standard = load(tmp_path / "t.csv", label="kind", standardize=True)
    np.testing.assert_allclose(standard.train_images.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(standard.train_images.std(axis=0), [1, 1, 0], atol=1e-5)
    kept = standard.preparation
    np.testing.assert_allclose(standard.test_images * kept["sd"] + kept["mean"], data.test_images, rtol=1e-4, atol=1e-5)
    assert "1 of 3 columns are constant" in standard.note
    np.save(tmp_path / "t.npy", x)
    assert load(tmp_path / "t.npy").shape == (3,)
    x[3, 1] = np.nan
    np.save(tmp_path / "t.npy", x)
    with pytest.raises(DataError, match="holds 1 values that are not finite, the first in row 3, column 1"):
        load(tmp_path / "t.npy")
    for text, message in (
        ("", "has 0 rows under its header"),
        ("a,b\n1,2\n3", "row 3: 1 values, and the header names 2 columns"),
        ("a,b\n1,2\n3,", "row 3, column b: '' is no number"),
    ):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(DataError, match=message):
            load(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4")
    with pytest.raises(UsageError, match="has no column 'c'; its columns are a, b"):
        load(tmp_path / "t.csv", label="c")
    with pytest.raises(UsageError, match=r"size is 8, and .* is a table, which has no use for it"):
        load(tmp_path / "t.csv", size=8)


def test_vectors_go_through_the_command_line(tmp_path, capsys):
    x = np.random.default_rng(3).normal(size=(60, 4)) + (np.arange(60) % 2)[:, None] * 3
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,d", *(",".join(map(str, row)) for row in x)]))
    run = str(tmp_path / "run")
    train = [
        "train",
        str(tmp_path / "t.csv"),
        "--standardize",
        "--likelihood",
        "gaussian",
        "--hidden",
        "8",
        "--latent",
        "2",
        "--epochs",
        "2",
    ]
    assert main([*train, "--out", run]) == 0
    assert "standardized by the mean" in capsys.readouterr().out
    assert main(["resume", run, "--epochs", "3"]) == 0
    assert main(["evaluate", run, "--samples", "5"]) == 0
    assert main(["sample", run, "--count", "7"]) == 0
    made = np.load(tmp_path / "run" / "samples.npy")
    assert made.shape == (7, 4)
    assert main(["gradcheck", run]) == 0
    assert mv.Run.open(run).source["standardize"] is True


# --- image files -----------------------------------------------------------------------------------------------------------------------


def save(path, pixels, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)


@pytest.mark.parametrize("ending", ["bmp", "tif", "tiff", "webp", "gif", "PNG"])
def test_every_kind_of_file_comes_back(tmp_path, ending):
    kept = {}
    for i in range(2):
        pixels = draw(6, 5, 3) if ending != "gif" else np.repeat(draw(6, 5, 1) // 16 * 16, 3, axis=2)
        pixels = (pixels + i).astype(np.uint8)
        save(tmp_path / f"{i}.{ending}", pixels, **({"lossless": True} if ending == "webp" else {}))
        kept[i] = pixels
    assert everything(load(tmp_path, progress=False)) == sorted(p.tobytes() for p in kept.values())


def test_the_first_frame_of_a_gif(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), 40 * k, np.uint8)) for k in range(3)]
    for i in range(2):
        frames[0].save(tmp_path / f"{i}.gif", save_all=True, append_images=frames[1:])
    assert np.unique(load(tmp_path, progress=False, mode="gray").train_images).tolist() == [0]


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    deep = np.array([[0, 257, 128 * 257], [65535, 300, 40000]], np.uint16)
    for i in range(2):
        save(tmp_path / f"{i}.png", deep)
    data = load(tmp_path, progress=False)
    np.testing.assert_array_equal(data.train_images[0, ..., 0], [[0, 1, 128], [255, 1, 156]])  # round(v / 257)


def test_transparent_pixels_lie_on_a_background(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (255, 0, 0, 255)
    pixels[1, 1] = (0, 0, 0, 128)
    for i in range(2):
        save(tmp_path / f"{i}.png", pixels)
    with pytest.raises(DataError, match=r"0\.png has transparent pixels; say what they lie on: --background white"):
        load(tmp_path, progress=False)
    data = load(tmp_path, progress=False, background="white")
    np.testing.assert_array_equal(data.train_images[0], [[[255, 0, 0], [255] * 3], [[255] * 3, [127] * 3]])  # 255 (1 - 128/255)
    assert data.preparation == {"background": "white"}
    assert "transparent pixels laid on white" in data.note
    with pytest.raises(UsageError, match="background 'wite' is no colour"):
        load(tmp_path, background="wite")


def test_photos_of_any_size(tmp_path):
    rng = np.random.default_rng(4)
    blocks = {}
    for i, (height, width) in enumerate([(8, 8), (8, 20), (30, 8), (16, 16)]):
        save(tmp_path / f"{i}.png", rng.integers(0, 256, (height, width, 3), np.uint8))
        blocks[i] = (height, width)
    with pytest.raises(DataError, match=r"0\.png is 8x8 colour and 1\.png is 20x8 colour; give all one size and one mode: --size 64"):
        load(tmp_path, progress=False)
    data = load(tmp_path, progress=False, size=8)
    assert data.shape == (8, 8, 3)
    assert data.preparation == {"size": [8, 8]}
    assert "resized on the shorter side and cut to 8x8 in the centre" in data.note
    # what has the size already is left alone, and of the long ones it is the centre that is kept
    whole = [np.asarray(Image.open(tmp_path / f"{i}.png")) for i in range(3)]
    wanted = [whole[0], whole[1][:, 6:14], whole[2][11:19]]
    assert {w.tobytes() for w in wanted} <= set(everything(data))
    assert load(tmp_path, progress=False, size=(4, 6), mode="gray").shape == (4, 6, 1)
    flat = np.full((50, 70, 3), 77, np.uint8)
    for i in range(4):
        save(tmp_path / f"{i}.png", flat)
    assert np.unique(load(tmp_path, progress=False, size=16).train_images).tolist() == [77]
    for bad in (0, (3, 4, 5)):
        with pytest.raises(UsageError, match="need a number of pixels"):
            load(tmp_path, size=bad)


def test_orientation_palettes_and_cmyk(tmp_path):
    pixels = draw(2, 3, 3) // 64 * 64
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(np.rot90(pixels, -1).copy()).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "b.png")
    data = load(tmp_path, progress=False)
    assert everything(data) == [np.rot90(pixels, -1).tobytes()] * 2
    (tmp_path / "a.png").unlink()
    Image.new("CMYK", (2, 3), (0, 255, 255, 0)).save(tmp_path / "c.tif")
    assert load(tmp_path, progress=False).shape == (3, 2, 3)


@pytest.mark.parametrize("kind", ["csv", "celeba"])
def test_a_table_of_attributes_names_the_classes(tmp_path, kind):
    faces = tmp_path / "img_align_celeba"
    for i in range(20):
        save(faces / f"{i:06}.png", np.full((3, 3), 10 * i, np.uint8))
    smiles = [1 if i % 4 == 0 else -1 for i in range(20)]
    if kind == "csv":
        text = "\n".join(["image_id,Smiling", *(f"{i:06}.png,{s}" for i, s in enumerate(smiles))])
        (faces / "table.csv").write_text(text)
    else:
        text = "\n".join(["20", "Young Smiling", *(f"{i:06}.png  1 {s}" for i, s in enumerate(smiles))])
        (tmp_path / "list_attr_celeba.txt").write_text(text)
    data = load(faces, progress=False, label="Smiling")
    assert data.label_names == ("-1", "1")
    for x, label in zip(data.train_images, data.train_labels, strict=True):
        assert (x[0, 0, 0] // 10 % 4 == 0) == (label == 1)
    with pytest.raises(UsageError, match="has no column 'Smile'"):
        load(faces, progress=False, label="Smile")
    save(faces / "stray.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(DataError, match=r"has no row for stray\.png \(and 0 more of 21 images\)"):
        load(faces, progress=False, label="Smiling")


@pytest.mark.parametrize("large", [2**30, 100])
@pytest.mark.parametrize("place", ["in", "beside"])
def test_celebas_attributes_stay_with_their_images(tmp_path, monkeypatch, large, place):
    """Image i is of gray 8 i, and its attributes are the bits of i, 1 or -1; in memory, and read as they are needed."""
    monkeypatch.setattr(folder_images, "LARGE", large)
    folder = tmp_path / "photos"
    for i in range(30):
        save(folder / f"{i:06}.png", np.full((4, 4), 8 * i, np.uint8))
    lines = [f"{i:06}.png " + " ".join(f"{2 * (i >> b & 1) - 1:2d}" for b in range(5)) for i in range(29, -1, -1)]
    table = (folder if place == "in" else tmp_path) / "list_attr_celeba.txt"
    table.write_text("\n".join(["30", "Zero One Two Three Four", *lines]))
    for label in (None, "Two"):
        data = load(folder, progress=False, label=label)
        assert list(data.test_attributes) == ["Zero", "One", "Two", "Three", "Four"]
        number = sum((values > 0) * 2**b for b, values in enumerate(data.test_attributes.values()))
        np.testing.assert_array_equal(8 * number, data.test_images[:, 0, 0, 0])
        assert "5 attributes of list_attr_celeba.txt" in data.note
    table.write_text("\n".join(["29", "Zero One Two Three Four", *lines[1:]]))
    data = load(folder, progress=False)
    assert not data.test_attributes
    assert "no row for 000029.png and 0 more of 30 images" in data.note
    table.write_text("\n".join(["30", "Zero One Two Three Four", *lines[1:], "000029.png 1 1 1 1 yes"]))
    with pytest.raises(DataError, match="the attributes are 1 and -1"):
        load(folder, progress=False)


def test_more_images_than_memory_are_read_as_they_are_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_images, "LARGE", 100)
    written = []
    for i in range(30):
        save(tmp_path / "mine" / f"{'ab'[i % 2]}" / f"{i}.png", np.full((4, 4), i, np.uint8))
        written.append(np.full((4, 4, 1), i, np.uint8).tobytes())
    data = load(tmp_path / "mine", progress=False)
    assert isinstance(data.train_images, np.memmap)
    assert everything(data) == sorted(written)
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        np.testing.assert_array_equal(images[:, 0, 0, 0] % 2, labels)
    (batch, *_) = mv.data.batches(data.train_images, 5, mv.Stream(0))
    assert batch.shape == (5, 4, 4, 1)
    calls = []
    monkeypatch.setattr(folder_images, "_fill", lambda *rest: calls.append(rest))
    load(tmp_path / "mine", progress=False)  # once made, the cache is used
    assert calls == []
    monkeypatch.undo()
    monkeypatch.setenv("MINIVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(folder_images, "LARGE", 100)
    (cache,) = (tmp_path / "cache" / "images").glob("*.npy")
    cache.write_bytes(b"no array")
    with pytest.raises(DataError, match=r"the cache of .* is damaged"):
        load(tmp_path / "mine", progress=False)
    cache.unlink()
    (tmp_path / "mine" / "b" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.png is no readable image"):
        load(tmp_path / "mine", progress=False)
    assert list((tmp_path / "cache" / "images").iterdir()) == []  # nothing half made is left


def test_a_path_of_an_unknown_kind_lists_what_is_known(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match=r"the path of a folder of image files, of an \.npy, \.npz or \.csv file, or of IDX"):
        load(tmp_path / "notes.txt")
