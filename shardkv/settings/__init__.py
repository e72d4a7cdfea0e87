"""The settings: every one is declared once, in the module of its topic, with its kind, default and meaning.

The configuration file's syntax, CONFIG GET, SET and REWRITE, and conf/shardkv.conf follow from these
declarations. Names, meanings and defaults are those of Redis wherever it has the setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from shardkv import errors, glob
from shardkv.errors import CommandError
from shardkv.foreign_directives import FIXED
from shardkv.setting_kinds import Setting
from shardkv.settings.clients import Clients
from shardkv.settings.encodings import Encodings
from shardkv.settings.keys import Keys
from shardkv.settings.measurements import Measurements
from shardkv.settings.network import Network
from shardkv.settings.persistence import Persistence
from shardkv.settings.processes import Processes


# A dataclass takes the fields of its last base first, so the topics stand here from the last to the first.
# They have no slots of their own, for two bases with slots cannot be put together: Config has them all.
@dataclass(slots=True, kw_only=True)
class Config(Encodings, Measurements, Persistence, Processes, Keys, Clients, Network):
    """What the server runs with. Made by shardkv.config_file.load(), changed by set()."""

    def get(self, *patterns: bytes) -> dict[str, str]:
        """The settings that the patterns name, with the values as texts: the reply to CONFIG GET.

        Older names are found beside the current ones. A pattern without wildcards is a name in upper or lower
        case, which is returned in the same spelling.
        """
        found: dict[str, tuple[str, str]] = {}
        for pattern in patterns:
            if any(wildcard in pattern for wildcard in b"[*?"):
                matches = glob.compile(pattern, ignore_case=True)
                for name in filter(lambda name: matches(name.encode()), _NAMES):
                    found.setdefault(name, (name, self._text(name)))
            else:
                spelled = pattern.decode("utf-8", "surrogateescape")
                if spelled.lower() in _NAMES:
                    found.setdefault(spelled.lower(), (spelled, self._text(spelled.lower())))
        return dict(found.values())

    def _text(self, name: str) -> str:
        declared = find(name)
        return declared.kind.format(getattr(self, declared.attribute)) if declared else FIXED[name][0]

    def set(self, pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, Any]:
        """Changes all the named settings, or none: CONFIG SET with its pairs of name and value.

        Returns the settings whose value is another one now, by their current names. Raises CommandError with
        the text of Redis 7.2.
        """
        changes = self.check(pairs)
        for name, value in changes.items():
            setattr(self, SETTINGS[name].attribute, value)
        return changes

    def check(self, pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, Any]:
        """What set() would change. Raises CommandError if it would be refused."""
        names = _settable_names(pairs)
        values: dict[str, Any] = {}
        for name, (_, text) in zip(names, pairs, strict=True):
            words = [text.decode("utf-8", "surrogateescape")]
            declared = find(name)
            try:
                if declared is None:
                    check_fixed(words, FIXED[name])
                else:
                    current = values.get(declared.name, getattr(self, declared.attribute))
                    values[declared.name] = declared.kind.parse(words, current)
            except ValueError as reason:
                raise CommandError(errors.config_set_failed(name, str(reason))) from None
        return {
            name: value
            for name, value in values.items()
            if value != self.value(name) or SETTINGS[name].rereads
        }

    def value(self, name: str) -> Any:
        """The value of the setting of this name."""
        return getattr(self, SETTINGS[name].attribute)


def _settable_names(pairs: Sequence[tuple[bytes, bytes]]) -> list[str]:
    """The names in lower case. Raises CommandError for the first that cannot be set."""
    names: list[str] = []
    for spelled, _ in pairs:
        name = spelled.lower().decode("utf-8", "surrogateescape")
        if name not in _NAMES:
            raise CommandError(errors.unknown_setting(spelled))
        declared = find(name)
        if declared and not declared.mutable:
            raise CommandError(errors.config_set_failed(spelled.decode(), errors.IMMUTABLE_SETTING))
        if name in names:
            raise CommandError(errors.config_set_failed(spelled.decode(), errors.DUPLICATE_SETTING))
        names.append(name)
    return names


def check_fixed(words: Sequence[str], accepted: Sequence[str]) -> None:
    """Raises ValueError unless the words are a value that a directive without support is accepted with."""
    if " ".join(words).lower() not in accepted:
        raise ValueError(errors.unsupported_setting(accepted))


def default_proxies(cores: int) -> int:
    """How many proxy processes a host with so many cores gets when `proxies` is 0."""
    return max(1, cores // 4)


def find(name: str) -> Setting[Any] | None:
    """The setting of this name, current or older, in lower case."""
    return SETTINGS.get(name) or _ALIASES.get(name)


def _declared(config: type[Config]) -> dict[str, Setting[Any]]:
    names = {declared.name.replace("_", "-"): declared for declared in fields(config)}
    return {name: replace(declared.metadata["setting"], name=name) for name, declared in names.items()}


SETTINGS = _declared(Config)
"""Every setting by its name, in the order of the declarations."""

_ALIASES = {alias: declared for declared in SETTINGS.values() for alias in declared.aliases}
_NAMES = sorted({*SETTINGS, *_ALIASES, *FIXED})
"""What CONFIG GET and SET know."""
