"""An epoch whose batches a test makes, instead of reading them from a store."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from types import SimpleNamespace
from typing import Any, Self

from store_spec.reading.ahead import in_groups
from store_spec.reading.one_epoch import EpochOptions, EpochPlan, OneEpoch


class MadePlan(EpochPlan):
    read: Callable[[int, int], list[Any]]
    most: Callable[[int], int]
    steps: int

    def __len__(self) -> int:
        return self.steps

    def __str__(self) -> str:
        return "something"

    def batches(self, numbers: range) -> Generator[Any, None, None]:
        return in_groups(lambda some: self.read(some.start, some.stop), lambda left: self.most(left.start), numbers)

    def parameters(self) -> dict[str, Any]:
        return {}

    def state(self, step: int) -> dict[str, Any]:
        return {"taken": step}

    def resumed(self, step: int, state: Mapping[str, Any]) -> Self:
        raise NotImplementedError


class MadeEpoch(OneEpoch[Any, MadePlan]):
    _of, _kind = "made", "made"

    def __init__(self, read: Callable[[int, int], list[Any]], most: Callable[[int], int], steps: int) -> None:
        store = SimpleNamespace(counts=SimpleNamespace(sequences=1))
        options, rows = EpochOptions(), SimpleNamespace(store=store, normalize=None)
        plan = MadePlan(options, rows, None)
        plan.read, plan.most, plan.steps = read, most, steps
        super().__init__(options, plan)
