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
from store_spec.format.codec import Codec, crc32c
from store_spec.schema import Chunking, rows_of
from tests.store.oracle import random_rows

PLACE = shard.ShardId("labels", 3)
CODECS = [Codec.parse(text) for text in ("zstd", "zstd:9", "lz4", "none")]


@pytest.mark.parametrize("codec", CODECS)
def test_any_flipped_bit_and_any_truncation_of_a_chunk_are_found(codec):
    rows = np.arange(40, dtype="int32")
    whole = codec.encode(rows)
    stored = bytearray(whole)
    for bit in range(8 * len(stored)):
        stored[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ChecksumError, match=r"^here: its bytes have crc32c .* as stored; restore or rebuild"):
            codec.decode(stored, np.empty_like(rows), "here")
        stored[bit // 8] ^= 1 << bit % 8
    for cut in (*(whole[:length] for length in range(len(whole))), whole[1:], whole + b"\0"):
        with pytest.raises(FormatError, match=r"^here: "):
            codec.decode(cut, np.empty_like(rows), "here")


@given(data=st.binary(max_size=200), cut=st.integers(0, 200))
def test_a_checksum_can_be_continued(data, cut):
    assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data) == google_crc32c.value(data)
    assert crc32c(memoryview(data)) == crc32c(np.frombuffer(data, "uint8")) == crc32c(data)


def test_the_same_rows_give_the_same_bytes_in_all_other_threads():
    rows = np.random.default_rng(0).integers(0, 9, 2**20).astype("int32")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(Codec().encode, [rows] * 16))) == 1


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
