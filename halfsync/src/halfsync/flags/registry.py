"""Every declared flag, under each of its names, with every value that it was given."""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from halfsync import flag
from halfsync.flags.declaring import AT_START, PUBLIC, RENAMED
from halfsync.flags.types import Choice, Path
from halfsync.flags.values import FlagError, assign, shorten, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

MASK = "********"

_CALLED_SECRET = re.compile(
    r"(?:[._]|\A)(?:password|passwd|passphrase|secret|token|key|dsn|credential)s?(?:_[^.]*)?\Z"
)
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]*@")


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
            if self.show(text) != text:
                # A type of the user's may say the value in its error.
                shown, problem = self.show(text), problem.replace(text, self.show(text))
                shown = shown if self.secret else shorten(shown)
            raise FlagError(f"--{self.name}: {shown} {problem} ({source})") from None
        self.given.append((source, text))

    def apply(self) -> None:
        """Have a value that was set while the service runs take effect, where to read it is not enough."""
        getattr(self.var, "apply", lambda: None)()

    @property
    def live(self) -> bool:
        """Whether it may change while the service runs; else it is read once, at the start."""
        return bool(self.environment) and not getattr(self.var, AT_START, False)

    def show(self, text: str) -> str:
        """Return a value as anyone may see it: no secret, and no password within a URL."""
        if self.secret:
            return MASK if text else text
        return _URL_PASSWORD.sub(rf"\1:{MASK}@", text)

    @property
    def secret(self) -> bool:
        """Whether the value is shown to nobody: the flag says so, or is called like a secret."""
        if self.var.secure:
            return True
        if getattr(self.var, PUBLIC, False) or not isinstance(self.var, flag.String):
            return False
        return not isinstance(self.var, Path | Choice) and bool(_CALLED_SECRET.search(self.name))

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
        self.package = package
        self.prefix = f"{package.upper()}_"
        self.settings: list[Setting] = []
        self.renamed: dict[str, str] = {}
        """Old names that were used, and what the flags are called now."""
        self._renamed: dict[str, Setting] = {}
        self.ignored: list[str] = []
        """Variables of the environment that share the prefix, and are not taken for ours."""
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
            for old in getattr(var, RENAMED, ()):
                before = f"{public.rpartition('.')[0]}.{old}".lstrip(".")
                self._renamed[before] = setting
                self._renamed[self.prefix + before.upper().replace(".", "_")] = setting

        flag.GLOBAL_FLAGS.visit_all(add)
        self.settings.sort(key=lambda setting: ("." in setting.name, setting.name))

    def find(self, name: str) -> Setting:
        """Find a flag by its name, or by one that it had before.

        :raises FlagError: when there is none; it names the flags of which it is the last word.
        """
        if name in self._renamed:
            self.renamed[name] = self._renamed[name].name
            return self._renamed[name]
        if name in self._names:
            return self._names[name]
        # No short forms: one that is enough today would name two flags tomorrow.
        found = [f"--{each.name}" for each in self.settings if each.name.rpartition(".")[2] == name]
        if len(found) > 1:
            raise FlagError(f"--{name}: ambiguous; write one of {', '.join(found)}")
        if found:
            raise FlagError(f"--{name}: no such flag; did you mean {found[0]}?")
        hint = self._not_imported(name) or _hint(name, self._names, "--")
        raise FlagError(f"--{shorten(name, quote=False)}: no such flag{hint}")

    def _not_imported(self, name: str) -> str:
        """Say that the module is not imported that would declare a flag, if there is one."""
        group = name.rpartition(".")[0].removeprefix(f"{self.package}.")
        module = f"{self.package}.{group}"
        if not re.fullmatch(r"\w+", group) or self.package not in sys.modules or module in sys.modules:
            return ""
        try:
            found = find_spec(module)
        except (ImportError, ValueError):
            found = None
        return f"; {module} declares flags too late: import it before flags.parse" if found else ""

    def from_environment(self, name: str) -> Setting | None:
        """Find the flag that an environment variable sets; None when the variable is not ours.

        :raises FlagError: when the variable has our prefix and names no flag.
        """
        if name in self._renamed:
            self.renamed[name] = self._renamed[name].environment
            return self._renamed[name]
        if "." in name:
            return self._names.get(name)
        setting = self._environment.get(name)
        if setting or not name.startswith(self.prefix) or self._is_service_link(name):
            return setting
        if not self._is_almost_ours(name):
            self.ignored.append(name)
            return None
        hint = _hint(name, self._environment, self.prefix if name.startswith(self.prefix) else "")
        raise FlagError(
            f"{shorten(name, quote=False)}: no flag has this environment name{hint} (environment)"
        )

    def by_file(self, name: str) -> Setting | None:
        """Find the secret flag whose value is in the file that an environment variable names.

        :raises FlagError: when the flag is no secret.
        """
        setting = self._environment.get(name.removesuffix("_FILE"))
        if not name.endswith("_FILE") or name in self._environment or setting is None:
            return None
        if not setting.secret:
            raise FlagError(f"{name}: only a secret flag is read from a file; set {setting.environment}")
        return setting

    def _is_almost_ours(self, name: str) -> bool:
        """Say whether a variable must be a flag misspelt: of a group that we have, or one letter off.

        What only shares the prefix may be another service's: that of `svc_worker` begins as that of `svc`.
        """
        rest = name.removeprefix(self.prefix)
        groups = {each.name.partition(".")[0].upper() for each in self.settings if "." in each.name}
        commands = {each.name.upper() for each in self.settings if "." not in each.name}
        begins = any(rest.startswith(f"{group}_") for group in groups)
        return begins or rest in commands or any(_one_edit_away(name, known) for known in self._environment)

    def _is_service_link(self, name: str) -> bool:
        # Kubernetes announces a Service called like ours to every pod beside it in variables of this form
        # (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables),
        # which would else be taken for misspelt flags.
        link = r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
        return re.fullmatch(link, name.removeprefix(self.prefix)) is not None


ALIKE = 0.77
"""From 0 to 1, how alike (`difflib`) a name must be to be what was meant: guesses send people astray."""


def _one_edit_away(one: str, other: str) -> bool:
    """Say whether a letter more, less, another one, or two in the other order make one word of the other."""
    if abs(len(one) - len(other)) > 1:
        return False
    at = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    swapped = one[at : at + 2] == other[at : at + 2][::-1] and one[at + 2 :] == other[at + 2 :]
    return swapped or one[at + 1 :] in {other[at + 1 :], other[at:]} or one[at:] == other[at + 1 :]


def _hint(name: str, known: Mapping[str, object], begin: str) -> str:
    """Return the end of a message: which name may have been meant.

    :param begin: what all of them begin with, which makes none of them alike.
    """
    close = difflib.get_close_matches(
        name.removeprefix(begin), [each.removeprefix(begin) for each in known], n=1, cutoff=ALIKE
    )
    # Another group's, or none's: what stands behind the dot is what was meant.
    close = close or [each for each in known if each.rpartition(".")[2] == name.rpartition(".")[2]]
    return f"; did you mean {begin}{close[0]}?" if close else "; --help lists them"
