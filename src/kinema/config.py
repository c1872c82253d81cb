"""Frozen dataclasses as TOML and back, with overrides from the command line.

A field may be a number, text, bool, path, a literal choice, a tuple of these, another dataclass, or None beside any of them.
TOML knows no None: a field that is None is left out, so its default must be None.
"""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from json import dumps
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from kinema.errors import InputError

C = TypeVar("C")
NOTHING = "none"  # how an override says None


def read_config(kind: type[C], path: Path) -> C:
    """A config from a TOML file.

    Raises InputError where the file is missing or is not TOML, or a key is unknown, missing, or of the wrong type.
    """
    try:
        return parse_config(kind, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def parse_config(kind: type[C], text: str) -> C:
    """A config from TOML text; errors as `read_config`."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not valid TOML: {error}") from error
    return build(kind, table)


def build(kind: type[C], table: dict[str, Any], where: str = "") -> C:
    """A dataclass from nested dicts.

    where: dotted name of the table, for errors.
    """
    hints = hints_of(kind)
    for name in table.keys() - hints.keys():
        raise InputError(unknown(where + name, [where + known for known in all_keys(kind)]))
    values = {name: convert(hints[name], value, where + name) for name, value in table.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"{where.rstrip('.') or kind.__name__}: {str(error).partition('__init__() ')[2] or error}") from error


def override(config: C, changes: Sequence[str]) -> C:
    """A copy with dotted keys changed: `override(recipe, ["model.width=512", "loop.steps=100"])`.

    A value is written as in TOML, quotes around text optional; `none` is None.
    Raises InputError where a key is unknown (naming the nearest known one) or a value has the wrong type.
    """
    tree: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise InputError(f"override {change!r} must be key=value")
        *tables, name = key.strip().split(".")
        place = tree
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                raise InputError(f"override {change!r} sets a part of what another one sets as a whole: give one of the two")
        if isinstance(place.get(name), dict):
            raise InputError(f"override {change!r} sets the whole of what another one sets a part of: give one of the two")
        place[name] = text.strip()
    return changed(config, tree, "")


def changed(config: Any, tree: dict[str, Any], where: str) -> Any:
    """A copy with all of a table's changes made at once, so that values which must fit each other may change together."""
    hints, values = hints_of(type(config)), {}
    for name, below in tree.items():
        key = where + name
        if name not in hints:
            raise InputError(unknown(first_key(key, below), [where + known for known in all_keys(type(config))]))
        if isinstance(below, str):
            values[name] = convert(hints[name], literal(below), key)
        elif is_dataclass(inner := getattr(config, name)):
            values[name] = changed(inner, below, f"{key}.")
        else:
            raise InputError(f"{first_key(key, below)} has no fields to set: {key} is {inner!r}")
    return replace(config, **values)


def first_key(key: str, below: dict[str, Any] | str) -> str:
    """The dotted key of the first change in a tree of them."""
    while isinstance(below, dict):
        name, below = next(iter(below.items()))
        key += f".{name}"
    return key


def literal(text: str) -> Any:
    if text == NOTHING:
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def convert(hint: Any, value: Any, where: str) -> Any:
    """`value`, as TOML gives it, in the type that `hint` asks for."""
    for kind in choices(hint):
        if is_dataclass(kind) and isinstance(value, dict):
            return build(kind, value, f"{where}.")  # type: ignore[arg-type]
        found = convert_to(kind, value, where)
        if found is not None or (kind is NoneType and value is None):
            return found
    raise InputError(f"{where}={value!r} must be {' or '.join(map(name_of, choices(hint)))}")


def convert_to(kind: Any, value: Any, where: str) -> Any:
    """None where `value` is not of this kind."""
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else None
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return convert_tuple(get_args(kind), value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    return value if isinstance(kind, type) and isinstance(value, kind) and (kind is bool) == isinstance(value, bool) else None


def convert_tuple(kinds: tuple[Any, ...], values: Sequence[Any], where: str) -> tuple[Any, ...]:
    if kinds[1:] == (Ellipsis,):
        kinds = (kinds[0],) * len(values)
    if len(kinds) != len(values):
        raise InputError(f"{where}={list(values)} must have {len(kinds)} values")
    return tuple(convert(kind, value, f"{where}[{i}]") for i, (kind, value) in enumerate(zip(kinds, values, strict=True)))


def hints_of(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind) if field.init}


def choices(hint: Any) -> tuple[Any, ...]:
    """The kinds that a union names."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def name_of(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    return {NoneType: NOTHING, str: "text", bool: "true or false"}.get(kind) or getattr(kind, "__name__", str(kind)).replace(
        "tuple", "a list"
    )


def all_keys(kind: type, where: str = "") -> Iterator[str]:
    """Dotted names of every field, of dataclasses within too."""
    for name, hint in hints_of(kind).items():
        yield where + name
        for inner in choices(hint):
            if is_dataclass(inner):
                yield from all_keys(inner, f"{where}{name}.")  # type: ignore[arg-type]


def unknown(key: str, known: list[str]) -> str:
    near = get_close_matches(key, known, n=1, cutoff=0.0)
    return f"unknown key {key!r}" + (f": did you mean {near[0]!r}?" if near else "")


def to_toml(config: Any) -> str:
    """TOML text that `parse_config` turns back into an equal config."""
    return "\n".join(lines_of(config, "")).strip() + "\n"


def lines_of(config: Any, where: str) -> Iterator[str]:
    """Plain fields first: in TOML they would otherwise belong to the last table."""
    values = {field.name: getattr(config, field.name) for field in fields(config) if field.init}
    tables = {name: value for name, value in values.items() if is_dataclass(value)}
    for name, value in values.items():
        if name not in tables and value is not None:
            yield f"{name} = {toml_value(value)}"
    for name, value in tables.items():
        yield f"\n[{where}{name}]"
        yield from lines_of(value, f"{where}{name}.")


def toml_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if is_dataclass(value):  # a row of a list
        inner = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        return f"{{ {', '.join(f'{name} = {toml_value(each)}' for name, each in inner.items() if each is not None)} }}"
    if isinstance(value, bool | str):
        return dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")  # the one character where JSON and TOML differ
    return dumps(str(value), ensure_ascii=False) if isinstance(value, Path) else repr(value)
