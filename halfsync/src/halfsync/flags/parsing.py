"""From a command line to a process's flags, or to what it should print instead of running."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from halfsync import built, flag
from halfsync.flags import report
from halfsync.flags.declaring import declare, reading
from halfsync.flags.registry import Registry, Setting
from halfsync.flags.sources import read_command_line, read_credentials, read_environment, read_file
from halfsync.flags.types import Action
from halfsync.flags.values import FlagError, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from halfsync.flags.sources import Assignment
    from halfsync.life.about import About


@declare(flag.namespace(""), at_start=True)
class FLAGS:
    """What is said to the flags layer itself; all but `config` on the command line alone."""

    config = flag.String("INI file with more flags: a namespace is a section, a flag a key.", default="")
    check_config = flag.Bool("Check flags, files and endpoints; print ok or every problem.", default=False)
    print_config = flag.Bool("Print every flag: its value, its source, what it overrode.", default=False)
    version = flag.Bool("Print the version.", default=False)
    help = flag.Bool("Print this.", default=False)


_settings: dict[str, Setting] = {}
"""The flags of this process once `parse` has returned, by name."""

_registries: dict[str, Registry] = {}
"""Those flags under all their names, by the file that they were read from."""


def parse(
    about: About,
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    commands: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Set every declared flag from its sources; return the command that is to run, and its arguments.

    :param argv: the arguments without the program's name.
    :param commands: what may follow `run`, each with a line about it; empty when there is none.
    :raises SystemExit: 0 when all that was asked for is printed (`--help`, `--version`, `--check_config`,
        `--print_config`); 2 when a flag, a variable or a key is wrong, each told in a line on standard error.
    """
    registry = Registry(about.package)
    errors: list[FlagError] = []
    command: list[str] = []
    for assignment in _gather(registry, argv, environ, errors, command):
        try:
            assignment.setting.set(assignment.text, assignment.source)
        except FlagError as error:
            errors.append(error)
    reading.allowed = True
    if FLAGS.help:
        _print_and_exit(report.usage(about, registry.settings, commands))
    if FLAGS.version:
        _print_and_exit("\n".join([f"{about.name} {about.version}", *built.lines(about.package)]))
    errors += _missing(registry)
    errors += _command_faults(command, commands)
    if FLAGS.check_config:
        errors += _faults(registry)
    if errors:
        for problem in errors:
            print(f"{about.name}: {problem}", file=sys.stderr)  # noqa: T201  before there is a log
        sys.exit(2)
    if FLAGS.print_config:
        _print_and_exit(report.configuration(registry.settings))
    if FLAGS.check_config:
        _print_warnings(about, registry)
        _print_and_exit("ok")
    _settings.clear()
    _settings.update((setting.name, setting) for setting in registry.settings)
    _registries.clear()
    _registries[FLAGS.config] = registry
    reading.parsed = True
    _act(registry)
    return command[1:]


def _print_warnings(about: About, registry: Registry) -> None:
    """Tell what keeps no service from starting, and may be meant otherwise; a start has it in its log."""
    warnings = [f"{name}: no flag has this environment name; ignored" for name in registry.ignored]
    warnings += [f"{old}: is called {new} now" for old, new in registry.renamed.items()]
    for warning in warnings:
        print(f"{about.name}: {warning}", file=sys.stderr)  # noqa: T201  before there is a log


def states() -> list[Setting]:
    """Return every flag of the running process, sorted by name."""
    return list(_settings.values())


def ignored_environment() -> list[str]:
    """Return the variables of the environment that share the service's prefix, and are no flags."""
    return [name for registry in _registries.values() for name in registry.ignored]


def renamed() -> dict[str, str]:
    """Return the old names of flags that were used, and what they are called now."""
    return {old: new for registry in _registries.values() for old, new in registry.renamed.items()}


def set_live(name: str, text: str, source: str = "live") -> None:
    """Give a flag of the running process another value; code that reads the flag again gets it.

    :raises FlagError: when there is no such flag, it is not live, or the value is none that it takes.
    """
    if name not in _settings:
        raise FlagError(
            f"--{name}: no such flag when flags were parsed; what is declared later cannot be set"
        )
    setting = _settings[name]
    before = setting.var.value
    setting.set(text, source)
    if not setting.live:
        # A value that is none that it takes is told first.
        setting.given.pop()
        setting.var.value = before
        raise FlagError(f"--{name}: is read at the start only; give it another value there, and start again")
    setting.apply()


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a second look into the file has changed."""

    changed: dict[str, str]
    """The new values of live flags, as anyone may see them, by name."""
    at_start: list[str]
    """Flags that the file has another value for, which only another start would take."""


def reload() -> Reloaded:
    """Read the file again, and give live flags what it says now; the stronger sources stay in force.

    A flag that the file no longer names has its default again.
    :raises FlagError: for the first thing in it that is wrong; nothing has changed then.
    """
    path = FLAGS.config
    registry = _registries.get(path) if path else None
    if registry is None:
        return Reloaded({}, [])
    errors: list[FlagError] = []
    wanted = {each.setting.name: each for each in read_file(registry, path, errors)}
    if errors:
        raise errors[0]
    source = f"file {path}"
    before = {setting.name: (setting.var.value, list(setting.given)) for setting in registry.settings}
    were = {setting.name: setting.var.get() for setting in registry.settings}
    at_start = []
    try:
        for setting in registry.settings:
            old = [text for said, text in setting.given if said == source]
            new = [wanted[setting.name].text] if setting.name in wanted else []
            if old[-1:] == new:
                continue
            stronger = [(said, text) for said, text in setting.given if said != source]
            if not setting.live:
                # Where another source is stronger, no start would take it either.
                at_start += [] if stronger else [setting.name]
                continue
            setting.given.clear()
            setting.var.value = flag.UNSET
            for said, text in [*((source, text) for text in new), *stronger]:
                setting.set(text, said)
    except FlagError:
        for setting in registry.settings:
            setting.var.value, setting.given[:] = before[setting.name]
        raise
    # A stronger source may have kept the value what it was.
    changed = [setting for setting in registry.settings if setting.var.get() != were[setting.name]]
    for setting in changed:
        setting.apply()
    return Reloaded({setting.name: setting.text for setting in changed}, at_start)


def chosen(package: str, name: str) -> str | None:
    """Return what the flag `name` will be, before every module has declared its flags; None for its default.

    What is wrong is passed over: `parse` will say it.
    """
    registry = Registry(package)
    found = [
        assignment.text
        for assignment in _gather(registry, None, None, [], [])
        if assignment.setting.name == name
    ]
    return found[-1] if found else None


def _gather(
    registry: Registry,
    argv: Sequence[str] | None,
    environ: Mapping[str, str] | None,
    errors: list[FlagError],
    command: list[str],
) -> list[Assignment]:
    """Collect what every source wants, weakest first; the file is named by the two that are stronger."""
    line = list(read_command_line(registry, sys.argv[1:] if argv is None else argv, errors, command))
    variables = os.environ if environ is None else environ
    environment = list(read_environment(registry, variables, errors))
    credentials = list(read_credentials(registry, variables, errors))
    path = next((each.text for each in reversed([*environment, *line]) if each.setting.name == "config"), "")
    file = list(read_file(registry, path, errors)) if path else []
    return [*file, *credentials, *environment, *line]


def _missing(registry: Registry) -> list[FlagError]:
    return [
        FlagError(f"--{setting.name}: required; set it here, in a --config file or as {setting.environment}")
        for setting in registry.settings
        if setting.var.default is flag.REQUIRED and not setting.var.is_set()
    ]


def _act(registry: Registry) -> None:
    for setting in registry.settings:
        if isinstance(setting.var, Action) and setting.var.get():
            sys.exit(setting.var.act())


def _command_faults(command: Sequence[str], commands: Mapping[str, str]) -> list[FlagError]:
    if not command or (len(command) > 1 and command[1] in commands):
        return []
    if not commands:
        return [FlagError("run: this service declares no commands")]
    known = ", ".join(sorted(commands))
    if len(command) == 1:
        return [FlagError(f"run: no command; write run and one of {known}")]
    return [FlagError(f"run {shorten(command[1])}: no such command; there is {known}")]


def _faults(registry: Registry) -> list[FlagError]:
    """Ask the world whether it allows what the flags say, as far as that can be told without starting."""
    faults = []
    for setting in registry.settings:
        fault = getattr(setting.var, "fault", lambda: None)()
        if fault:
            faults.append(FlagError(f"--{setting.name}: {fault} ({setting.source})"))
    return faults + _conflicts(registry)


def _conflicts(registry: Registry) -> list[FlagError]:
    """Find what two flags claim, and only one can have: an address, an inherited socket."""
    faults: list[FlagError] = []
    claimed: list[tuple[Setting, Any]] = []
    for setting in registry.settings:
        for claim in getattr(setting.var, "claims", list)():
            for other, earlier in claimed:
                if claim.conflicts_with(earlier) and not (other is setting and claim.repeatable):
                    reason = f"--{other.name} has {str(earlier)!r}, which is the same socket"
                    faults.append(FlagError(f"--{setting.name}: {str(claim)!r}: {reason} ({setting.source})"))
            claimed.append((setting, claim))
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
