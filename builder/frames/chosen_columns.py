"""Choose the columns of a table that are inputs and labels."""

from collections.abc import Mapping
from functools import partial
from itertools import chain

from builder.build_errors import SourceError
from builder.formats.column_choice import as_option, in_order_of_store, is_range, list_names, select
from builder.formats.convert import check_all
from builder.formats.table import OpenTable
from builder.frames.groups import columns_to_group_by
from builder.frames.label_join import LabelledTable
from builder.options.option_syntax import parse_policies, parse_transform
from builder.options.table_options import AS_TEXT, TableOptions

Names = tuple[str, ...]


def select_inputs_and_labels(
    table: OpenTable, options: TableOptions, store_inputs: Names | None, store_labels: Names | None
) -> tuple[Names, Names]:
    """Return the input and label columns, in order.

    `store_inputs` and `store_labels` are the names in the store; None: there is no store, or they have no names.
    """
    labelled = table if isinstance(table, LabelledTable) else None
    groups: Mapping[str, tuple[str, ...]] = table.groups if labelled is None else labelled.inputs.groups
    exclude, on = tuple(options.exclude), tuple[str, ...]()
    if labelled is not None:
        exclude, on = labelled.source_columns(exclude), labelled.on
    # A list column without elements cannot be selected, but can be excluded.
    can_be_selected = tuple(part for part in exclude if groups.get(part) != ())
    named = options.labels if options.label_source == "columns" and labelled is None else ()
    excluded, labels, inputs, time, by = check_all(
        *(partial(select, names, groups) for names in (can_be_selected, named, options.inputs, options.time)),
        partial(columns_to_group_by, options.group_by, groups),
    )
    excluded = set(excluded)
    labels = [name for name in labels if name not in excluded]
    if options.inputs:
        inputs = [name for name in inputs if name not in excluded]
    else:
        others = [name for name in groups if name not in exclude]
        without = {*excluded, *labels, *by, *on, *time}
        inputs = [name for name in select(others, groups) if name not in without]
    for option, names in (("inputs", inputs), ("labels", labels)):
        if not names and (option == "inputs" or named):
            raise SourceError(f"no column is left for the {option}, after labels and exclude")
    x, y = tuple(inputs), tuple(labels)
    if table.named:
        x = in_order_of_store(x, store_inputs, "inputs")
        y = in_order_of_store(y, store_labels, "labels") if labelled is None else y
    if labelled is not None:
        y = labelled.targets(tuple(options.labels) or None, store_labels, tuple(options.exclude))
    if table.named:
        _refuse_ranges(options, (*time, *x, *y), table.groups)
    return x, y


def _refuse_ranges(options: TableOptions, chosen: Names, groups: Mapping[str, Names]) -> None:
    """Refuse ranges that depend on the order of columns, as that of files may differ."""
    for option, parts in (("--time", options.time), ("--group-by", options.group_by), ("--on", options.on)):
        for part in parts:
            if any(is_range(side, groups) for side in (part, part.removesuffix(AS_TEXT), *part.split("="))):
                raise SourceError(
                    f"{option} {as_option(part)} has a range, but the order of columns may differ between files; name "
                    "them one by one, and build to another path if there is a store"
                )
    columns = [columns for columns, _ in parse_policies(options.missing).columns]
    columns += [parse_transform(text).columns for text in options.transforms]
    for part in chain.from_iterable(columns):
        names = () if part in groups else select((part,), groups)
        if len(names) > 1 and set(names) <= set(chosen):  # other columns are refused later
            in_store = chosen[chosen.index(names[0]) : chosen.index(names[-1]) + 1]
            if set(names) != set(in_store):
                raise SourceError(
                    f"the range {part} is {list_names(names)} here, but {list_names(in_store) or 'none'} in the order "
                    "of inputs and labels; name them one by one, and build to another path if there is a store"
                )
