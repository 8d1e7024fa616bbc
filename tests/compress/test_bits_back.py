"""Images come back to the byte, in as many bits as the integers' probabilities say, by whichever kernels and in whatever batch."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minivae import VAE, DataError, ShapeError, Stream, UsageError, use_backend
from minivae.compress import BitsBack, Block, total_bits
from minivae.compress.messages import LOW, Group, initial_words
from minivae.compress.pixels import PIXELS
from minivae.compress.reference import latent_slots, level_slots
from minivae.data import to_float
from minivae.models import AE, CVAE
from minivae.runs import save
from minivae.training import losses

from .conftest import images_of, model_of

every = pytest.mark.parametrize("likelihood", list(PIXELS))


@every
@pytest.mark.parametrize("options", [{}, {"shape": (8, 9, 3), "arch": "conv"}, {"shape": (7,)}, {"head": "log_sigma"}], ids=str)
@pytest.mark.parametrize("block", [1, 7, 23, 100])
def test_images_come_back_to_the_byte(likelihood, options, block):
    coder, x = BitsBack(model_of(likelihood, **options)), images_of(likelihood, shape=options.get("shape", (5, 4, 1)))
    blocks = coder.encode(x, block)
    assert [b.images for b in blocks] == [min(block, 23 - i) for i in range(0, 23, block)]
    assert_array_equal(coder.decode(blocks), x)
    for i, b in enumerate(blocks):  # each alone
        assert_array_equal(coder.decode([b], i), x[i * block : i * block + b.images])


@every
def test_kernels_and_reference_write_the_same_file(likelihood):
    """By numba in a batch of blocks and in Python's integers one after the other; and each reads the other's."""
    coder, x = BitsBack(model_of(likelihood)), images_of(likelihood, 9)
    fast = coder.encode(x, 4)
    with use_backend("numpy"):
        slow = coder.encode(x, 4)
        assert_array_equal(coder.decode(fast), x)
    for a, b in zip(fast, slow, strict=True):
        assert_array_equal(a.words, b.words)
        assert (a.images, a.crc) == (b.images, b.crc)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), likelihood=st.sampled_from(list(PIXELS)), bits=st.sampled_from([(1, 1, 9), (8, 24, 16), (12, 14, 12)])
)
def test_any_images_any_weights_any_precision(seed, likelihood, bits):
    """Weights far beyond those of a trained model too: posteriors narrower than a bin and far outside, pixels that are certain."""
    rng = np.random.default_rng(seed)
    model = model_of(likelihood, shape=(2, 3, 1))
    for p in model.parameters():
        p.data *= np.float32(10 ** rng.uniform(-1, 2))
    coder, x = BitsBack(model, *bits), images_of(likelihood, int(rng.integers(1, 12)), (2, 3, 1), seed)
    assert_array_equal(coder.decode(coder.encode(x, int(rng.integers(1, 6)))), x)


@every
def test_the_length_is_what_the_probabilities_say(likelihood):
    """-log2 p(x, z) / q(z | x) of the integers that were used, found again by decoding one by one; to a bit in a hundred."""
    coder, x = BitsBack(model_of(likelihood)), images_of(likelihood, 60)
    lengths = []
    coder.encode(x, 60, lengths)
    q, r = coder.posterior_bits, coder.pixel_bits
    expected = []
    for n in range(60):
        bins = last_bins(coder, x[: n + 1])
        means, inverses = coder.posterior(coder.pixels.of_images(x[n].reshape(1, -1)))
        slots = [latent_slots(int(m), int(v), coder.edges, coder.table, q) for m, v in zip(means[0], inverses[0], strict=True)]
        log_q = sum(np.log2(s(i + 1) - s(i)) - q for s, i in zip(slots, bins, strict=True))
        parameters, pixels = coder.parameters(bins[None]), coder.pixels.of_images(x[n].reshape(1, -1))[0]
        if likelihood == "bernoulli":
            log_p = sum(np.log2(o if k else (1 << r) - o) - r for o, k in zip(parameters[0][0].tolist(), pixels, strict=True))
        else:
            ways = [level_slots(a, b, coder.pixels.kind, coder.pixels.table, r) for a, b in zip(*(p[0] for p in parameters), strict=True)]
            log_p = sum(np.log2(s(int(k) + 1) - s(int(k))) - r for s, k in zip(ways, pixels, strict=True))
        expected.append(log_q - log_p + coder.latent * coder.latent_bits)
    np.testing.assert_allclose(np.diff(lengths[0]), expected, atol=0.01)


def last_bins(coder, x):
    """The latents of the last image of a block: what pop_uniform takes off first."""
    from minivae.compress import reference

    # a block of so many images that the initial bits are those of the whole
    (block,) = encode_with_words_of(coder, x, 60)
    head = np.array([int(block.words[-2]) | int(block.words[-1]) << 32], np.uint64)
    group, bins = Group(head, [block.words[:-2]]), np.empty((1, coder.latent), np.int64)
    reference.pop_uniform(*group.first(1), bins, coder.latent_bits)
    return bins[0]


def encode_with_words_of(coder, x, images):
    import minivae.compress.bits_back as module

    plain = module.initial_words
    try:
        module.initial_words = lambda block, count: plain(block, images * coder.latent)
        return coder.encode(x, len(x))
    finally:
        module.initial_words = plain


def test_the_length_is_the_elbo():
    """Of a model that was trained: coded length less initial bits, against -ELBO by 50 draws an image.  The message draws one z an image,
    as each of the 50 does, so that their spread is its standard error; 0.05 nats are left for integers in the place of floats."""
    import minivae as mv

    x = images_of("bernoulli", 5400, (6, 6, 1))
    x[:, :, :3] = x[:, :1, :1]  # something to learn
    model = VAE((6, 6, 1), Stream(0), latent=4, hidden=(20,))
    mv.fit(model, mv.data.Dataset("x", x[:600], None, x[600:], None), epochs=20, batch_size=50, lr=3e-3)
    lengths = []
    BitsBack(model).encode(x[600:], 4800, lengths)
    net = (lengths[0][-1] - lengths[0][0]) / 4800
    nats = np.array([losses(model, x[600:], seed)["loss"] for seed in range(50)])
    assert abs(net * np.log(2) - nats.mean()) < 5 * nats.std() + 0.05
    assert nats.std() < 0.1


def test_another_process_with_other_threads_reads_it(tmp_path):
    """Written with two threads by numba, read by the references, one image at a time, with another BLAS setting."""
    import numba

    model, x = model_of("beta_binomial", shape=(8, 7, 1)), images_of("beta_binomial", 12, (8, 7, 1))
    save(model, tmp_path / "model.npz")
    before = numba.get_num_threads()
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    try:
        blocks = BitsBack(model).encode(x, 3)
    finally:
        numba.set_num_threads(before)
    np.savez(tmp_path / "blocks.npz", x=x, **{f"w{i}": b.words for i, b in enumerate(blocks)}, crc=[b.crc for b in blocks])
    program = """
import numpy as np, minivae as mv
from minivae.compress import BitsBack, Block
mv.set_backend("numpy")
saved = np.load("blocks.npz")
coder = BitsBack(mv.load("model.npz"))
for i in range(4):
    block = Block(3, saved[f"w{i}"], int(saved["crc"][i]))
    assert (coder.decode([block], i) == saved["x"][3 * i : 3 * i + 3]).all()
"""
    import os

    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Haswell", "NUMBA_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(p) for p in sys.path if p])
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, timeout=300)


def test_a_batch_of_blocks_is_its_blocks(coder):
    x = images_of(n=40)
    together = coder.encode(x, 4)
    for i, block in enumerate(together):
        (alone,) = coder._encode_group([(coder.pixels.of_images(x[4 * i : 4 * i + 4].reshape(4, -1)), i)], None)
        assert_array_equal(alone.words, block.words)


def test_initial_bits_are_in_the_file_and_no_more(coder):
    """Each latent of the first image pops at most posterior_bits, and here an image leaves more than the next one takes; what was never
    touched of the 40 words a latent that lie ready is cut off."""
    lengths = []
    (block,) = coder.encode(images_of(n=40), 40, lengths)
    used = 32 * len(block.words) - (lengths[0][-1] - lengths[0][0]) - 32
    assert 0 < used <= coder.latent * coder.posterior_bits + 64 < 32 * len(initial_words(0, 40 * coder.latent))
    assert total_bits([block]) == 32 * len(block.words)


def test_no_images_are_no_blocks(coder):
    assert coder.encode(images_of(n=0)) == []
    assert coder.decode([]).shape == (0, 5, 4, 1)


def test_initial_words_differ_by_block():
    assert (initial_words(0, 50) != initial_words(1, 50)).any()
    assert_array_equal(initial_words(0, 50)[:20], initial_words(0, 20))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: AE((4, 4, 1), Stream(0), latent=2), "BitsBack codes with a VAE, and this is a AE"),
        (lambda: CVAE((4, 4, 1), Stream(0), condition=3), "this is a CVAE"),
        (lambda: VAE((4, 4, 1), Stream(0), likelihood="gaussian"), "the likelihood is gaussian, which gives no pixel a probability"),
        (lambda: VAE((4, 4, 1), Stream(0), arch="gru"), "encoder.layers.0 is a Rows, and integers are made of"),
    ],
)
def test_models_that_cannot_code_are_refused(make, sentence):
    with pytest.raises(UsageError, match=sentence):
        BitsBack(make())


@pytest.mark.parametrize("bits", [(0, 24, 16), (17, 24, 16), (12, 11, 16), (8, 31, 16), (8, 24, 8), (8, 24, 25)])
def test_precisions_out_of_range(bits):
    with pytest.raises(UsageError, match="need 1 to 16, as many to 30, 9 to 24"):
        BitsBack(model_of(), *bits)


def test_like_images_have_latents_of_their_own():
    """A chain of one image: z are draws from q(z | x), and not what the image before left in the message.  Judged by the mean and the
    variance of the bins' centres, within 5 standard errors, and by what an image adds: no less than with the images in any company."""
    model = model_of(shape=(5, 4, 1))
    coder, x = BitsBack(model, 12, 24, 16), images_of(n=1)
    chain = []
    coder.encode(np.repeat(x, 3000, axis=0), 3000, chain)
    mixed = []
    others = images_of(n=3000, seed=9)
    others[::2] = x
    coder.encode(others, 3000, mixed)
    alone, beside = np.diff(chain[0]), np.diff(mixed[0])[::2]
    error = np.hypot(alone.std() / np.sqrt(len(alone)), beside.std() / np.sqrt(len(beside)))
    assert abs(alone.mean() - beside.mean()) < 5 * error
    assert np.corrcoef(alone[1:], alone[:-1])[0, 1] < 5 / np.sqrt(3000)


def test_noise_is_noise(coder):
    """Of every image, latent and block another; each of its bits is set as often as not."""
    found = coder._noise([(None, 0), (None, 1)], 0, 2000)
    assert_array_equal(coder._noise([(None, 1)], 5, 3)[0], found[1, 5:8])
    assert len(np.unique(found)) > 0.99 * found.size
    share = [((found >> np.uint64(b)) & np.uint64(1)).mean() for b in range(coder.posterior_bits)]
    assert abs(np.array(share) - 0.5).max() < 5 * 0.5 / np.sqrt(found.size)
    assert found.max() < 1 << coder.posterior_bits


def test_images_that_do_not_fit(coder):
    with pytest.raises(DataError, match="the model codes black and white, and a pixel is 7"):
        coder.encode(np.full((2, 5, 4, 1), 7, np.uint8))
    with pytest.raises(ShapeError, match=r"images are uint8 \(2, 4, 4, 1\); the model codes uint8 \(N, 5, 4, 1\)"):
        coder.encode(np.zeros((2, 4, 4, 1), np.uint8))
    with pytest.raises(ShapeError, match="float64"):
        coder.encode(np.zeros((2, 5, 4, 1)))
    with pytest.raises(UsageError, match="blocks of 0 images"):
        coder.encode(images_of(), 0)


def test_what_is_no_block_is_refused(coder):
    (block,) = coder.encode(images_of(n=3), 3)
    for bad in (
        block._replace(images=0),
        block._replace(images=1 << 20),
        block._replace(words=block.words[:1]),
        block._replace(words=block.words[1:]),
        block._replace(images=2),
        block._replace(images=4),
        block._replace(crc=block.crc ^ 1),
        block._replace(words=np.append(block.words[:-1], np.uint32(0))),
        Block(3, np.append(np.zeros(1, np.uint32), block.words), block.crc),
    ):
        with pytest.raises(DataError, match=r"the file was (cut or )?altered"):
            coder.decode([bad])
    with pytest.raises(DataError, match="altered"):
        coder.decode([block], first=1)  # the initial bits are those of another block
    assert block.words[-1] >= LOW >> 32


def test_a_flipped_bit_anywhere_is_found(coder):
    x = images_of(n=3)
    (block,) = coder.encode(x, 3)
    for i in range(len(block.words)):
        for bit in (0, 13, 31):
            words = block.words.copy()
            words[i] ^= np.uint32(1 << bit)
            with pytest.raises(DataError):
                coder.decode([block._replace(words=words)])


def test_float_images_are_the_models(coder):
    """What the encoder takes is what the model was trained on, k / 255, to half of 2^-8."""
    k = np.arange(256, dtype=np.uint8)[None]
    assert abs(PIXELS["beta_binomial"](16).inputs(k) / 256 - to_float(k)).max() <= 1 / 512 + 1e-7
