"""Chunks and shards: from rows to bytes and back, and damage of every kind."""

import concurrent.futures
import pickle

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store_spec.errors import ChecksumError, FormatError
from store_spec.format import shard
from store_spec.format.codec import Codec, crc32c, decode_text
from store_spec.schema import DTYPES, Chunking, rows_of
from tests.store.damage import checksummed, encode_text
from tests.store.oracle import SHAPES, random_rows, same

PLACE = shard.ShardId("labels", 3)
CODECS = [Codec.parse(text) for text in ("zstd", "zstd:9", "lz4", "none")]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_chunk_decodes_to_its_rows(codec, dtype):
    for shape in SHAPES:
        rows = random_rows(np.random.default_rng(0), 50, dtype, shape)
        out = np.empty_like(rows)
        codec.decode(codec.encode(rows), out, "here")
        assert same(out, rows)


@pytest.mark.parametrize("codec", CODECS)
def test_any_flipped_bit_of_a_chunk_is_found(codec):
    rows = np.arange(40, dtype="int32")
    stored = bytearray(codec.encode(rows))
    for bit in range(8 * len(stored)):
        stored[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ChecksumError, match=r"^here: its bytes have crc32c .* as stored; restore or rebuild"):
            codec.decode(stored, np.empty_like(rows), "here")
        stored[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("codec", CODECS)
def test_any_truncation_of_a_chunk_is_found(codec):
    rows = np.arange(40, dtype="int32")
    stored = codec.encode(rows)
    for cut in (*(stored[:length] for length in range(len(stored))), stored[1:], stored + b"\0"):
        with pytest.raises(FormatError, match=r"^here: "):
            codec.decode(cut, np.empty_like(rows), "here")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("length", [0, 39, 41])
def test_a_chunk_of_another_size_is_refused_before_it_is_decompressed(codec, length):
    stored = codec.encode(np.arange(length, dtype="int32"))
    with pytest.raises(FormatError, match=f"here: a chunk of {4 * length} bytes where the schema gives 160"):
        codec.decode(stored, np.empty(40, "int32"), "here")


def test_a_blosc_buffer_that_lies_about_itself_is_refused():
    codec, rows = Codec(), np.arange(40, dtype="int32")
    body = codec.encode(rows)[:-4]
    with pytest.raises(FormatError, match="too few for a Blosc buffer"):
        codec.decode(checksummed(body[:10]), np.empty_like(rows), "here")
    with pytest.raises(FormatError, match="says that it has"):
        codec.decode(checksummed(body[:-1]), np.empty_like(rows), "here")
    for junk in (b"\xff", b"\x00"):
        with pytest.raises(FormatError, match="here: Blosc cannot decompress it"):
            codec.decode(checksummed(body[:16] + junk * (len(body) - 16)), np.empty_like(rows), "here")


def test_decoded_text_is_limited():
    codec = Codec()
    stored = codec.encode(np.frombuffer(b"x" * 1000, "uint8"))
    assert codec.decode_bytes(stored, 1000, "here") == b"x" * 1000
    with pytest.raises(FormatError, match="here: a chunk of 1,000 bytes; at most 999 are read"):
        codec.decode_bytes(stored, 999, "here")


@given(data=st.binary(max_size=200), cut=st.integers(0, 200))
def test_a_checksum_can_be_continued(data, cut):
    assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data) == google_crc32c.value(data)
    assert crc32c(memoryview(data)) == crc32c(np.frombuffer(data, "uint8")) == crc32c(data)


def test_the_checksum_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283


def test_the_same_rows_give_the_same_bytes_in_all_other_threads():
    rows = np.random.default_rng(0).integers(0, 9, 2**20).astype("int32")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(Codec().encode, [rows] * 16))) == 1


def read_shard(data, count, rows, chunking, codec):
    """Return the rows of a shard, as a reader of Zarr's sharding codec finds them."""
    index = shard.decode_index(data, chunking, "here")
    out = np.zeros((chunking.shard, *rows.shape), rows.dtype)
    for number in range(chunking.shard // chunking.chunk):
        if number * chunking.chunk < count:
            offset, length = shard.chunk_range(index, number, len(data), "here")
            part = out[number * chunking.chunk : (number + 1) * chunking.chunk]
            codec.decode(data[offset : offset + length], part, "here")
        else:
            assert index[number].tolist() == [shard.ABSENT] * 2
    return out


@given(
    lengths=st.lists(st.integers(0, 30), max_size=6),
    chunk=st.integers(1, 12),
    codec=st.sampled_from(CODECS),
    shape=st.sampled_from(SHAPES),
)
def test_a_shard_is_its_parts_one_after_another_then_zeros(lengths, chunk, codec, shape):
    rows = rows_of("int16", shape)
    parts = [random_rows(np.random.default_rng(length), length, "int16", shape) for length in lengths]
    whole = np.concatenate([rows.empty(0), *parts])
    chunking = Chunking(chunk, chunk * max(1, -(-len(whole) // chunk) + len(lengths) % 2))
    data = b"".join(shard.encode(parts, PLACE, rows, chunking, codec))
    found = read_shard(data, len(whole), rows, chunking, codec)
    assert same(found[: len(whole)], whole)
    assert not found[len(whole) :].any()
    assert data == b"".join(shard.encode([whole], PLACE, rows, chunking, codec))


@given(lengths=st.lists(st.integers(0, 60), max_size=5), chunk=st.integers(1, 12), codec=st.sampled_from(CODECS))
def test_rows_that_were_compressed_elsewhere_make_the_same_shard_however_they_were_sent(lengths, chunk, codec):
    rows = rows_of("int16", (2,))
    parts = [random_rows(np.random.default_rng(length), length, "int16", (2,)) for length in lengths]
    whole = np.concatenate([rows.empty(0), *parts])
    chunking = Chunking(chunk, chunk * max(1, -(-len(whole) // chunk)))
    firsts = np.cumsum([0, *lengths])
    stretches = [
        shard.compress([part], first, rows, chunking, codec) for part, first in zip(parts, firsts, strict=False)
    ]
    expected = b"".join(shard.encode([whole], PLACE, rows, chunking, codec))
    beside: list[pickle.PickleBuffer] = []
    out_of_band = pickle.dumps(stretches, 5, buffer_callback=beside.append)
    for sent in (
        stretches,
        pickle.loads(pickle.dumps(stretches, 4)),
        pickle.loads(pickle.dumps(stretches, 5)),
        pickle.loads(out_of_band, buffers=[memoryview(bytes(buffer)) for buffer in beside]),
    ):
        assert b"".join(shard.encode(sent, PLACE, rows, chunking, codec)) == expected


def test_large_chunks_are_sent_outside_of_the_pickle():
    noise = np.random.default_rng(0).integers(0, 2**16, 100_000, "uint16")
    for chunk, frames in ((10_000, 12), (1_000, 2)):  # head and tail have one each
        stretch = shard.compress([noise], 0, rows_of("uint16", ()), Chunking(chunk, 100_000), Codec())
        beside: list[pickle.PickleBuffer] = []
        sent = len(pickle.dumps(stretch, 5, buffer_callback=beside.append))
        assert len(beside) == frames
        assert sent + sum(len(buffer.raw()) for buffer in beside) > 100_000


def test_an_index_that_was_damaged_is_refused():
    chunking, rows = Chunking(2, 8), rows_of("int8", ())
    data = bytearray(b"".join(shard.encode([np.ones(5, "int8")], PLACE, rows, chunking, Codec())))
    with pytest.raises(FormatError, match="here: 103 bytes, where its stamp and index alone have 104"):
        shard.decode_index(bytes(data[-103:]), chunking, "here")
    data[-20] ^= 1
    with pytest.raises(ChecksumError, match="here: its index has crc32c"):
        shard.decode_index(bytes(data), chunking, "here")


def test_a_stamp_says_which_shard_it_is_and_how_many_rows_it_has():
    chunking, rows = Chunking(2, 8), rows_of("int8", ())
    data = b"".join(shard.encode([np.ones(5, "int8"), np.ones(2, "int8")], PLACE, rows, chunking, Codec()))
    assert shard.stamped_rows(data, chunking, PLACE, "here") == 7
    assert data[-104:-72] == b"labels" + bytes(10) + (3).to_bytes(8, "little") + (7).to_bytes(8, "little")
    assert int.from_bytes(data[-72:-68], "little") == google_crc32c.value(data[-104:-72])
    with pytest.raises(FormatError, match="here: is shard 3 of 'labels', by its stamp; a file is another's"):
        shard.stamped_rows(data, chunking, shard.ShardId("labels", 2), "here")
    with pytest.raises(FormatError, match="here: is shard 3 of 'labels', by its stamp; a file is another's"):
        shard.stamped_rows(data, chunking, shard.ShardId("inputs", 3), "here")
    for at in (-104, -80, -69):
        other = bytearray(data)
        other[at] ^= 1
        with pytest.raises(ChecksumError, match="here: its stamp has crc32c"):
            shard.stamped_rows(bytes(other), chunking, PLACE, "here")


def test_a_chunk_that_is_missing_or_outside_is_refused():
    index = np.array([[0, 10], [10, 5], [shard.ABSENT, shard.ABSENT], [2**63, 2**63]], "uint64")
    assert shard.chunk_range(index, 0, 14, "here") == (0, 10)
    with pytest.raises(FormatError, match="here: chunk 1 ends at byte 15 of 14"):
        shard.chunk_range(index, 1, 14, "here")
    with pytest.raises(FormatError, match="here: chunk 2 is missing; every committed chunk is written, so it was lost"):
        shard.chunk_range(index, 2, 14, "here")
    with pytest.raises(FormatError, match="here: chunk 3 ends at byte 18,446,744,073,709,551,616 of 14"):
        shard.chunk_range(index, 3, 14, "here")
    assert shard.chunk_ranges(index, range(2), 15, "here") == [(0, 10), (10, 5)]
    assert shard.chunk_ranges(index, range(1, 1), 15, "here") == []
    with pytest.raises(FormatError, match="here: chunk 1 ends at byte 15 of 14"):
        shard.chunk_ranges(index, range(4), 14, "here")
    with pytest.raises(FormatError, match="here: chunk 2 is missing"):
        shard.chunk_ranges(index, range(1, 3), 15, "here")


@given(
    strings=st.lists(
        st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.just("\0")), max_size=9), max_size=6
    ),
    spare=st.integers(0, 3),
)
def test_strings_read_back(strings, spare):
    chunk = len(strings) + spare
    assert decode_text(encode_text(strings, chunk), chunk, "here").tolist() == strings + [""] * spare


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a chunk of 0 strings where the schema gives 2"),
        (b"\xff" * 4, "a chunk of 4,294,967,295 strings where the schema gives 2"),
        (b"\3\0\0\0" + bytes(12), "a chunk of 3 strings where the schema gives 2"),
        (b"\2\0\0\0" + b"\1\0\0\0\xff" + bytes(4), "one of its strings is not UTF-8"),
        (b"\2\0\0\0" + b"\1\0\0\0a" + b"\xff\xff\xff\xff", "end beyond its 13 bytes"),
        (b"\2\0\0\0" + bytes(9), "end at byte 12 of 13"),
        (b"\2\0\0\0" + bytes(4), "end beyond its 8 bytes"),
        (b"\2\0\0\0" + b"\1\0\0\0a" + bytes(3), "end beyond its 12 bytes"),
        (b"\2\0\0\0" + b"\1\0\0\0a" * 3, "end at byte 14 of 19"),
    ],
)
def test_values_that_are_not_text_are_refused(data, message):
    with pytest.raises(FormatError, match=message):
        decode_text(data, 2, "here")
