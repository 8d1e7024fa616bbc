"""A picture comes back as the latents say, whoever decodes it; a file is as long as its probabilities say; what was altered is told."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from skimage import data

import minivae as mv
from minivae.cli import main
from minivae.compress.lossy import HEAD, PRECISION, LossyCoder, checksum, ideal_bytes
from minivae.errors import DataError, ShapeError, UsageError
from minivae.models import Codec
from minivae.objectives import RateDistortion
from minivae.training import Trainer, TrainingConfig

PHOTO = data.astronaut()[50:300, 100:333]


@pytest.fixture(scope="module")
def model():
    made = Codec((32, 32, 3), mv.Stream(0), channels=6, latent=7)
    rng = np.random.default_rng(0)
    patches = np.stack([PHOTO[i : i + 32, j : j + 32] for i, j in rng.integers(0, 200, (64, 2))])
    trainer = Trainer(made, TrainingConfig(epochs=12, batch_size=8, lr=3e-3), RateDistortion(0.01))
    for _ in range(12):
        trainer.epoch(patches)
    return made


@pytest.fixture(scope="module")
def coder(model):
    return LossyCoder(model)


@pytest.mark.parametrize("shape", [(250, 233), (1, 1), (16, 16), (17, 5), (31, 64)])
def test_the_picture_of_the_latents_comes_back(coder, shape):
    picture = PHOTO[: shape[0], : shape[1]]
    file = coder.compress(picture)
    back = coder.decompress(file)
    assert (back.shape, back.dtype) == (picture.shape, np.uint8)
    np.testing.assert_array_equal(back, coder.picture(coder.latents(picture))[: shape[0], : shape[1]])


def test_integers_cost_little_of_the_picture(coder, model):
    """The synthesis in integers against the model's own: what is rounded to 2^-8 between layers is below a level in the mean."""
    y = coder.latents(PHOTO)
    model.train(False)
    exact = np.clip(model.synthesis(y[None].astype(np.float32)).data[0], 0, 1) * 255
    assert len(np.unique(coder.picture(y))) > 50
    assert abs(coder.picture(y) - exact).mean() < 1.0


def test_a_file_is_as_long_as_its_probabilities_say(coder):
    """The state at first is 2^32, of 64 bits; rANS rounds by less than 2^-16 a symbol, and a last word may be half full."""
    y = coder.latents(PHOTO)
    assert abs(len(coder.compress(PHOTO)) - HEAD.size - ideal_bytes(coder, y) - 8) < 8 + y.size * 2**-16


def test_tables_are_the_density(coder, model):
    """Of 2^16 slots each integer has its share, to the slot that every one has and the halves of two roundings; tails at the ends."""
    for m, table in enumerate(coder.slots):
        assert table[0] == 0
        assert table[-1] == 1 << PRECISION
        assert np.diff(table).min() >= 1
        k = coder.low[m] + np.arange(len(table) - 1)
        y = np.zeros((len(k), coder.latent))
        y[:, m] = k
        p = np.exp(model.density.log_prob(y).data[:, m])
        share = np.diff(table) / 2.0**PRECISION
        assert abs(share - p)[1:-1].max(initial=0) < (2 + len(k)) / 2.0**PRECISION + 1e-5  # and float32 of the density


def test_latents_beyond_the_table_are_cut(coder):
    y = coder.latents(np.random.default_rng(0).integers(0, 2, (64, 64, 3)).astype(np.uint8) * np.uint8(255))
    last = coder.low + np.array([len(table) - 2 for table in coder.slots])
    assert (y >= coder.low).all()
    assert (y <= last).all()


def test_every_backend_and_another_process_see_the_same_picture(coder, model, tmp_path):
    file = coder.compress(PHOTO)
    (tmp_path / "photo.mvp").write_bytes(file)
    mv.save(model, tmp_path / "codec.npz")
    with mv.use_backend("numpy"):
        reference = LossyCoder(model).decompress(file)
    with mv.use_backend("numba"):
        np.testing.assert_array_equal(LossyCoder(model).decompress(file), reference)
    program = (
        "import sys, numpy as np, minivae as mv; from minivae.compress.lossy import LossyCoder; folder = sys.argv[1]; "
        "data = open(folder + '/photo.mvp', 'rb').read(); coder = LossyCoder(mv.load(folder + '/codec.npz')); "
        "mv.use_backend('numpy').__enter__(); np.save(folder + '/back.npy', coder.decompress(data))"
    )
    settings = {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=os.environ | settings, check=True, timeout=120)
    np.testing.assert_array_equal(np.load(tmp_path / "back.npy"), reference)


def test_corrupted_files_are_told(coder):
    file, rng = coder.compress(PHOTO[:48, :48]), np.random.default_rng(0)
    for _ in range(300):
        bad = bytearray(file)
        kind = rng.integers(3)
        if kind == 0:
            bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        elif kind == 1:
            bad = bad[: rng.integers(len(bad))]
        else:
            at = rng.integers(len(bad))
            bad = bad[:at] + rng.bytes(int(rng.integers(1, 9))) + bad[at:]
        with pytest.raises(DataError):
            coder.decompress(bytes(bad))


def call(capsys, *arguments):
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    return code, *capsys.readouterr()


def test_the_command_line_chooses_by_the_model(model, coder, tmp_path, capsys):
    mv.save(model, tmp_path / "codec.npz")
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    code, out, _ = call(capsys, "compress", tmp_path / "codec.npz", tmp_path / "photo.png", "--out", tmp_path / "file")
    size = (tmp_path / "file").stat().st_size
    assert code == 0
    assert f"250x233 in {size:,} bytes, {8 * size / 250 / 233:.4f} bits a pixel, PSNR" in out
    exact = coder.decompress(coder.compress(PHOTO))
    assert call(capsys, "decompress", tmp_path / "codec.npz", tmp_path / "file", "--out", tmp_path / "out")[0] == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "00000.png")), exact)
    assert call(capsys, "decompress", tmp_path / "codec.npz", tmp_path / "file", "--out", tmp_path / "y.npy")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), exact[None])
    mv.save(mv.VAE((4, 4, 1), mv.Stream(0), latent=2, hidden=[3]), tmp_path / "vae.npz")
    code, _, err = call(capsys, "decompress", tmp_path / "vae.npz", tmp_path / "file", "--out", tmp_path / "no")
    assert code == 2
    assert "made by a lossy codec" in err
    code, _, err = call(capsys, "compress", tmp_path / "codec.npz", "digits5k", "--out", tmp_path / "no")
    assert code == 2
    assert "one picture a file" in err


def enemy(coder, height, width, body, digest=None):
    """A file whose checksum agrees."""
    from minivae.compress.lossy import MAGIC, VERSION

    digest = digest or coder.digest
    return HEAD.pack(MAGIC, VERSION, height, width, digest, checksum(height, width, digest, body)) + body


def test_files_of_an_enemy_are_told(coder):
    body = coder.compress(PHOTO[:48, :48])[HEAD.size :]
    with pytest.raises(DataError, match="4294967295x4294967295; need 1 to"):
        coder.decompress(enemy(coder, 2**32 - 1, 2**32 - 1, body))
    with pytest.raises(DataError, match="0x5; need 1 to"):
        coder.decompress(enemy(coder, 0, 5, body))
    with pytest.raises(DataError, match="says more than its 16x16 pixels"):
        coder.decompress(enemy(coder, 16, 16, body))
    with pytest.raises(DataError, match="the message ended before"):
        coder.decompress(enemy(coder, 64, 64, body))
    for side in (1000, 16000):  # of which the latents alone would take 14 megabytes; nothing is kept for them
        tracemalloc.start()
        with pytest.raises(DataError, match=f"too few for {side}x{side} pixels"):
            coder.decompress(enemy(coder, side, side, body))
        assert tracemalloc.get_traced_memory()[1] < 1e5
        tracemalloc.stop()
    with pytest.raises(DataError, match="made by another model"):
        coder.decompress(enemy(coder, 48, 48, body, b"12345678"))


def test_another_model_is_told_and_bad_pictures(coder):
    other = LossyCoder(Codec((32, 32, 3), mv.Stream(1), channels=6, latent=7))
    with pytest.raises(DataError, match="another model"):
        other.decompress(coder.compress(PHOTO))
    with pytest.raises(ShapeError, match=r"float64 \(250, 233, 3\)"):
        coder.compress(PHOTO / 255)
    with pytest.raises(ShapeError, match=r"uint8 \(250, 233\)"):
        coder.compress(PHOTO[..., 0])
    with pytest.raises(UsageError, match="VAE has no analysis"):
        LossyCoder(mv.VAE((4, 4, 1), mv.Stream(0), latent=2, hidden=[3]))
