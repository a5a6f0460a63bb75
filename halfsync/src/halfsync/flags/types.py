"""Flag types that are strict about what they take, and say in one line what would be right.

Each extends a type of oscar.flag; `set` raises `ValueError` and leaves the flag as it was.
"""

from __future__ import annotations

import math
import os.path
from typing import TYPE_CHECKING

from halfsync import flag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Action(flag.Bool):
    """A switch of the command line: something is done instead of serving, once the flags are right."""

    def __init__(self, description: str, act: Callable[[], int]) -> None:
        """Declare it; `act` returns the exit code of the process."""
        super().__init__(description, default=False)
        self.act = act


class Count(flag.Int):
    """A whole number of things."""

    type_str = "whole number"
    _unlike = "is no whole number"

    def __init__(self, description: str, default: int, *, minimum: int = 1, maximum: int = 1_000_000) -> None:
        super().__init__(description, default)
        self.minimum = minimum
        self.maximum = maximum

    def set(self, value: str) -> None:
        """Take a whole number within the range."""
        try:
            number = int(value)
        except ValueError:
            raise ValueError(self._unlike) from None
        right = f"right is {self.minimum} to {self.maximum}"
        if number < self.minimum:
            raise ValueError(f"is less than {self.minimum}; {right}")
        if number > self.maximum:
            raise ValueError(f"is more than {self.maximum}; {right}")
        self.value = number


class Size(Count):
    """A number of bytes."""

    type_str = "bytes"
    _unlike = "is no whole number of bytes; write it without a unit"

    def __init__(self, description: str, default: int, *, minimum: int = 1, maximum: int = 2**62) -> None:
        super().__init__(description, default, minimum=minimum, maximum=maximum)


class Seconds(flag.Float):
    """A time span in seconds."""

    type_str = "seconds"

    def __init__(
        self, description: str, default: float, *, minimum: float = 0.001, maximum: float = 1e9
    ) -> None:
        super().__init__(description, default)
        self.minimum = minimum
        self.maximum = maximum

    def set(self, value: str) -> None:
        """Take a finite number within the range."""
        try:
            number = float(value)
        except ValueError:
            raise ValueError("is no number of seconds; write it without a unit") from None
        if not math.isfinite(number):
            raise ValueError("is no finite number of seconds")
        right = f"right is {self.minimum:g} to {self.maximum:g} seconds"
        if number < self.minimum:
            raise ValueError(f"is less than {self.minimum:g}; {right}")
        if number > self.maximum:
            raise ValueError(f"is more than {self.maximum:g}; {right}")
        self.value = number


class Choice(flag.String):
    """One of a few words."""

    def __init__(self, description: str, default: str, *, choices: Sequence[str]) -> None:
        super().__init__(description, default)
        self.choices = choices
        self.type_str = "|".join(choices)

    def set(self, value: str) -> None:
        """Take one of the choices, as it is spelled."""
        if value not in self.choices:
            raise ValueError(f"is none of {', '.join(self.choices)}")
        self.value = value


class Path(flag.String):
    """A path of the file system; a leading `~` is the home folder."""

    type_str = "path"

    def __init__(
        self, description: str, default: str, *, check: Callable[[str], str | None] | None = None
    ) -> None:
        """Declare a path; `check` says in one line what is wrong with it, for `--check_config`."""
        super().__init__(description, default)
        self._check = check

    def get(self) -> str:
        """Return the path with `~` expanded."""
        return os.path.expanduser(super().get())  # noqa: PTH111  a flag's value stays the text it is

    def set(self, value: str) -> None:
        """Take a path; the world is asked later."""
        if "\0" in value:
            raise ValueError("holds a NUL byte")
        self.value = value

    def fault(self) -> str | None:
        """Say what is wrong with the path in the world as it is."""
        return self._check(self.get()) if self._check else None
