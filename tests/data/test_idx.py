import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

from minivae.data import idx
from minivae.errors import DataError, ShapeError

DTYPES = ("u1", "i1", "<i2", ">i2", "<i4", ">i4", "<f4", ">f4", "<f8", ">f8")


@given(st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))))
def test_what_is_written_is_read(array):
    back = idx.from_bytes(idx.to_bytes(array))
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("=")
    assert back.tobytes() == array.astype(back.dtype).tobytes()  # bits, so that NaNs count


@pytest.mark.parametrize("array", [np.arange(24.0).reshape(2, 3, 4).T, np.arange(10, dtype=np.int16)[::-2]])
def test_strided_arrays_are_written_in_index_order(array):
    assert_array_equal(idx.from_bytes(idx.to_bytes(array)), array)


def test_bytes_spelled_by_hand():
    content = bytes.fromhex("00000b02 00000002 00000003 0001 0002 0003 ff00 8000 7fff")
    expected = np.array([[1, 2, 3], [-256, -32768, 32767]], np.int16)
    assert_array_equal(idx.from_bytes(content), expected)
    assert idx.to_bytes(expected) == content
    assert idx.from_bytes(bytes.fromhex("00000d00 3fc00000")) == 1.5  # rank 0
    assert idx.from_bytes(bytes.fromhex("00000802 00000000 ffffffff")).shape == (0, 2**32 - 1)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["x-idx1-ubyte", "x-idx1-ubyte.gz"])
def test_gzip_is_seen_by_content_not_by_name(tmp_path, packed, name):
    content = idx.to_bytes(np.arange(5, dtype=np.uint8))
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    assert_array_equal(idx.read(tmp_path / name), np.arange(5))


GOOD = idx.to_bytes(np.arange(6, dtype=np.int32).reshape(2, 3))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "no IDX file"),
        (b"\0\0\x08", "no IDX file"),
        (b"<!DOCTYPE html>", "no IDX file: it begins with 0x3c21444f"),
        (b"\0\0\x0a\1" + bytes(8), "type code 0x0a is unknown"),
        (GOOD[:9], r"header of rank 2 takes 12 bytes, the file has 9"),
        (GOOD[:12], r"truncated: int32 of shape \(2, 3\) takes 36 bytes, the file has 12"),
        (GOOD[:-1], r"truncated: int32 of shape \(2, 3\) takes 36 bytes, the file has 35"),
        (GOOD + b"\0", r"trailing bytes: int32 of shape \(2, 3\) takes 36 bytes, the file has 37"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "truncated"),  # no attempt to allocate 2^96 bytes
        (b"\0\0\x08\xff" + bytes(4 * 255), "NumPy cannot hold"),
    ],
)
def test_bad_bytes_get_a_sentence(content, sentence):
    with pytest.raises(DataError, match=sentence):
        idx.from_bytes(content)


@given(st.binary(max_size=40), st.integers(0, 40))
def test_any_bytes_give_an_array_or_a_data_error(junk, cut):
    for content in (junk, GOOD[:cut] + junk, b"\0\0" + junk):
        try:
            array = idx.from_bytes(content)
        except DataError:
            continue
        assert idx.to_bytes(array) == content  # the format has one spelling an array


def test_a_damaged_gzip_file_is_named(tmp_path):
    packed = gzip.compress(GOOD)
    for damaged in (packed[:-9], packed[:12], packed[:-8] + bytes(8), packed[:12] + b"\xff" * 5 + packed[17:]):
        (tmp_path / "x.gz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"x\.gz \(\d+ bytes\) is a damaged gzip file"):
            idx.read(tmp_path / "x.gz")
    with pytest.raises(DataError, match=r"cannot read .*nothing: No such file"):
        idx.read(tmp_path / "nothing")


def test_what_the_format_cannot_hold():
    with pytest.raises(ShapeError, match="cannot hold int64"):
        idx.to_bytes(np.arange(3))
