"""Models on the device code there, without a GPU: the same file as on a CPU, to the byte, and whoever makes other numbers is told so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import minivae as mv
from minivae import DataError, UsageError, nn
from minivae.cli import main
from minivae.compress import LossyCoder, ProgressiveCoder, bits_back, compress, decompress, in_integers, portable, read_header
from minivae.compress.bit_swap import coder_of
from minivae.compress.bits_back import BitsBack
from minivae.compress.messages import Group, Shared
from minivae.compress.portable import Portable
from minivae.compress.tables import POSITION, logistic_table
from minivae.kernels.cpu import bits_back as kernels
from minivae.kernels.gpu import exact
from minivae.models import HierarchicalVAE
from minivae.runs import save

from ..compress.conftest import images_of, model_of
from .host import host, needs_compiler
from .host.fake_cupy import installed
from .host.transfers import Transfers

pytestmark = needs_compiler


@pytest.fixture
def cupy(monkeypatch):
    with installed(monkeypatch) as module:
        yield module


def with_layers_between():
    model = model_of("beta_binomial")
    norm = nn.BatchNorm(6)
    norm.running_mean[...], norm.running_var[...] = 0.3, 2.0
    model.encoder.layers[2:2] = [norm, nn.Activation("silu"), nn.Dropout(0.5, mv.Stream(1))]
    return model


def two_layers():
    return HierarchicalVAE((5, 4, 1), mv.Stream(3), latent=4, top=2, hidden=(6,))


STORIES = {
    "bernoulli": (model_of, "bernoulli"),
    "beta-binomial": (lambda: model_of("beta_binomial", activation="tanh"), "beta_binomial"),
    "logistic": (lambda: model_of("discretized_logistic", head="log_sigma", activation="softplus"), "discretized_logistic"),
    "conv": (lambda: model_of(arch="conv", channels=(3, 4)), "bernoulli"),
    "other layers": (with_layers_between, "beta_binomial"),
    "two layers": (two_layers, "bernoulli"),
}


def file_of(model, images, block=6):
    return compress(coder_of(model), images, block)


def back(model, file):
    return np.concatenate(list(decompress(coder_of(model), file)))


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_device_and_a_cpu_write_the_same_file_and_read_each_others(cupy, monkeypatch, story, threads):
    monkeypatch.setattr(bits_back, "threads", lambda: threads)
    make, likelihood = STORIES[story]
    x, there, here = images_of(likelihood), make().to("cuda"), make()
    assert isinstance(coder_of(there)._coder(), Shared) == (threads > 1)
    assert not isinstance(coder_of(here)._coder(), Shared)
    file = file_of(there, x)
    assert file == file_of(here, x)
    assert_array_equal(back(here, file), x)
    assert_array_equal(back(there, file), x)


def mistake(where="exact_product"):
    """An arithmetic of the device that is not exact: factors of 11 bits, as those of tensor cores are, or rounding down."""

    def product(a, w, y):
        short_a, short_w = (x.astype(np.float16).astype(np.float64) for x in (a, w))
        y += short_a @ short_w

    def round_off(y, scale, low, high):
        y[...] = (y * scale // 1).clip(low, high)
        return y

    return {"exact_product": ("product", product), "exact_round": ("round_off", round_off)}[where]


@pytest.mark.parametrize("where", ["exact_product", "exact_round"])
@pytest.mark.parametrize("network", ["encoder", "decoder"])
def test_a_device_that_makes_other_integers_writes_no_file(cupy, monkeypatch, where, network):
    model = model_of(activation="tanh")
    coder = BitsBack(model)
    getattr(coder, network).is_on_gpu = True
    monkeypatch.setattr(exact, *mistake(where))
    with pytest.raises(
        UsageError, match=rf"^{network}: \d+ of the first numbers that the GPU makes are not those of the CPU.* --device cpu"
    ):
        coder.encode(images_of())


def test_unchecked_its_file_would_be_told_and_never_read_as_other_images(cupy, monkeypatch):
    monkeypatch.setattr(exact, *mistake())
    monkeypatch.setattr(portable, "check_first", lambda *_: None)
    x, there = images_of(), model_of().to("cuda")
    file = file_of(there, x)
    assert file != file_of(model_of(), x)
    assert_array_equal(back(there, file), x)  # it agrees with itself
    with pytest.raises(DataError, match=r"does not decode to the images that were coded|ends before its images do"):
        back(model_of(), file)


@pytest.mark.parametrize(("story", "evaluations"), [("bernoulli", (1, 7)), ("two layers", (1, 7, 7, 7))])
@pytest.mark.parametrize(("n", "threads"), [(7, 1), (28, 1), (28, 3)])
def test_a_batch_is_a_copy_each_way(cupy, monkeypatch, story, evaluations, n, threads):
    """Of up to 64 blocks together: the encoder sees all images of a block at once, the other networks one of each block."""
    monkeypatch.setattr(bits_back, "threads", lambda: threads)
    make, likelihood = STORIES[story]
    x, coder = images_of(likelihood, n), coder_of(make().to("cuda"))
    coder.decode(coder.encode(x, 7))  # networks go to the device when they are first asked for something
    transfers = Transfers(monkeypatch)
    assert transfers.during(lambda: coder.encode(x, 7)) == (sum(evaluations),) * 2
    blocks = coder.encode(x, 7)
    assert transfers.during(lambda: coder.decode(blocks)) == (7 * len(evaluations),) * 2


def test_numbers_of_the_device_stay_there(cupy, monkeypatch):
    net = Portable(model_of(activation="tanh").to("cuda").decoder)
    a = np.rint(np.random.default_rng(0).normal(size=(9, 3)) * 256)
    exact_numbers, there = net(a), cupy.asarray(a)
    transfers, found = Transfers(monkeypatch), []
    assert transfers.during(lambda: found.append(net(there))) == (0, 0)
    assert_array_equal(found[0].get(), exact_numbers)


def test_a_model_in_integers_is_judged_on_the_device(cupy):
    """Its networks make the same integers; what lies between them rounds as float32 does, and a code that falls on the other side of a
    half moves by 2^-8, of which the test of rounding says what it costs."""
    there, here = (in_integers(model_of().to(device)) for device in ("cuda", "cpu"))
    x = images_of()
    a, b = (mv.losses(model, x, seed=0)["loss"] for model in (there, here))
    assert abs(a - b) <= 1e-3 * abs(b)
    moved = in_integers(model_of()).to("cuda")
    assert mv.losses(moved, x, seed=0)["loss"] == a


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: mv.models.Codec((32, 32, 3), mv.Stream(0), channels=4, latent=4), LossyCoder),
        (lambda: mv.models.ProgressiveCodec((32, 32, 3), mv.Stream(0), width=4, bits=8), ProgressiveCoder),
    ],
)
def test_photos_of_a_model_on_the_device_are_the_same_everywhere(cupy, make, kind):
    """Its encoder computes in floats on the device, and what it found is in the file; decoders are those of a CPU."""
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    there, here = kind(make().to("cuda")), kind(make())
    for file in (there.compress(photo), here.compress(photo)):
        assert_array_equal(there.decompress(file), here.decompress(file))


@given(st.integers(0, 10), st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_products_are_those_of_pythons_integers(rows, inner, columns, seed):
    """Up to 2^53, where a float32 has forgotten half of the digits."""
    rng = np.random.default_rng(seed)
    a, w = rng.integers(-(2**23), 2**23, (rows, inner)), rng.integers(-(2**24), 2**24, (inner, columns))
    y = rng.integers(-(2**20), 2**20, (rows, columns))
    expected = [
        [sum(int(p) * int(q) for p, q in zip(row, column, strict=True)) + int(s) for column, s in zip(w.T, start, strict=True)]
        for row, start in zip(a, y, strict=True)
    ]

    def run():
        out = y.astype(np.float64)
        exact.product(a.astype(np.float64), w.astype(np.float64), out)
        return out

    assert host(run).astype(int).tolist() == expected


@pytest.mark.parametrize("least", [-300.0, 0.0])
def test_rounding_is_that_of_pythons_integers(least):
    unit = 1 << 12
    sums = [k * unit + part for k in (-400, -3, -1, 0, 2, 400) for part in (-unit // 2, -1, 0, 1, unit // 2)]
    expected = [min(max((2 * y + unit) // (2 * unit), int(least)), 300) for y in sums]
    assert host(lambda: exact.round_off(np.array(sums, float), 2.0**-12, least, 300.0)).tolist() == expected


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("kind", [0, 1])
def test_threads_that_share_the_blocks_leave_the_same_messages(threads, kind):
    """Three blocks of bytes, pushed and popped: beta-binomial, and logistic, whose table has no row for each block."""
    rng, found = np.random.default_rng(0), []
    pixels, bins = rng.integers(0, 256, (3, 9)).astype(np.uint8), rng.integers(0, 2, (3, 4))
    first, second = rng.uniform(0.5, 3, (2, 3, 9)) if kind == 0 else (np.full((3, 9), n << POSITION) // 4 for n in (2, 40))
    table = logistic_table()
    for coder in (kernels, Shared(kernels, threads)):
        group = Group(np.full(3, 1 << 32), [np.arange(5, dtype=np.uint32)] * 3)
        group.make_room(100)
        coder.push_levels(*group.first(3), first, second, kind, table, 16, pixels)
        coder.push_uniform(*group.first(3), bins, 1)
        message = [a.tolist() for a in group.first(3)]
        coder.pop_uniform(*group.first(3), np.empty_like(bins), 1)
        again = np.empty_like(pixels)
        coder.pop_levels(*group.first(3), first, second, kind, table, 16, again)
        assert_array_equal(again, pixels)
        found.append(message)
    assert found[0] == found[1]


def test_the_commands_code_on_the_device(cupy, tmp_path, monkeypatch):
    save(model_of("beta_binomial"), tmp_path / "model.npz")
    x = images_of("beta_binomial", 8)
    np.save(tmp_path / "x.npy", x)

    transfers = Transfers(monkeypatch)

    def call(device, *arguments):
        down, up = transfers.during(lambda: main([str(a) for a in (*arguments, "--device", device)]))
        assert (down > 0, up > 0) == (device == "cuda",) * 2

    for device in ("cuda", "cpu"):
        call(device, "compress", tmp_path / "model.npz", tmp_path / "x.npy", "--out", tmp_path / device, "--block", 3)
        call(device, "decompress", tmp_path / "model.npz", tmp_path / device, "--out", tmp_path / "back.npy")
        assert_array_equal(np.load(tmp_path / "back.npy"), x)
    assert (tmp_path / "cuda").read_bytes() == (tmp_path / "cpu").read_bytes()
    assert read_header((tmp_path / "cuda").read_bytes()).images == 8
