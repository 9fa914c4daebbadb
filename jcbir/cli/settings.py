"""What is given once: options in `jcbir.toml` of the working folder, in `JCBIR_...`, or in the file of a service.

They are put behind what was typed, as if typed too, and only those that were not: the line wins over the environment,
the environment over the file.

    cloud = "https://cloud.example:8470"        # for all commands of owner and user, as JCBIR_CLOUD is
    authority = "https://authority.example:8471"
    certificate = "issuer.pem"

    [owner]                                     # for all commands of the owner that have such an option
    home = "/srv/photographs/owner"

    [user.query]                                # for one command
    top = 20
"""

import dataclasses
import itertools
import os
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from tyro.conf import Positional

from jcbir.cli import options
from jcbir.errors import FormatError

FILE = "jcbir.toml"
SHARED = ("cloud", "authority", "certificate", "insecure-http", "timeout")
"""Options that stand outside of any table, and in the environment: where the services are."""

PARTIES = ("owner", "user")


def find_command(words: Sequence[str]) -> tuple[int, type | None]:
    """How many words name a command and its options; who asks for help may name a group of commands, or none."""
    first, second = [*words, "", ""][:2]
    groups = _groups()
    if first not in groups:
        _check_help(first, groups)
        return 0, None
    commands = _commands()[first]
    if first in commands:
        return 1, commands[first]
    if second not in commands:
        _check_help(second, commands)
        return 1, groups[first]
    return 2, commands[second]


def complete(words: Sequence[str], command: type | None) -> list[str]:
    """The arguments of a command, and behind them the options that were given once."""
    typed = {word[2:].split("=")[0].replace("_", "-") for word in words if word.startswith("--")}
    if command not in options.FUNCTIONS or typed & {"help", "tyro-print-completion"} or "-h" in words:
        return list(words)
    known = _option_names(command)
    given = {**_from_file(words), **_from_environment(words), **_from_service_file(words, known)}
    added = [_spell(name, value) for name, value in given.items() if name in known and name not in typed]
    return [*words, *(word for line in added for word in line)]


def _check_help(word: str, commands: Iterable[str]) -> None:
    """Refuse what stands where a command is to stand."""
    if word not in ("-h", "--help") and not word.startswith("--tyro-"):
        raise ValueError(f"command: must be one of {', '.join(commands)}, got {word or 'nothing'}; --help says more")


def _from_file(words: Sequence[str]) -> dict[str, Any]:
    file = Path(FILE)
    if not file.is_file():
        return {}
    tree, groups = _read(file), _commands()
    tables = {name: tree.pop(name) for name in list(tree) if name in groups and isinstance(tree[name], dict)}
    _check(file, tree, SHARED, "outside of a table")
    found = dict(tree) if words[0] in PARTIES else {}
    for group, table in tables.items():
        commands = groups[group]
        parts = {name: table.pop(name) for name in list(table) if name in commands and isinstance(table[name], dict)}
        _check(file, table, {name for each in commands.values() for name in _option_names(each)}, f"in [{group}]")
        for name, part in parts.items():
            _check(file, part, _option_names(commands[name]), f"in [{group}.{name}]")
        if group == words[0]:
            found |= table | (parts.get(words[1], {}) if len(words) > 1 else {})
    return found


def _from_environment(words: Sequence[str]) -> dict[str, Any]:
    if words[0] not in PARTIES:
        return {}
    named = {name: os.environ.get(f"JCBIR_{name.upper().replace('-', '_')}") for name in SHARED}
    found: dict[str, Any] = {name: value for name, value in named.items() if value}
    if "insecure-http" in found:
        found["insecure-http"] = _flag("JCBIR_INSECURE_HTTP", found["insecure-http"])
    return found


def _flag(name: str, value: str) -> bool:
    """A word for yes or no: whatever else was meant, it does not let in who reads along."""
    answers = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if value.lower() not in answers:
        raise ValueError(f"{name}: must be one of {', '.join(answers)}, got {value!r}")
    return answers[value.lower()]


def _from_service_file(words: Sequence[str], known: Sequence[str]) -> dict[str, Any]:
    stated = [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
    stated += [word for option, word in itertools.pairwise(words) if option == "--config"]
    if words[0] != "serve" or not stated:
        return {}
    file = Path(stated[0])
    if not file.is_file():
        raise FileNotFoundError(f"config: must be a TOML file, got nothing at {str(file)!r}")
    tree = _read(file)
    _check(file, tree, known, "in it")
    return tree


def _read(file: Path) -> dict[str, Any]:
    try:
        return _dashed(tomllib.loads(file.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{file}: must be TOML, got {error}") from None


def _dashed(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The same with `_` in names as `-`, as options are spelled."""
    return {
        name.replace("_", "-"): _dashed(value) if isinstance(value, dict) else value for name, value in tree.items()
    }


def _check(file: Path, table: Mapping[str, Any], known: Sequence[str] | set[str], where: str) -> None:
    for name, value in table.items():
        if name not in known:
            raise ValueError(f"{file}: {where} must be options, {', '.join(sorted(known))}, got {name!r}")
        if not isinstance(value, str | int | float | list):
            raise ValueError(f"{file}: {name} must be a text, a number, true, false or a list, got {value!r}")


def _spell(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}"] if value else []
    return [f"--{name}", *map(str, value if isinstance(value, list) else [value])]


def _groups() -> dict[str, type]:
    """Groups of commands, and commands without a group, by name."""
    return _by_name(get_args(options.Command))


def _commands() -> dict[str, dict[str, type]]:
    """Commands by group and name; one without a group is its own."""
    found: dict[str, dict[str, type]] = {}
    for name, record in _groups().items():
        union = typing.get_type_hints(record, include_extras=True).get("command")
        members = (union,) if get_origin(union) is Annotated else get_args(union)
        found[name] = _by_name(members) if union else {name: record}
    return found


def _by_name(members: Sequence[Any]) -> dict[str, type]:
    return {get_args(member)[1].name: get_args(member)[0] for member in members}


def _option_names(record: type) -> list[str]:
    """Options of a command, those of the records inside it included; what stands without a name is none."""
    names: list[str] = []
    hints = typing.get_type_hints(record, include_extras=True)
    for field in dataclasses.fields(record):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            names += _option_names(hint)  # type: ignore[arg-type]
        elif not set(getattr(hint, "__metadata__", ())) & set(get_args(Positional[int])[1:]):
            names.append(field.name.replace("_", "-"))
    return names
