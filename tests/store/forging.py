"""Stores as a faulty foreign writer might write them: wrong rows and tables with right checksums."""

import itertools
from dataclasses import replace

import numpy as np

import store_spec
from store_spec.format import shard as shards
from store_spec.format.codec import crc32c
from store_spec.format.layout import BLANK, ROOT, chunk_key
from store_spec.format.records import Records, proved
from store_spec.schema import TABLE_CODEC
from tests.store.damage import encode_text


def forge(path, *, seal=True, **changes):
    """Change decoded chunks and write them with right checksums, also those of times."""
    snapshot = store_spec.open_store(path).snapshot
    root, schema = snapshot.root, snapshot.root.schema
    for key, change in changes.items():
        name = key.replace("__", "/")
        if schema.is_sharded(name):
            rows = snapshot.rows(name, 0, root.committed(name))
            change(rows)
            chunking = schema.chunking(name)
            for number in range(-(-len(rows) // chunking.shard)):
                part = rows[number * chunking.shard : (number + 1) * chunking.shard]
                place = shards.ShardId(name, number)
                data = b"".join(shards.encode([part], place, schema.rows(name), chunking, schema.codec))
                (path / chunk_key(schema, name, number)).write_bytes(data)
            continue
        rows = snapshot.table(name)
        change(rows)
        size = schema.chunking(name).chunk
        padded = np.zeros((size, *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        if rows.dtype == object:
            padded = np.frombuffer(encode_text(list(rows), size), np.uint8)
        (path / chunk_key(schema, name, 0)).write_bytes(TABLE_CODEC.encode(padded))
    if "time" in changes:
        times, bounds = snapshot.rows("time", 0, root.counts.steps), snapshot.bounds("inputs").tolist()
        changes["time"](times)
        crcs = [crc32c(times[start:stop]) for start, stop in itertools.pairwise(bounds)]
        forge(path, seal=False, sequences__time_crc32c=put(slice(None), crcs))
    if seal:  # the identity of the changed tables
        records = Records({name: snapshot.table(name) for name in proved(schema)})
        (path / ROOT).write_bytes(replace(root, identity=records.identity(BLANK, schema)).encode())


def put(where, value):
    def change(rows):
        rows[where] = value

    return change


def bump(where):
    def change(rows):
        rows[where] += 1

    return change
