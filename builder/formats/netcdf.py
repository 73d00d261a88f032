"""Read NetCDF files of version 4, and other HDF5 files: variables with one dimension are columns."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from builder.build_errors import SourceError, UsageError
from builder.formats.arrow import ArrowTable
from builder.formats.arrow_modules import pa
from builder.formats.column_choice import as_option, list_names
from builder.formats.column_notes import metadata_of
from builder.formats.convert import EXACT_IN_FLOAT64
from builder.formats.files import first_bytes, unpacked_limit, unpacks_too_much
from builder.formats.table import Array, DType, reading
from builder.formats.text_numbers import ROUNDED

# In the units of times, the zone after the date and the time of day: hours since 2000-07-01 00:00 +2:00.
_ZONE: Final = re.compile(r"since\s+\d+-\d+-\d+([T\s]\s*\d[\d:.]*)?\s*(Z|UTC|GMT|[+-]\d+(:\d+)?)\s*$", re.IGNORECASE)


def open_netcdf(path: Path) -> ArrowTable:
    """Open a NetCDF or HDF5 file. Scalars are ignored. Groups are columns that cannot be read.

    Raises:
        UsageError: The libraries that read such files are not installed.
    """
    start, size = first_bytes(path, 3)
    if start == b"CDF":
        raise SourceError("is a NetCDF file of version 3; convert it to version 4 with nccopy -k nc4")

    def load(columns: list[str]) -> Any:
        with _dataset(path) as (dataset, groups):
            _refuse_groups(columns, groups)
            variables = {name: dataset.variables[name] for name in columns}
            _check_dimensions({name: variable.dims for name, variable in variables.items()})
            if sum(variable.nbytes for variable in variables.values()) > unpacked_limit(size):
                raise unpacks_too_much(size, advice="split it into smaller files")
            return pa.table({name: _column(name, variable) for name, variable in variables.items()})

    with _dataset(path) as (dataset, groups):
        fields = [
            pa.field(name, _kind(variable), metadata=metadata_of(variable.attrs))
            for name, variable in dataset.variables.items()
            if variable.dims
        ]
    if not fields:
        but = f", but the groups {list_names(groups)}, which are not read: give --process with a function that does"
        raise SourceError("has no variables with a dimension" + (but if groups else ""))
    return ArrowTable.of(pa.schema([*fields, *(pa.field(name, pa.null()) for name in groups)]), load)


@contextmanager
def _dataset(path: Path) -> Iterator[tuple[Any, list[str]]]:
    """Open a file as an xarray.Dataset, which decodes times, scales and fill values on reading; name its groups."""
    try:
        import h5netcdf
        import h5py
        import xarray
    except ImportError as error:
        raise UsageError(f"NetCDF and HDF5 files need {error.name}; pip install 'seqzarr[netcdf]'") from error
    with (
        warnings.catch_warnings(action="ignore"),
        reading(path=path, format="HDF5", advice="is it a whole HDF5 file?"),
        # Closed explicitly: xarray does not close files that it cannot read, and HDF5 would return the old file for a
        # new one at the same path.
        h5py.File(path) as file,
    ):
        # h5netcdf reads this attribute too, but prints to stderr if that fails.
        file.attrs.get("_nc3_strict")
        with (
            # phony_dims: dimensions without names are equal if they have the same length.
            h5netcdf.File(file, "r", phony_dims="access", decode_vlen_strings=True) as netcdf,
            xarray.open_dataset(xarray.backends.H5NetCDFStore(netcdf), decode_timedelta=False) as dataset,
        ):
            yield dataset, [name for name, group in netcdf.groups.items() if _has_rows(group)]


def _has_rows(group: Any) -> bool:
    """Return whether a group of h5netcdf, or a group in it, has a variable with a dimension."""
    return any(one.shape for one in group.variables.values()) or any(map(_has_rows, group.groups.values()))


def _refuse_groups(columns: list[str], groups: list[str]) -> None:
    if chosen := [name for name in columns if name in groups]:
        raise SourceError(
            f"groups within the file are not read: {list_names(chosen)}; leave them out with --exclude "
            f"{as_option(*chosen)}, name the columns to take with --inputs, or give --process with a function that "
            "reads the file"
        )


def _check_dimensions(dimensions: dict[str, tuple[Any, ...]]) -> None:
    """Refuse variables that do not share one dimension."""
    first, steps = next(iter(dimensions.items()), ("", ()))
    for name, own in dimensions.items():
        if len(own) > 1 or own != steps:
            along = f"{len(own)} dimensions ({', '.join(map(str, own))})"
            if len(own) == 1:
                along = f"the dimension {own[0]}, but {first} has {steps[0]}"
            raise SourceError(
                f"variable {name} has {along}; all columns must have the same single dimension: leave it out with "
                f"--exclude {as_option(name)}, name the columns to take with --inputs, or give --process with a "
                "function that reads the file"
            )


def _kind(variable: Any) -> Any:
    """Return the pyarrow type of a variable's values; xarray converts times with a zone to UTC."""
    dtype: DType = variable.dtype
    if dtype.kind in "biufMm":
        kind = pa.from_numpy_dtype(dtype.newbyteorder("="))
        has_zone = dtype.kind == "M" and _ZONE.search(str(variable.encoding.get("units", "")))
        return pa.timestamp(kind.unit, "UTC") if has_zone else kind
    return pa.string() if dtype.kind in "OSUT" else pa.binary()


def _column(name: str, variable: Any) -> Any:
    """Return the values of a variable as a pyarrow array."""
    values, kind = variable.values, _kind(variable)
    coding = variable.encoding
    if values.dtype.kind == "f" and coding["dtype"].kind in "iu" and not {"scale_factor", "add_offset"} & coding.keys():
        _refuse_rounded(name, values)
    if pa.types.is_binary(kind):
        return pa.array([value.tobytes() for value in values], kind)
    if pa.types.is_string(kind):
        return pa.array(np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values.tolist(), kind)
    return pa.array(np.ascontiguousarray(values, values.dtype.newbyteorder("="))).cast(kind)


def _refuse_rounded(name: str, values: Array) -> None:
    """Refuse whole numbers that xarray may have rounded to represent a fill value by NaN."""
    large = np.abs(values) >= EXACT_IN_FLOAT64
    if large.any():
        raise SourceError(
            f"row {int(large.argmax()) + 1:,}, column {name}: a whole number {ROUNDED}; numbers of a variable with "
            f"_FillValue are decoded so: write it without, or leave the column out with --exclude {as_option(name)}"
        )
