"""Which classes labels of text have: found in the order of the sources, before any of these is processed.

So the codes are the same whatever the number of workers and the order in which they finish; and a build that adds
later sources gives what one build of all would have given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from builder.build_errors import SourceError, UsageError
from builder.labels.name_labels import target_names, texts_in_name
from builder.labels.text_classes import MOST_CLASSES, is_number, of_targets, parse_classes, unseen_class
from builder.planning.plan import Plan
from builder.planning.resolved_sources import Reading
from builder.workers.crashes import workers_died
from builder.workers.engine import Engine, Task, as_done
from builder.workers.process_source import Batch
from store_spec import Classes

Texts = tuple[str, ...] | None  # of a target in a source, in order; (): no value, None: they are no text
Looked = dict[str, Texts] | None  # of each label column; None: the source cannot be looked at
Look = Callable[[Iterable[Batch]], Iterator[list[Looked]]]  # gives what batches hold, in their order

_FIRST = 16  # sources that are looked at one by one, at first, for which labels are text
_ASKED = 5  # of those that come first, where one has text: a single broken file must not decide for all the others


def look_at(batch: Batch) -> list[Looked]:
    """Return what the label columns of some sources hold. It runs on a worker."""
    found: list[Looked] = []
    for name in batch.names:
        try:
            found.append(batch.process.classes_in(batch.root / name))
        except (SourceError, OSError):
            found.append(None)  # it is named, with the reason, when it is processed
    return found


def looking_here(batches: Iterable[Batch]) -> Iterator[list[Looked]]:
    """Look at batches in this process."""
    return map(look_at, batches)


def looking_on(engine: Engine) -> Look:
    """Return what has workers look at batches."""

    def look(batches: Iterable[Batch]) -> Iterator[list[Looked]]:
        def submit(item: tuple[int, Batch]) -> Task:
            return engine.submit(look_at, item[1], watch=True)

        found: dict[int, list[Looked]] = {}
        for (number, batch), task in as_done(engine, enumerate(batches), submit):
            try:
                found[number] = task.result()
            except engine.lost as error:
                raise workers_died(batch.names) from error
        return (found[number] for number in sorted(found))

    return look


def with_classes(plan: Plan, look: Look, batch_bytes: int, numbers: Sequence[int] | None = None) -> Plan:
    """Return a plan that knows the classes of the labels of its sources: those of the store, and new ones after them.

    Args:
        plan: The plan.
        look: Looks at sources.
        batch_bytes: How many bytes of files make a batch.
        numbers: Which of the sources to process to look at; None: all.

    Raises:
        UsageError: Classes are given for what is no target; or there are too many for a column of classes; or the store
            has numbers since its sources had no rows, and labels are text.
    """
    held = None if plan.held is None else plan.held.schema.labels
    known = None if held is None else held.classes
    if held is not None and known is None:
        _check_without_rows(plan, look)
        return plan  # of numbers, for ever
    reading, process = plan.reading, plan.reading.process
    if reading.texts is not None:
        given = of_targets(parse_classes(process.classes), reading.targets)
        names = [None if texts is None else reading.targets[i] for i, texts in enumerate(reading.texts)]
        _check_given(reading, given, plan.numbers)
        found: Iterator[Looked] = (
            {names[i] or "": (texts[number],) for i, texts in enumerate(reading.texts) if texts is not None}
            for number in plan.numbers
        )
        begin = tuple(None if name is None else (known or given)[i] or given[i] or () for i, name in enumerate(names))
        return _of(plan, _merged(found, [name or "" for name in names], begin, given))
    if process.label_pattern is not None:
        return _of(plan, _in_names(plan, process.label_pattern, known))
    if process.label_source != "columns":
        return plan
    names_of = None if held is None else held.names
    if known is not None:
        begin, targets = known, None if names_of is None else list(names_of)
    else:
        first = _first_looks(plan, look, len(plan.numbers) if numbers is None else _FIRST)
        kinds, targets = _decided(first)
        begin = of_targets(parse_classes(process.classes), targets)
        # A column without a value in any source may be either: as numbers, each is missing, which is no class.
        begin = tuple(one or (None if not kind else ()) for kind, one in zip(kinds, begin, strict=True))
    given = (
        of_targets(parse_classes(process.classes), targets or [str(i) for i in range(len(begin))])
        if process.classes
        else ()
    )
    fixed = tuple(given) or (None,) * len(begin)
    if any(one is not None and fixed[i] is None for i, one in enumerate(begin)):
        if numbers is None:
            batches = (batch for batch, _ in plan.batches(batch_bytes, 1.0))
        else:
            batches = (plan.batch(slice(number, number + 1)) for number in numbers)
        looked = (_by_name(one, targets) for some in look(batches) for one in some)
        begin = _merged(looked, targets or [str(i) for i in range(len(begin))], begin, fixed)
    return _of(plan, begin, targets)


def _of(plan: Plan, classes: Classes | None, targets: Sequence[str] | None = None) -> Plan:
    if classes is None or all(names is None for names in classes):
        return plan
    return replace(plan, reading=plan.reading.with_classes(classes, targets))


def _check_without_rows(plan: Plan, look: Look) -> None:
    """Refuse text where nothing but the lack of rows made labels of the store numbers.

    Raises:
        UsageError: It is so.
    """
    held, process = plan.held, plan.reading.process
    if held is None or held.snapshot.offsets[-1]:
        return
    if process.label_source != "columns" or process.label_pattern is not None:
        return
    kinds, targets = _decided(_first_looks(plan, look, _FIRST))
    for texts, target in zip(kinds, targets, strict=True):
        if texts:
            raise UsageError(
                f"{held.path}: none of its sources had rows, so that labels {target} were taken for numbers, and now "
                f"they hold text, as {texts[0]!r:.80}; build all sources to another path, or remove this store first"
            )


def _check_given(reading: Reading, given: Classes, numbers: Iterable[int]) -> None:
    """Refuse what a manifest has beside the classes that are given.

    Raises:
        UsageError: A label is none of them, or a number.
    """
    for target, names, texts in zip(reading.targets, given, reading.texts or (), strict=bool(given)):
        if names is None:
            continue
        if texts is None:
            raise UsageError(
                f"classes are given for the manifest's column {target}, which holds numbers; leave them out"
            )
        for number in numbers:
            if texts[number] not in names:
                error = unseen_class(
                    texts[number], f"column {target} of the manifest", names, reading.names[number], named=True
                )
                raise UsageError(str(error))


def _by_name(looked: Looked, targets: Sequence[str] | None) -> Looked:
    """Return what was found by the names of the targets; by their place where these have none."""
    if looked is None or targets is not None:
        return looked
    return {str(place): texts for place, texts in enumerate(looked.values())}


def _in_names(plan: Plan, pattern: str, known: Classes | None) -> Classes | None:
    """Find the classes in the names of sources; the first of these says which targets have any."""
    found: list[tuple[str, ...]] = []
    for name in plan.new:
        try:
            found.append(texts_in_name(name, pattern))
        except SourceError:
            continue
    if not found:
        return known
    groups = target_names(pattern) or tuple(str(place + 1) for place in range(len(found[0])))
    given = of_targets(parse_classes(plan.reading.process.classes), groups)
    first = next((texts for texts in found if all(texts)), found[0])
    begin = known or tuple(
        names or (None if is_number(text) or not text else ()) for names, text in zip(given, first, strict=True)
    )
    rows: Iterator[Looked] = (
        {
            group: None if is_number(text) and one is None else (text,) if text else ()
            for group, text, one in zip(groups, texts, given, strict=True)
        }
        for texts in found
    )
    return _merged(rows, groups, begin, given)


def _first_looks(plan: Plan, look: Look, most: int) -> list[dict[str, Texts]]:
    """Look at the first sources, until each label column has a value in one; at most at so many of them.

    Where they are numbers throughout, at no more: all others have to be like them. Where one has text, at several: as a
    rule all will be looked at for its classes then, so these cost little.
    """
    found: list[dict[str, Texts]] = []
    start, count = 0, 1
    most = min(most, len(plan.numbers))
    while start < most:
        some = range(start, min(start + count, most))
        batches = (plan.batch(slice(place, place + 1)) for place in some)
        found += (one for looked in look(batches) for one in looked if one is not None)
        start, count = start + count, min(4 * count, 4 * _FIRST)
        kinds = _decided(found)[0]
        if found and () not in kinds and (start >= _ASKED or not any(kinds)):
            break
    return found


def _decided(found: Sequence[Mapping[str, Texts]]) -> tuple[list[Texts], list[str]]:
    """Return what the values of each column are, and the columns, as the first source has them.

    They are text where as many sources have text as have numbers, as the first one of these has it.
    """
    targets = list(found[0]) if found else []
    kinds: list[Texts] = []
    for target in targets:
        texts = [texts for one in found if (texts := one.get(target, ())) != ()]
        words = [one for one in texts if one is not None]
        kinds.append((words[0] if 2 * len(words) >= len(texts) else None) if texts else ())
    return kinds, targets


def _merged(found: Iterable[Looked], targets: Sequence[str], begin: Classes, fixed: Sequence[Texts]) -> Classes:
    """Add to classes, in order, the texts of sources that fit; those of fixed lists are not added to.

    Raises:
        UsageError: There are more than a column of classes has.
    """
    classes = [None if names is None else dict.fromkeys(names) for names in begin]
    for one in found:
        if one is None or not all(target in one or classes[i] is None for i, target in enumerate(targets)):
            continue
        pairs = [(names, one.get(target)) for target, names in zip(targets, classes, strict=True)]
        # A source with numbers in place of classes, or the reverse, is refused when it is read, and adds none.
        if any((names is None) != (texts is None) and texts != () for names, texts in pairs):
            continue
        for (names, texts), target, whole in zip(pairs, targets, fixed, strict=True):
            if names is None or whole is not None:
                continue
            names.update(dict.fromkeys(texts or ()))
            if len(names) > MOST_CLASSES:
                raise UsageError(
                    f"labels {target} have more than {MOST_CLASSES:,} different texts, {next(iter(names))!r:.80} to "
                    f"{next(reversed(names))!r:.80}, and so many are no classes; choose another column"
                )
    return tuple(None if names is None else tuple(names) for names in classes)
