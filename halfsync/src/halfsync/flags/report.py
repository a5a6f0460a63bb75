"""What `--help` and `--print_config` print."""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import TYPE_CHECKING, Any

from halfsync import flag
from halfsync.flags.values import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from halfsync.flags.registry import Setting
    from halfsync.life.about import About

_TYPES: dict[type[flag.Var[Any]], str] = {
    flag.Bool: "true|false",
    flag.Int: "whole number",
    flag.Float: "number",
    flag.String: "text",
}


def usage(about: About, settings: Sequence[Setting], commands: Mapping[str, str]) -> str:
    """Return the help text: every flag by namespace, with its type, default, meaning and environment name.

    :param commands: what may follow `run`, each with a line about it.
    """
    lines = [
        f"{about.name} {about.version}",
        *textwrap.wrap(about.summary, 100),
        "",
        f"usage: {about.name} [--flag=value ...]",
        *([f"       {about.name} [--flag=value ...] run COMMAND [argument ...]"] if commands else []),
        "",
        "A value is taken from the command line, else from the environment, else from the --config file,",
        "else it is the default.",
    ]
    if commands:
        lines += [
            "",
            "Commands",
            *(f"  run {name}  {told}".rstrip() for name, told in sorted(commands.items())),
        ]
    # A program that is one file has its own flags without a group, and in the file in a section of its name.
    own = any("." in setting.native and "." not in setting.name for setting in settings)
    ungrouped = f"This command; its own flags are in [{about.package}] of the file" if own else "This command"
    for namespace, members in groupby(settings, key=lambda setting: setting.name.rpartition(".")[0]):
        lines += ["", f"[{namespace}]" if namespace else ungrouped]
        for setting in members:
            lines += _usage_of(setting)
    return "\n".join(lines)


def _usage_of(setting: Setting) -> list[str]:
    var = setting.var
    kind = _kind(var)
    if var.default is flag.REQUIRED:
        default = "required"
    else:
        text = setting.show(text_of(var, var.default))
        default = f"default {text}" if text else "default empty"
    lines = [f"  --{setting.name}=<{kind}>  ({default})"]
    lines += textwrap.wrap(var.description, 100, initial_indent="      ", subsequent_indent="      ")
    if setting.environment:
        lines.append(f"      {setting.environment}")
    return lines


def _kind(var: flag.Var[Any]) -> str:
    """Return how a value is written, such as `text,...` for a list."""
    inner = getattr(var, "inner_value", None)
    if inner is not None:
        return f"{_kind(inner)}{getattr(var, 'separator', ' ')}..."
    # A type that says no other name than the one it extends is written as that one.
    return next((told for base, told in _TYPES.items() if var.type_str == base.type_str), var.type_str)


def configuration(settings: Sequence[Setting]) -> str:
    """Return one line a flag: its value, where that came from, and what it overrode; secrets are masked."""
    lines = []
    for setting in settings:
        if not setting.environment:
            continue
        told = [setting.source] + [f"over {source}: {_one_line(text)}" for source, text in setting.overrode]
        lines.append(f"{setting.name} = {_one_line(setting.text)}  ({'; '.join(told)})")
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)
