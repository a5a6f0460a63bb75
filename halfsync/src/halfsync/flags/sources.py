"""What someone wants the flags to be: the command line, the environment, a file."""

from __future__ import annotations

import configparser
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from halfsync import flag
from halfsync.flags.values import FlagError, shorten
from halfsync.path_walk import at_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from halfsync.flags.registry import Registry, Setting


MAX_SECRET = 65_536
"""Bytes of a file with a secret."""

MAX_FILE = 1_048_576
"""Bytes of the file that `--config` names; one of /dev/zero has no end."""

_SWALLOWED = re.compile(r"\n([A-Za-z][\w.]*)\s*=")
"""A line in the middle of a value that was meant to be a key: configparser joins what is indented."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One value that someone wants a flag to have."""

    setting: Setting
    text: str
    source: str


RUN = "run"
"""The word that ends the flags; a command's name and its arguments follow."""


def read_command_line(
    registry: Registry, argv: Sequence[str], errors: list[FlagError], command: list[str]
) -> Iterator[Assignment]:
    """Read arguments in oscar's syntax: one dash or two, `--name=value` or `--name value`, `--switch`.

    :param command: is given `run` and what follows it.
    """
    words = iter(argv)
    unknown = False
    for word in words:
        if word == RUN and not unknown:
            command += [word, *words]
            return
        name, equals, text = word.lstrip("-").partition("=")
        if not re.match(r"--?[^-=]", word):
            # What follows a misspelt name is its value, and may be a secret.
            if not unknown:
                errors.append(FlagError(f"{shorten(word)}: not a flag; write --name=value"))
            unknown = False
            continue
        try:
            setting = registry.find(name)
        except FlagError as error:
            errors.append(error)
            unknown = not equals
            continue
        unknown = False
        if not equals and isinstance(setting.var, flag.Bool):
            text = "true"
        elif not equals:
            following = next(words, None)
            if following is None:
                errors.append(FlagError(f"--{setting.name}: no value; write --{setting.name}=value"))
                continue
            text = following
        yield Assignment(setting, text, "command line")


def read_environment(
    registry: Registry, environ: Mapping[str, str], errors: list[FlagError]
) -> Iterator[Assignment]:
    """Read the variables with the service's prefix, and those that are a flag's dotted name."""
    for name, text in sorted(environ.items()):
        try:
            found = _from_environment(registry, environ, name, text)
        except FlagError as error:
            errors.append(error)
            continue
        if found:
            yield found


def _from_environment(
    registry: Registry, environ: Mapping[str, str], name: str, text: str
) -> Assignment | None:
    setting = registry.by_file(name)
    if setting:
        if setting.environment in environ:
            raise FlagError(f"{name}: {setting.environment} is set as well; set one of them")
        return Assignment(setting, read_secret(text, name), f"environment {name}")
    setting = registry.from_environment(name)
    if setting is None:
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        raise FlagError(f"{name}: its value is not UTF-8 text (environment)") from None
    return Assignment(setting, text, f"environment {name}")


def read_credentials(
    registry: Registry, environ: Mapping[str, str], errors: list[FlagError]
) -> Iterator[Assignment]:
    """Read secrets from the folder in which systemd puts them, each in a file called as the flag.

    systemd.exec(5), `LoadCredential=` and `$CREDENTIALS_DIRECTORY`.
    """
    folder = environ.get("CREDENTIALS_DIRECTORY")
    for setting in registry.settings if folder else ():
        # A program that is one file has its own flags without a group: the credential has that of its name.
        name = setting.name if "." in setting.name else setting.native
        path = Path(str(folder)) / name
        if "." in name and setting.secret and path.exists():
            try:
                yield Assignment(setting, read_secret(str(path), "CREDENTIALS_DIRECTORY"), "credential")
            except FlagError as error:
                errors.append(error)


def read_secret(path: str, named_by: str) -> str:
    """Return what is in a file, without the end of its last line.

    :raises FlagError: naming the variable and the file, and nothing of what is in it.
    """
    try:
        # A FIFO would block the start.
        with open(path, "rb", opener=at_once) as file:
            data = file.read(MAX_SECRET + 1)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise FlagError(f"{named_by}: {shorten(path)}: {reason}") from None
    if len(data) > MAX_SECRET:
        raise FlagError(f"{named_by}: {shorten(path)}: larger than {MAX_SECRET} bytes")
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise FlagError(f"{named_by}: {shorten(path)}: not UTF-8 text at byte {error.start}") from None


def read_file(registry: Registry, path: str, errors: list[FlagError]) -> Iterator[Assignment]:
    """Read an INI file: namespaces are sections, flags are keys."""
    parser = configparser.ConfigParser(
        interpolation=None, default_section="\0", delimiters=("=",), empty_lines_in_values=False
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case; so documented
    try:
        full = os.path.expanduser(path)  # noqa: PTH111  that of pathlib raises where there is no such user
        # It may be a pipe of the shell's: `--config=<(...)`.
        with Path(full).open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            errors.append(FlagError(f"--config: {shorten(path)}: larger than {MAX_FILE} bytes"))
            return
        parser.read_string(data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n"), source=path)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        errors.append(FlagError(f"--config: {shorten(path)}: {_why(error)}"))
        return
    for section in parser.sections():
        for key, text in parser.items(section):
            source = f"file {path}"
            if swallowed := _SWALLOWED.search(text):
                errors.append(
                    FlagError(
                        f"[{section}] {key}: {swallowed[1]} = below it is indented, and so part of its value;"
                        f" begin it at the margin ({source})"
                    )
                )
                continue
            try:
                setting = registry.find(f"{section}.{key}")
            except FlagError as error:
                problem = str(error).partition(": ")[2]
                errors.append(FlagError(f"[{section}] {key}: {problem} ({source})"))
                continue
            yield Assignment(setting, text, source)


def _why(error: OSError | UnicodeDecodeError | configparser.Error) -> str:
    """Say what is wrong with a file, without showing a line of it, which may hold a secret."""
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text at byte {error.start}"
    if isinstance(error, configparser.ParsingError):
        number = getattr(error, "lineno", None) or error.errors[0][0]
        return f"line {number} is neither a [section] nor a name = value below one"
    return " ".join(str(error).split())
