"""From a command line to a process's flags, or to what it should print instead of running."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from halfsync import flag
from halfsync.flags import report
from halfsync.flags.declaring import declare
from halfsync.flags.registry import Registry, Setting
from halfsync.flags.sources import read_command_line, read_environment, read_file
from halfsync.flags.values import FlagError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from halfsync.flags.sources import Assignment
    from halfsync.life.about import About


@declare(flag.namespace(""))
class FLAGS:
    """What is said to the flags layer itself; all but `config` on the command line alone."""

    config = flag.String("INI file with more flags: a namespace is a section, a flag a key.", default="")
    check_config = flag.Bool("Check flags, files and endpoints; print ok or every problem.", default=False)
    print_config = flag.Bool("Print every flag: its value, its source, what it overrode.", default=False)
    version = flag.Bool("Print the version.", default=False)
    help = flag.Bool("Print this.", default=False)


_settings: dict[str, Setting] = {}
"""The flags of this process once `parse` has returned, by name."""


def parse(about: About, argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Set every declared flag from its sources.

    :param argv: the arguments without the program's name.
    :raises SystemExit: 0 when all that was asked for is printed (`--help`, `--version`, `--check_config`,
        `--print_config`); 2 when a flag, a variable or a key is wrong, each told in a line on standard error.
    """
    registry = Registry(about.package)
    errors: list[FlagError] = []
    for assignment in _gather(registry, argv, environ, errors):
        try:
            assignment.setting.set(assignment.text, assignment.source)
        except FlagError as error:
            errors.append(error)
    if FLAGS.help:
        _print_and_exit(report.usage(about, registry.settings))
    if FLAGS.version:
        _print_and_exit(f"{about.name} {about.version}")
    errors += [
        FlagError(f"--{setting.name}: required; set it here, in a --config file or as {setting.environment}")
        for setting in registry.settings
        if setting.var.default is flag.REQUIRED and not setting.var.is_set()
    ]
    if FLAGS.check_config:
        errors += _faults(registry)
    if errors:
        for problem in errors:
            print(f"{about.name}: {problem}", file=sys.stderr)  # noqa: T201  before there is a log
        sys.exit(2)
    if FLAGS.print_config:
        _print_and_exit(report.configuration(registry.settings))
    if FLAGS.check_config:
        _print_and_exit("ok")
    _settings.clear()
    _settings.update((setting.name, setting) for setting in registry.settings)


def states() -> list[Setting]:
    """Return every flag of the running process, sorted by name."""
    return list(_settings.values())


def set_live(name: str, text: str, source: str = "live") -> None:
    """Give a flag of the running process another value; whoever reads the flag again sees it.

    :raises FlagError: when there is no such flag, or the value is none that it takes.
    """
    if name not in _settings:
        raise FlagError(f"--{name}: no such flag")
    _settings[name].set(text, source)


def chosen(package: str, name: str) -> str | None:
    """Return what the flag `name` will be, before every module has declared its flags; None for its default.

    What is wrong is passed over: `parse` will say it.
    """
    registry = Registry(package)
    found = [
        assignment.text for assignment in _gather(registry, None, None, []) if assignment.setting.name == name
    ]
    return found[-1] if found else None


def _gather(
    registry: Registry,
    argv: Sequence[str] | None,
    environ: Mapping[str, str] | None,
    errors: list[FlagError],
) -> list[Assignment]:
    """Collect what every source wants, weakest first; the file is named by the two that are stronger."""
    line = list(read_command_line(registry, sys.argv[1:] if argv is None else argv, errors))
    environment = list(read_environment(registry, os.environ if environ is None else environ, errors))
    path = next((each.text for each in reversed([*environment, *line]) if each.setting.name == "config"), "")
    file = list(read_file(registry, path, errors)) if path else []
    return [*file, *environment, *line]


def _faults(registry: Registry) -> list[FlagError]:
    """Ask the world whether it allows what the flags say, as far as that can be told without starting."""
    faults = []
    for setting in registry.settings:
        fault = getattr(setting.var, "fault", lambda: None)()
        if fault:
            faults.append(FlagError(f"--{setting.name}: {fault} ({setting.source})"))
    return faults


def _print_and_exit(text: str) -> NoReturn:
    # A description may have letters that the terminal's character set has not.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)  # noqa: T201  what was asked for
    except BrokenPipeError:
        # `--help | head` has read enough. The interpreter would try to write the rest once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)
