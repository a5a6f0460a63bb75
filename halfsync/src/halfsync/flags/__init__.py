"""oscar.flag made strict: default < file < environment < command line, each error one line.

The flags themselves are oscar's, in its namespaces, declared where they are used:

    @flags.declare(flag.namespace(__name__))
    class FLAGS:
        url = flag.String("The page to check.", default="")

    FLAGS.url  # a str, at run time and for a type checker

A flag `url` in the namespace `hello_service.tasks` is `--tasks.url=` on the command line
(`--hello_service.tasks.url=`, too),
`url =` below `[tasks]` in the file,
and `HELLO_SERVICE_TASKS_URL` in the environment, where its dotted name is taken too.
"""

from halfsync.flags.declaring import declare
from halfsync.flags.parsing import (
    Reloaded,
    chosen,
    ignored_environment,
    parse,
    reload,
    renamed,
    set_live,
    states,
)
from halfsync.flags.registry import Setting
from halfsync.flags.types import Action, Choice, Count, Path, Seconds, Size
from halfsync.flags.values import FlagError

__all__ = [
    "Action",
    "Choice",
    "Count",
    "FlagError",
    "Path",
    "Reloaded",
    "Seconds",
    "Setting",
    "Size",
    "chosen",
    "declare",
    "ignored_environment",
    "parse",
    "reload",
    "renamed",
    "set_live",
    "states",
]
