"""Every declared flag, under each of its names, with every value that it was given."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from halfsync import flag
from halfsync.flags.values import FlagError, assign, shorten, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

MASK = "********"


@dataclass(slots=True)
class Setting:
    """A declared flag, its names, and every value that it was given, the last one in force."""

    name: str
    """As it is written on the command line, less the dashes: `web.threads`."""
    native: str
    """As oscar has it; it differs from `name` by the package's own: `hello_service.tasks.url`."""
    environment: str
    var: flag.Var[Any]
    given: list[tuple[str, str]] = field(default_factory=list)
    """(source, text), in order of precedence."""

    def set(self, text: str, source: str) -> None:
        """Give the flag a value.

        :raises FlagError: naming the flag, the value, the source, and what would be right.
        """
        try:
            assign(self.var, text)
        except FlagError as error:
            shown, problem = shorten(text), str(error)
            if self.var.secure:
                # A type of the user's may say the value in its error.
                shown, problem = MASK, problem.replace(text, MASK) if text else problem
            raise FlagError(f"--{self.name}: {shown} {problem} ({source})") from None
        self.given.append((source, text))

    def show(self, text: str) -> str:
        """Return a value as anyone may see it."""
        return MASK if self.var.secure and text else text

    @property
    def text(self) -> str:
        """The value in force, as anyone may see it."""
        value = self.var.get()
        return "" if value is flag.REQUIRED else self.show(text_of(self.var, value))

    @property
    def source(self) -> str:
        """Where the value in force came from."""
        return self.given[-1][0] if self.given else "default"

    @property
    def overrode(self) -> list[tuple[str, str]]:
        """What the value in force was preferred to, nearest first, masked."""
        if not self.given:
            return []
        default = "" if self.var.default is flag.REQUIRED else text_of(self.var, self.var.default)
        return [(source, self.show(text)) for source, text in [*self.given[-2::-1], ("default", default)]]


class Registry:
    """Every declared flag under all of its names."""

    def __init__(self, package: str) -> None:
        """Collect what is declared so far.

        :raises FlagException: when two flags would share a name or an environment variable.
        """
        self.prefix = f"{package.upper()}_"
        self.settings: list[Setting] = []
        self._names: dict[str, Setting] = {}
        self._environment: dict[str, Setting] = {}
        own = f"{package}."

        def add(namespace: str, name: str, var: flag.Var[Any]) -> None:
            # `flag.namespace(__name__)` in the file that is run: a script, or the package's own __main__.
            home = package if namespace == "__main__" else namespace
            native = f"{home}.{name}".lstrip(".")
            public = native.removeprefix(own)
            # Only the file may be named elsewhere than on the command line: an inherited variable
            # that makes every start print its help and exit would be a trap.
            command_only = not namespace and name != "config"
            environment = "" if command_only else self.prefix + public.upper().replace(".", "_")
            setting = Setting(public, native, environment, var)
            for table, key in ((self._names, public), (self._environment, environment)):
                if not key:
                    continue
                if key in table:
                    raise flag.FlagException(f"{native} and {table[key].native} are both called {key}")
                table[key] = setting
            self._names[native] = setting
            self.settings.append(setting)

        flag.GLOBAL_FLAGS.visit_all(add)
        self.settings.sort(key=lambda setting: ("." in setting.name, setting.name))

    def find(self, name: str) -> Setting:
        """Find a flag by its name, or by the last word of it while only one flag has that.

        :raises FlagError: when there is none, or more than one.
        """
        if name in self._names:
            return self._names[name]
        found = [setting for setting in self.settings if setting.name.rpartition(".")[2] == name]
        if len(found) == 1:
            return found[0]
        if found:
            every = ", ".join(f"--{setting.name}" for setting in found)
            raise FlagError(f"--{name}: ambiguous; write one of {every}")
        raise FlagError(f"--{shorten(name, quote=False)}: no such flag{_hint(name, self._names, '--')}")

    def from_environment(self, name: str) -> Setting | None:
        """Find the flag that an environment variable sets; None when the variable is not ours.

        :raises FlagError: when the variable has our prefix and names no flag.
        """
        if "." in name:
            return self._names.get(name)
        setting = self._environment.get(name)
        if setting or not name.startswith(self.prefix) or self._is_service_link(name):
            return setting
        hint = _hint(name, self._environment)
        raise FlagError(
            f"{shorten(name, quote=False)}: no flag has this environment name{hint} (environment)"
        )

    def _is_service_link(self, name: str) -> bool:
        # Kubernetes announces a Service called like ours to every pod beside it in variables of this form
        # (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables),
        # which would else be taken for misspelt flags.
        link = r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
        return re.fullmatch(link, name.removeprefix(self.prefix)) is not None


def _hint(name: str, known: Mapping[str, object], dashes: str = "") -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {dashes}{close[0]}?" if close else "; --help lists them"
