"""What keeps a service from starting, told to a person."""

from __future__ import annotations


class StartError(Exception):
    """The world does not let a part start: a port is taken, a key is missing. One line, for a person."""

    exit_code = 1
    """Of the process; a service manager tries again."""


class UnusableError(StartError, ValueError):
    """What a part was made with, mostly a flag's value, cannot be used.

    A test sees a `ValueError`, as of any wrong argument; whoever starts the service, one line.
    """


class WrongFlagsError(StartError):
    """Flags whose values are right each, and wrong together: no other try would end better."""

    exit_code = 2
    """Of the process; systemd does not try again (`RestartPreventExitStatus`)."""
