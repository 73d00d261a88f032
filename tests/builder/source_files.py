"""Write small source files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Content = str | bytes | NDArray[Any] | Mapping[str, Any]


def write_files(folder: Path, contents: Mapping[str, Content]) -> Path:
    """Write files, each at its path below the folder, and return the folder.

    Text is written in UTF-8, and an array as NPY file; arrays by name as NPZ file or as the columns of a Parquet file.
    """
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, np.ndarray):
            np.save(path, content)
        elif path.suffix == ".npz":
            np.savez(path, allow_pickle=False, **{key: np.asarray(value) for key, value in content.items()})
        else:
            pq.write_table(pa.table(dict(content)), path)
    return folder
