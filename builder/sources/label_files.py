r"""Label files beside the sources, by `--labels-from`.

`labels/{stem}.csv` names a label file by parts of the source's name, `forcing/(\d+)_.* -> flow/{1}.csv` by the groups
of a regular expression. Both are relative to the root, and can lead out of it with `..`.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Final

from builder.build_errors import SourceError, UsageError
from builder.formats import stem_of
from builder.sources.source_list import SourceList

ARROW: Final = " -> "
# The column of sequences with the hash of the label file. `source_sha256` is the hash of the source alone, which users
# can check with `sha256sum`.
LABELS_SHA256: Final = "labels_sha256"
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_PARTS: Final = {"stem": "[^/]+", "name": "[^/]+", "parent": ".*", "path": ".+"}  # of a name, and what each matches


@dataclass(frozen=True, slots=True)
class LabelFilePattern:
    """How a label file is named after its source.

    Args:
        pattern: A regular expression that is searched in the source's name; None: the template has parts of the name.
        template: The name of the label file, with placeholders.
    """

    pattern: str | None
    template: str

    @classmethod
    def parse(cls, text: str) -> LabelFilePattern:
        r"""Parse a template, or a regular expression and a template.

        Raises:
            UsageError: A placeholder or the regular expression is not valid, or all sources would have the same file.

        >>> LabelFilePattern.parse("labels/{stem}.csv").label_file("a/b.parquet")
        'labels/b.csv'
        >>> LabelFilePattern.parse(r"in/(\d+)_.* -> out/{1}.csv").label_file("in/07_x.csv")
        'out/07.csv'
        """
        before, arrow, template = text.rpartition(ARROW)
        pattern = cls(before.strip() if arrow else None, template.strip())
        pattern._check(text)
        return pattern

    def label_file(self, source: str) -> str:
        """Return the name of a source's label file, relative to the root.

        Raises:
            SourceError: The regular expression does not match.
        """
        path = PurePosixPath(source)
        values = {"stem": stem_of(source), "name": path.name, "parent": path.parent.as_posix(), "path": source}
        if self.pattern is not None:
            match = re.search(self.pattern, source)
            if match is None:
                raise SourceError(
                    source,
                    f"its name does not match '{self.pattern}' of labels_from (--labels-from); correct one of the two, "
                    "or leave the file out of the sources",
                )
            values |= {str(number): text or "" for number, text in enumerate(match.groups(), 1)}
            values |= {name: text or "" for name, text in match.groupdict().items()}
        return posixpath.normpath(_PLACEHOLDER.sub(lambda place: values[place[1]], self.template))

    def is_label_file(self, name: str, partners: Collection[str] = ()) -> bool:
        """Tell whether a file has the name of a label file, and is thus not a source.

        A file that the regular expression matches is a source, unless it is the label file of one (`partners`).

        >>> pattern = LabelFilePattern.parse("{parent}/{stem}_y.csv")
        >>> pattern.is_label_file("a/1_y.csv"), pattern.is_label_file("1_y.csv"), pattern.is_label_file("a/1.csv")
        (True, True, False)
        """
        if _form(self.template).fullmatch(name) is None:
            return False
        return self.pattern is None or re.search(self.pattern, name) is None or name in partners

    def _check(self, text: str) -> None:
        known: dict[str, None] = dict.fromkeys(_PARTS)
        if self.pattern is not None:
            try:
                compiled = re.compile(self.pattern)
            except re.error as error:
                raise UsageError(
                    f"labels_from={text!r:.200}: {self.pattern!r} is not a regular expression: {error}"
                ) from None
            known |= dict.fromkeys([*map(str, range(1, compiled.groups + 1)), *compiled.groupindex])
        places = _PLACEHOLDER.findall(self.template)
        unknown = [place for place in places if place not in known]
        if unknown:
            raise UsageError(
                f"labels_from={text!r:.200}: {{{unknown[0]}}} stands for nothing; there are "
                f"{', '.join(f'{{{name}}}' for name in known)}"
            )
        if not places:
            raise UsageError(
                f"labels_from={text!r:.200} names one file for all sources; name one for each, as 'labels/{{stem}}.csv'"
            )
        if self.template.startswith("/"):
            raise UsageError(
                f"labels_from={text!r:.200} is not relative to the folder of the sources; lead out of that with '..'"
            )


@lru_cache(maxsize=8)
def _form(template: str) -> re.Pattern[str]:
    """Return a regular expression for the names of label files."""
    parts = _PLACEHOLDER.split(posixpath.normpath(template))
    form = "".join(_PARTS.get(part, ".*") if odd % 2 else re.escape(part) for odd, part in enumerate(parts))
    # A source in the root has the parent ".", which the normalized name does not show.
    return re.compile(form.replace(".*/", "(?:.*/)?"), re.DOTALL)


@lru_cache(maxsize=8)
def label_file_pattern(text: str) -> LabelFilePattern:
    """Return the result of `LabelFilePattern.parse`, which is cached for all sources."""
    return LabelFilePattern.parse(text)


def check_below(listing: SourceList, label_file: Callable[[str], str | None], store: object, labels_from: str) -> None:
    """Refuse label files outside the root if only the store names them, since it may come from a stranger.

    Raises:
        UsageError: A label file is outside the root; the user must give `labels_from` again.
    """
    for name in listing.names:
        with contextlib.suppress(SourceError):  # reading the source reports it
            labels = label_file(name) or ""
            if labels.startswith("/") or labels.split("/")[0] == "..":
                raise UsageError(
                    f"{store}: was built with labels_from={labels_from!r:.200}, by which the labels of {name} are in "
                    f"{labels:.200}, outside of {listing.folder}; nothing is opened there because a store says so: "
                    "give it again with labels_from (--labels-from)"
                )


def without_label_files(listing: SourceList, label_file: Callable[[str], str | None], labels_from: str) -> SourceList:
    """Remove label files from the sources.

    Raises:
        UsageError: Two sources have the same label file, or every file is a label file.
    """
    pattern = label_file_pattern(labels_from)
    pairs: dict[str, str | None] = {}
    for name in listing.names:
        with contextlib.suppress(SourceError):  # reading the source reports it
            pairs[name] = label_file(name)
    partners = {one for one in pairs.values() if one is not None}
    names = tuple(name for name in listing.names if not pattern.is_label_file(name, partners))
    if listing.names and not names:
        raise UsageError(
            f"{listing.folder}: by labels_from={labels_from!r:.200} every file ({len(listing.names):,} in all) is a "
            f"label file, such as {listing.names[0]}, and none is a source; rename the label files, or move them "
            "elsewhere"
        )
    owners: dict[str, str] = {}
    for name in names:
        labels = pairs.get(name)
        if labels is None:
            continue
        if labels in owners:
            raise UsageError(
                f"{listing.folder}: labels_from={labels_from!r:.200} pairs both {owners[labels]} and {name} with "
                f"{labels}; each source needs a file of its own: tell folders apart with {{parent}} or {{path}}"
            )
        owners[labels] = name
    return replace(listing, names=names)
