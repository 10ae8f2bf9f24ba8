"""`seedance.toml`: options that need not be repeated, in the current folder or the user's own file.

What decides which jobs are bought, or where their record is kept, is taken from the command line
alone: with a changed file, the same command would buy everything once more. Where the key and the
user's pictures are sent is taken from the user's own file alone: a folder may come from anybody.
"""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import click
import platformdirs

from seedance_async import ConfigurationError

FILE = "seedance.toml"

#: The name of the key in the user's own file.
KEY = "api-key"

_KEY_VARIABLE = "SEEDANCE_API_KEY"

#: Options that either file may have.
ANYWHERE = frozenset(
    {
        "max-credits",
        "max-downloads",
        "max-in-flight",
        "poll-interval",
        "queue-timeout",
        "timeout",
        "verbose",
    }
)

#: Options that only the user's own file may have.
OWN = frozenset({"ask-above", "base-url", "upload"})


@attrs.frozen
class Settings:
    """What the files say.

    Attributes:
        defaults: by command and parameter, as a click context takes it.
        key: the API key, if the user's own file has it.
    """

    defaults: Mapping[str, Any] = attrs.field(factory=dict)
    key: str | None = attrs.field(default=None, repr=False)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Use the key, unless the environment has one, while the block runs."""
        if self.key is None or os.environ.get(_KEY_VARIABLE):
            yield
            return
        os.environ[_KEY_VARIABLE] = self.key
        try:
            yield
        finally:
            del os.environ[_KEY_VARIABLE]


def user_file() -> Path:
    """The user's own file: in SEEDANCE_CONFIG_DIR, or where the system has such files."""
    named = os.environ.get("SEEDANCE_CONFIG_DIR")
    folder = Path(named) if named else platformdirs.user_config_path("seedance", appauthor=False)
    return folder / FILE


def read_settings(commands: click.Group) -> Settings:
    """What the files say of the options of commands; the folder's comes before the user's.

    Raises:
        ConfigurationError: a file cannot be read, has something that it may not have, or shows the
            key to others.
    """
    own, here = user_file(), Path(FILE)
    found, key = _table(own), None
    if KEY in found:
        key = _checked_key(own, found.pop(KEY))
    defaults: dict[str, Any] = {}
    _File(own, ANYWHERE | OWN).apply(found, commands, defaults)
    if here.exists() and not (own.exists() and here.samefile(own)):
        _File(here, ANYWHERE).apply(_table(here), commands, defaults)
    return Settings(defaults, key)


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None


def _checked_key(path: Path, key: object) -> str:
    """The key, if nobody but the user can read it; it is in no message."""
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigurationError(
            f"{path} has the API key, and other users can read it: chmod 600 {path}"
        )
    if not isinstance(key, str) or not key.strip():
        raise ConfigurationError(f"{path}: {KEY} must be text that is not blank")
    return key


@attrs.frozen
class _File:
    """One file, and the options that it may have."""

    path: Path
    allowed: Collection[str]

    def apply(
        self,
        table: Mapping[str, Any],
        group: click.Group,
        defaults: dict[str, Any],
        named: str = "",
    ) -> None:
        """Set the defaults of the commands of a group; a command's own table comes last."""
        tables = {name: each for name, each in table.items() if isinstance(each, dict)}
        options = {name: each for name, each in table.items() if name not in tables}
        self._check(options, _options_under(group), named)
        self._spread(options, group, defaults)
        for name, each in tables.items():
            command = group.commands.get(name)
            path = f"{named} {name}".strip()
            if command is None:
                raise self._unknown(f"[{path}] is no command", name, group.commands)
            inner = defaults.setdefault(name, {})
            if isinstance(command, click.Group):
                self.apply(each, command, inner, path)
            else:
                own = _options_of(command)
                self._check(each, own, path)
                inner.update(self._values(each, own))

    def _spread(
        self, options: Mapping[str, Any], group: click.Group, defaults: dict[str, Any]
    ) -> None:
        """Set options for each command that has them."""
        for name, command in group.commands.items():
            inner = defaults.setdefault(name, {})
            if isinstance(command, click.Group):
                self._spread(options, command, inner)
            else:
                inner.update(self._values(options, _options_of(command)))

    def _check(
        self, given: Mapping[str, Any], known: Mapping[str, click.Option], command: str
    ) -> None:
        for name in given:
            if name in known and name in self.allowed:
                continue
            if name == KEY or name in OWN:
                raise ConfigurationError(
                    f"{self.path}: {name} may stand in your own {user_file()} alone, where "
                    "nobody else can set it"
                )
            if name in known:
                raise ConfigurationError(
                    f"{self.path}: {name} decides what is done or bought, so it is taken from "
                    "the command line alone"
                )
            of = f" of seedance {command}" if command else ""
            choices = [each for each in (*known, KEY) if each in {*self.allowed, KEY}]
            raise self._unknown(f"{name} is no option{of}", name, choices)

    def _values(
        self, given: Mapping[str, Any], known: Mapping[str, click.Option]
    ) -> Iterator[tuple[str, Any]]:
        for name, value in given.items():
            option = known.get(name)
            if option is not None and option.name is not None:
                yield option.name, self._value(name, value, option)

    def _value(self, name: str, value: Any, option: click.Option) -> Any:
        types, kind = _accepted(option)
        if not isinstance(value, types) or isinstance(value, bool) != option.is_flag:
            raise ConfigurationError(f"{self.path}: {name} must be {kind}")
        try:
            return option.type.convert(value, option, None)
        except click.BadParameter as error:
            raise ConfigurationError(f"{self.path}: {name}: {error.message}") from None

    def _unknown(self, text: str, name: str, known: Collection[str]) -> ConfigurationError:
        near = difflib.get_close_matches(name.replace("_", "-"), known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return ConfigurationError(f"{self.path}: {text}{hint}")


def _accepted(option: click.Option) -> tuple[type | tuple[type, ...], str]:
    """The types of a value for an option, and what they are called."""
    if option.is_flag:
        return bool, "true or false"
    match option.type:
        case click.IntRange():
            return int, "a whole number"
        case click.FloatRange():
            return (int, float), "a number"
        case _:
            return str, "text"


def _options_of(command: click.Command) -> dict[str, click.Option]:
    """The options of a command by their long names, without the dashes."""
    return {
        name.removeprefix("--"): each
        for each in command.params
        if isinstance(each, click.Option)
        for name in each.opts
        if name.startswith("--")
    }


def _options_under(group: click.Group) -> dict[str, click.Option]:
    found: dict[str, click.Option] = {}
    for command in group.commands.values():
        if isinstance(command, click.Group):
            found |= _options_under(command)
        else:
            found |= _options_of(command)
    return found
