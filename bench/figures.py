"""From rounds to figures: medians, and ratios taken within a round, where both had the same machine."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Spread:
    """The median of rounds, and the lowest and highest of them."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread | None:
    """Return the spread of values; None of no values."""
    if not values:
        return None
    return Spread(median(values), min(values), max(values))


def ratios(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Return ours divided by theirs, for each round in which theirs has a figure other than 0."""
    return [ours[number] / theirs[number] for number in sorted(ours.keys() & theirs.keys()) if theirs[number]]


def order(names: Sequence[str], number: int) -> list[str]:
    """Return the order of a round: each begins one further, so that no one is always the first."""
    start = number % len(names)
    return [*names[start:], *names[:start]]
