"""Where the labels of tables come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from builder.build_errors import UsageError
from builder.labels.name_labels import check_pattern

LabelSource = Literal["columns", "inputs", "pattern", "manifest"]
Join = Literal["inner", "left"]  # what becomes of rows of a source that none of its labels is paired with


def label_source_of(
    labels: str | Sequence[str] | None, label_pattern: str | None, labels_from: str | None, *, in_manifest: bool
) -> LabelSource:
    """Return where the options say that labels come from: the inputs, if they say nothing.

    Raises:
        UsageError: From several places.

    >>> label_source_of("y", None, None, in_manifest=False), label_source_of(None, None, None, in_manifest=False)
    ('columns', 'inputs')
    """
    given = {
        "labels": labels is not None and labels_from is None,  # else they are columns of those files
        "labels_from": labels_from is not None,
        "label_pattern": label_pattern is not None,
        "the manifest": in_manifest,
    }
    named = [name for name, is_given in given.items() if is_given]
    if len(named) > 1:
        raise UsageError(f"labels come from {' and from '.join(named)}; choose one")
    if label_pattern is not None:
        check_pattern(label_pattern)
        return "pattern"
    if in_manifest:
        return "manifest"
    return "columns" if named else "inputs"
