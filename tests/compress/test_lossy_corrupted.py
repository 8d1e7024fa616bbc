"""The lossy file under the same attacks as the lossless one: each is a sentence, within the memory and the time of a good file."""

import resource
import struct
import time
import tracemalloc

import numpy as np
import pytest

import minivae as mv
from minivae import DataError
from minivae.compress.lossy import HEAD, LARGEST, MAGIC, VERSION, LossyCoder, checksum
from minivae.models import Codec

MEMORY = 100 * 2**20  # bytes
SECONDS = 5.0
NUMBERS = (0, 1, 15, 16, 17, 255, 4096, 2**16, 2**24, 2**24 + 1, 2**31, 2**32 - 1)


@pytest.fixture(scope="module")
def coder():
    return LossyCoder(Codec((16, 16, 3), mv.Stream(0), channels=3, latent=4))


def picture(seed, height=33, width=40):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def files(coder):
    found = [coder.compress(picture(0)), coder.compress(picture(1, 47, 20))]
    assert found[0] != found[1]
    for file in found:
        coder.decompress(file)  # compiled before anything is timed
    return found


def sealed(height, width, digest, body):
    """With a checksum that agrees, as who means harm would write it."""
    return HEAD.pack(MAGIC, VERSION, height, width, digest, checksum(height, width, digest, body)) + body


def corrupted(rng, files):
    """Flipped, cut, filled, spliced with another, or with any size of the picture and any words under a checksum that agrees."""
    file, other = files
    data, kind = bytearray(file), rng.integers(6)
    if kind == 0:
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    elif kind == 1:
        data = data[: rng.integers(len(data))]
    elif kind == 2:
        at = rng.integers(len(data))
        data = data[:at] + rng.bytes(int(rng.integers(1, 200))) + data[at:]
    elif kind == 3:
        at = rng.integers(1, len(data))
        data = data[:at] + other[at:]
    elif kind == 4:
        at = int(rng.integers(9, HEAD.size - 4))
        value = struct.pack("<Q", int(rng.integers(2**63)))[: rng.integers(1, 9)]
        data[at : at + len(value)] = value
    else:
        _, _, height, width, digest, _ = HEAD.unpack_from(file)
        height, width = (int(rng.choice(NUMBERS)) if rng.integers(2) else size for size in (height, width))
        body = bytearray(file[HEAD.size :])
        if rng.integers(2):
            at = int(rng.integers(len(body)))
            body[at] ^= 1 << rng.integers(8)
        else:
            body = body[: 4 * int(rng.integers(2, len(body) // 4 + 1))]
        return sealed(height, width, digest, bytes(body))
    return bytes(data)


def fuzz(coder, files, count, seed):
    """How many were told.  What has a seal that agrees may say another picture of as many numbers: a picture then, and no crash."""
    rng, told, another = np.random.default_rng(seed), 0, 0
    for _ in range(count):
        data = corrupted(rng, files)
        if data in files:
            continue
        start, sentence = time.process_time(), ""
        try:
            found = coder.decompress(data)
        except DataError as error:
            sentence = str(error)
        assert time.process_time() - start < SECONDS
        assert "\n" not in sentence
        if sentence:
            told += 1
        else:
            _, _, height, width, digest, crc = HEAD.unpack_from(data)
            assert crc == checksum(height, width, digest, data[HEAD.size :])
            assert found.shape == (height, width, 3)
            another += 1
    assert another < 0.01 * count
    return told


def test_corrupted_files_are_sentences(coder, files):
    assert fuzz(coder, files, 400, 0) > 380


@pytest.mark.slow
def test_ten_thousand_corrupted_files(coder, files):
    """Memory: the peak of the process must not rise by 100 MB meanwhile."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert fuzz(coder, files, 11_000, 1) > 10_000
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY


def test_a_large_picture_promised_by_few_words_takes_little(coder, files):
    """The largest that a header may promise, and a message for 33x40: refused before memory is taken for its latents."""
    digest, body = coder.digest, files[0][HEAD.size :]
    tracemalloc.start()
    try:
        for height, width in ((4096, 4096), (1, LARGEST), (LARGEST, 1)):
            with pytest.raises(DataError, match="too few for"):
                coder.decompress(sealed(height, width, digest, body))
        assert tracemalloc.get_traced_memory()[1] < MEMORY / 100
    finally:
        tracemalloc.stop()
