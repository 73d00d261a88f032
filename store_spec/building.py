"""What a builder of stores needs besides the public names of `store_spec`: checked rows, shards, commits, repairs.

`builder` imports from `store_spec` and from this module only. Every name that this module imports is for builders.
"""

from typing import Any

from store_spec.disk.ledger import Ledger, ShardJob, replace_shard
from store_spec.disk.local_ledger import LocalLedger
from store_spec.disk.lock import BUILD_SUFFIX, belongs_to_store, build_folder, locked
from store_spec.disk.places import StorePlace, is_root, is_url, place_of, store_place
from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import LocalStorage
from store_spec.format.codec import crc32c
from store_spec.format.layout import BLANK as EMPTY_IDENTITY
from store_spec.format.names import LARGEST_CLASS_NAME
from store_spec.format.records import (
    CheckedSequence,
    Piecewise,
    Records,
    RunningRows,
    SourceId,
    check_sequence,
)
from store_spec.format.sequence_columns import column_type
from store_spec.format.shard import EncodedRows, between
from store_spec.format.shard import compress as compress_rows
from store_spec.format.times import checked_times
from store_spec.format.value_checks import refuse_masked_rows
from store_spec.reading.disk_usage import count_files
from store_spec.reading.read_ranges import read_ranges
from store_spec.verification.damaged_shards import DamagedShard, LostSequence, damaged_shards
from store_spec.verification.described_rows import PartCheck
from store_spec.verification.parts import Checked, Part


def import_zarr() -> None:
    """Import zarr now. The first commit needs it, and the import takes 0.2 s."""
    import zarr


def object_store(url: str) -> Any:
    """Return zarr's `ObjectStore` at a URL; its attribute `store` is the store of obstore.

    Raises:
        SchemaError: obstore is not installed, or refuses the URL.
    """
    from store_spec.disk import object_storage  # here, because zarr takes 0.1 s to import

    return object_storage.object_store(str(place_of(url)))
