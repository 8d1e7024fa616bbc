"""A picture comes back as its bits say, whoever decodes it and wherever the file ends; what was altered is told."""

import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

import minivae as mv
from minivae.compress import ProgressiveCoder, progressive
from minivae.compress.iterations import CHUNK, CODED, GAINS, HEAD, MAGIC, RAW, VERSION, checksum, code_bits, ends, gain_for, unpack_bits
from minivae.errors import DataError, ShapeError, UsageError
from minivae.models import ProgressiveCodec

PHOTO = data.astronaut()[50:150, 100:170]


def model_of(seed=0, width=4, bits=5):
    """Weights that spread its pixels, and biases that are not zero; nothing is trained."""
    made = ProgressiveCodec((32, 32, 3), mv.Stream(seed), width=width, bits=bits)
    rng = np.random.default_rng(seed)
    for p in made.parameters():
        if p.ndim == 1:
            p.data[...] = rng.normal(0, 0.2, p.shape)
    return made


@pytest.fixture(scope="module")
def model():
    return model_of()


@pytest.fixture(scope="module")
def coder(model):
    """Its writer takes a gain that shows each iteration: least squares would all but leave out what weights that nobody trained say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progressive, "gain_for", lambda missing, change: 95)
        yield ProgressiveCoder(model)


@pytest.fixture(scope="module")
def file(coder):
    return coder.compress(PHOTO, 3)


# --- files ---


@given(height=st.integers(1, 40), width=st.integers(1, 40), iterations=st.integers(1, 3), seed=st.integers(0, 99))
def test_pictures_of_any_size_come_back_as_their_bits_say(coder, height, width, iterations, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    parts, written = coder.encode(picture, iterations), coder.compress(picture, iterations)
    again, size = coder.read(written)
    assert size == (height, width)
    assert [part.gain for part in again] == [part.gain for part in parts]
    np.testing.assert_array_equal(np.stack([part.bits for part in again]), np.stack([part.bits for part in parts]))
    back = coder.decompress(written)
    assert (back.shape, back.dtype) == (picture.shape, np.uint8)
    *_, last = coder.pictures(parts)
    np.testing.assert_array_equal(back, last[:height, :width])


def test_a_file_may_end_after_any_iteration(coder, file):
    pictures, lengths = list(coder.pictures(coder.encode(PHOTO, 3))), ends(file)
    assert lengths[-1] == len(file)
    assert abs(pictures[0].astype(int) - pictures[2]).mean() > 1
    for k, length in enumerate(lengths):
        assert file[:length] == coder.compress(PHOTO, k + 1)
        np.testing.assert_array_equal(coder.decompress(file[:length]), pictures[k][:100, :70])


def test_a_file_that_ends_within_an_iteration_tells_where_the_whole_ones_end(coder, file):
    first, second, _ = ends(file)
    for length in (first + 1, first + CHUNK.size, second - 1):
        with pytest.raises(DataError, match=f"cut or altered within iteration 2; its first {first} bytes are a file of 1"):
            coder.decompress(file[:length])
    for length in range(first):
        with pytest.raises(DataError):
            coder.decompress(file[:length])


def test_corrupted_files_are_told(coder, file):
    rng, whole = np.random.default_rng(0), set(ends(file))
    for _ in range(400):
        bad = bytearray(file)
        kind = rng.integers(3)
        if kind == 0:
            bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        elif kind == 1:
            bad = bad[: rng.integers(len(bad))]
        else:
            at = rng.integers(len(bad))
            bad = bad[:at] + rng.bytes(int(rng.integers(1, 9))) + bad[at:]
        if len(bad) in whole and kind == 1:
            continue
        with pytest.raises(DataError):
            coder.decompress(bytes(bad))


def test_iterations_of_other_files_or_in_another_order_are_told(coder, file):
    (first, second, third), other = ends(file), coder.compress(PHOTO[::-1], 3)
    with pytest.raises(DataError, match="iteration 2 does not match"):
        coder.decompress(file[:first] + file[second:third] + file[first:second])
    with pytest.raises(DataError, match=r"does not match|cut or altered within"):
        coder.decompress(file[:second] + other[ends(other)[1] :])


def enemy(coder, height, width, *chunks):
    """A file whose checksums agree, of chunks (how, bytes): whatever the gain is."""
    made = HEAD.pack(MAGIC, VERSION, height, width, coder.digest)
    crc = zlib.crc32(made)
    for mode, body in chunks:
        crc = checksum(mode, 255, body, crc)
        made += CHUNK.pack(mode, 255, len(body), crc) + body
    return made


def test_files_of_an_enemy_are_told(coder):
    raw = bytes(2)  # one place of 5 bits would be 1 byte
    for chunks, told in (
        (((RAW, raw),), "iteration of 2 bytes for 1x1x5 bits: it was altered"),
        (((7, raw),), "of kind 7, which is none"),
        (((CODED, bytes(6)),), "of kind 1, which is none"),
        (((CODED, bytes(8)),), "the message ended before"),
        (((CODED, bytes(400)),), "which say more than those"),
        (((RAW, bytes(1)),) * 65, "more than 64 iterations"),
        ((), "no iteration"),
    ):
        with pytest.raises(DataError, match=told):
            coder.decompress(enemy(coder, 9, 16, *chunks))
    for height, width in ((2**32 - 1, 2**32 - 1), (0, 5)):
        with pytest.raises(DataError, match=f"{height}x{width}; need 1 to 4,194,304"):
            coder.decompress(enemy(coder, height, width, (RAW, bytes(1))))
    assert coder.decompress(enemy(coder, 9, 16, (RAW, bytes(1)))).shape == (9, 16, 3)


def test_another_model_is_told_and_bad_pictures(coder, file):
    with pytest.raises(DataError, match="another model"):
        ProgressiveCoder(model_of(1)).decompress(file)
    with pytest.raises(ShapeError, match=r"float64 \(100, 70, 3\)"):
        coder.encode(PHOTO / 255)
    with pytest.raises(DataError, match="more than 4,194,304 pixels"):
        coder.encode(np.zeros((2049, 2048, 3), np.uint8))
    with pytest.raises(UsageError, match="iterations is 0; need 1 to 64"):
        coder.encode(PHOTO, 0)
    with pytest.raises(UsageError, match="VAE has no encode_step"):
        ProgressiveCoder(mv.VAE((4, 4, 1), mv.Stream(0), latent=2, hidden=[3]))
    broken = model_of()
    broken.up[1].from_state.w.data[0, 0, 0, 0] = np.nan
    with pytest.raises(UsageError, match=r"up\.1\.from_state\.w holds numbers that are not finite"):
        ProgressiveCoder(broken)


# --- gains ---


def test_the_gain_is_the_least_squares_of_all_that_a_byte_can_say():
    """By trying each of them, for what fits, what is opposite, what is nothing, and what is beyond the largest."""
    rng = np.random.default_rng(3)
    missing = rng.normal(size=(5, 7, 3))
    for change in (0.3 * missing + rng.normal(size=missing.shape), -missing, 0 * missing, 1e-3 * missing, 1e6 * missing):
        errors = [((missing - gain * change) ** 2).sum() for gain in GAINS]
        assert errors[gain_for(missing, change)] == pytest.approx(min(errors), rel=1e-12)
    np.testing.assert_array_equal(GAINS[[0, 1, 7, 8, 96, 127, 128, 224]], [0, 9 / 2**15, 2**-11 - 2**-15, 2**-11, 1, 15, 0, -1])
    assert (np.diff(GAINS[1:128]) <= GAINS[1:127] / 8).all()  # the nearest is within a sixteenth


@pytest.mark.parametrize("seed", range(3))
def test_no_iteration_makes_the_squared_error_larger(seed, monkeypatch):
    """Of weights that nobody trained, on a picture whose sides are no multiples of 16, and not yet cut to [0, 1]."""
    monkeypatch.setattr(progressive, "gain_for", gain_for)
    made = ProgressiveCoder(model_of(seed))
    parts, decoder, now = made.encode(PHOTO, 6), made.decoder(), 0.5
    errors = [((PHOTO / 255 - now) ** 2).sum()]
    for part in parts:
        next(decoder)
        now = now + GAINS[part.gain] * decoder.send(part.bits)[:100, :70]
        errors.append(((PHOTO / 255 - now) ** 2).sum())
    assert (np.diff(errors) <= 1e-12 * errors[0]).all(), errors
    assert errors[-1] < errors[0], errors


# --- bits ---


@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 6)),
    ones=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    follows=st.booleans(),
    seed=st.integers(0, 99),
)
def test_bits_come_back_in_as_many_as_were_counted(shape, ones, follows, seed):
    """The message is -sum log2 of the probabilities, found here by counting anew in floats, to the 64 bits of its state, a word that may be
    half full, and what the rounding to 2^-16 costs: less than 2^-14 of a symbol's bits and floor's 1 of 2^16 p, below 0.05 bits at these
    lengths; or the bits as they are, where those are fewer."""
    rng = np.random.default_rng(seed)
    bits = (rng.random(shape) < ones).astype(np.uint8)
    before = (rng.random(shape) < 0.5).astype(np.uint8) if follows else None
    mode, body = code_bits(bits, before)
    np.testing.assert_array_equal(unpack_bits(mode, body, shape, before, "it"), bits)
    seen: dict[tuple, list[float]] = {}
    total = 0.0
    for i, j, k in np.ndindex(shape):
        neighbours = (bits[i, j - 1, k] if j else 0, bits[i - 1, j, k] if i else 0, before[i, j, k] if follows else 0)
        counts = seen.setdefault((k, *map(int, neighbours)), [0.5, 0.5])
        total -= np.log2(counts[bits[i, j, k]] / sum(counts))
        counts[bits[i, j, k]] += 1
    assert len(body) <= -(-bits.size // 8)
    if mode == CODED:
        assert abs(8 * len(body) - total - 64) < 32 + 0.05
    else:
        assert total + 64 + 32.05 > 8 * len(body)


def test_like_places_cost_little_and_noise_costs_no_more_than_itself():
    rng = np.random.default_rng(0)
    flat = np.broadcast_to(rng.integers(0, 2, 32), (30, 30, 32)).astype(np.uint8)
    assert len(code_bits(flat, None)[1]) < flat.size / 8 / 20
    noise = rng.integers(0, 2, (30, 30, 32)).astype(np.uint8)
    assert code_bits(noise, None) == (RAW, np.packbits(noise.ravel()).tobytes())
    assert len(code_bits(noise, noise)[1]) < noise.size / 8 / 10  # the iteration before tells all


# --- the decoder ---


def test_integers_cost_little_of_the_picture(coder, model):
    """The decoder in integers against the model's own, of the same parts: what is rounded to 2^-8 between layers is below a level."""
    parts = coder.encode(PHOTO, 3)
    states, exact = (None,) * 4, 0.5
    for part, picture in zip(parts, coder.pictures(parts), strict=True):
        change, states = model.decode_step(np.where(part.bits, np.float32(1), np.float32(-1))[None], states)
        exact = exact + GAINS[part.gain] * change.data[0]
        assert len(np.unique(picture)) > 20
        assert abs(picture - np.clip(exact, 0, 1) * 255).mean() < 1.0


def test_bands_do_not_show(coder, monkeypatch):
    bits = coder.encode(PHOTO, 2)
    whole = list(coder.pictures(bits))
    monkeypatch.setattr(progressive, "BAND", 1)  # 8 rows
    np.testing.assert_array_equal(list(coder.pictures(bits)), whole)


def test_every_backend_and_another_process_see_the_same_picture(coder, model, file, tmp_path):
    (tmp_path / "photo.mvr").write_bytes(file)
    mv.save(model, tmp_path / "codec.npz")
    reference = coder.decompress(file)
    for backend in ("numpy", "numba"):
        with mv.use_backend(backend):
            np.testing.assert_array_equal(ProgressiveCoder(model).decompress(file), reference)
    program = (
        "import sys, numpy as np, minivae as mv; from minivae.compress import ProgressiveCoder; folder = sys.argv[1]; "
        "data = open(folder + '/photo.mvr', 'rb').read(); coder = ProgressiveCoder(mv.load(folder + '/codec.npz')); "
        "np.save(folder + '/back.npy', coder.decompress(data))"
    )
    settings = {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=os.environ | settings, check=True, timeout=120)
    np.testing.assert_array_equal(np.load(tmp_path / "back.npy"), reference)
