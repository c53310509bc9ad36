"""Arguments of public functions: checked and converted before they are used or are part of a key of a cache."""

from __future__ import annotations

import contextlib
import errno
import math
import operator
import os
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from numbers import Real
from pathlib import Path
from typing import SupportsIndex, TypeVar, cast

from bindsearch.errors import UsageError

MAX_NORMALIZED = 4096
"""A longer text is no path."""

MAX_SHOWN = 80
"""Maximum number of characters of a value in a message."""

Choice = TypeVar("Choice", bound=StrEnum)


def shown(value: object) -> str:
    """Return a value as messages give it: its repr, shortened."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more than 4300 digits
        text = f"a huge {type(value).__name__}"
    except Exception:  # of the caller's class
        text = f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def to_integer(value: object, name: str, expected: str, lowest: int | None = 0) -> int:
    """Return an integer, also from NumPy's; True, 3.0 and "3" are none.

    Args:
        value: The argument.
        name: Its name, for the message.
        expected: The way out, for the message.
        lowest: The smallest integer allowed (None: any).

    Raises:
        UsageError: it is not an integer, or too small.
    """
    if type(value) is int and (lowest is None or value >= lowest):
        return value
    number = None
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        try:
            number = operator.index(value)
        except TypeError:  # an array, or NumPy's bool
            number = None
    if number is None or (lowest is not None and number < lowest):
        raise UsageError(f"{name} is {shown(value)}: {expected}")
    return number


def to_number(value: object, name: str, expected: str, lowest: float = -math.inf, highest: float = math.inf) -> float:
    """Return a finite number, also from NumPy's; True and "3" are none.

    Args:
        value: The argument.
        name: Its name, for the message.
        expected: The way out, for the message.
        lowest: The smallest number allowed.
        highest: The largest number allowed.

    Raises:
        UsageError: it is not a number, not finite, or out of range.
    """
    if type(value) is float and math.isfinite(value) and lowest <= value <= highest:
        return value
    number = math.nan
    if not isinstance(value, bool) and isinstance(value, Real):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    if not (math.isfinite(number) and lowest <= number <= highest):
        raise UsageError(f"{name} is {shown(value)}: {expected}")
    return number


def to_flag(value: object, name: str) -> bool:
    """Return whether a value is true.

    Raises:
        UsageError: it is neither true nor false, such as an array.
    """
    try:
        return bool(value)
    except (TypeError, ValueError):
        raise UsageError(f"{name} is {shown(value)}: give True or False") from None


def to_choice(value: object, choices: type[Choice], what: str, other_names: Iterable[str] = ()) -> Choice:
    """Return the member of an enumeration that `value` is or names.

    Args:
        value: The argument.
        choices: The enumeration.
        what: What the value is, for the message.
        other_names: Names beside those of the members that the caller understands too, for the message.

    Raises:
        UsageError: there is no such member.
    """
    if isinstance(value, choices):
        return value
    with contextlib.suppress(ValueError):
        if isinstance(value, str):
            return choices(value)
    names = ", ".join([*choices, *other_names])
    suggestion = did_you_mean(value, [*choices, *other_names])
    raise UsageError(f"unknown {what} {shown(value)}: {suggestion}choose from {names}")


def did_you_mean(value: object, names: Iterable[str]) -> str:
    """Return "did you mean 'a' or 'b'? " with the names that are like a text; empty if none is."""
    from difflib import get_close_matches

    near = get_close_matches(value.lower(), [str(name) for name in names], n=3) if isinstance(value, str) else []
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""


def escaped(text: str, escape: Callable[[str], str]) -> str:
    """Return a text with all but printable characters and spaces (U+202F is in names of screenshots) escaped."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or unicodedata.category(one) == "Zs" else escape(one) for one in text)


def shell_command(*words: str | os.PathLike[str]) -> str:
    """Return a command line of `bindsearch` for a message, with its words quoted for a shell."""
    return " ".join(["bindsearch", *(_quoted(os.fspath(word)) for word in words)])


def _quoted(word: str) -> str:
    """Return a word quoted for a shell; one with control characters in the form $'...' (POSIX.1-2024, 2.2.4).

    Pasted into a terminal as they are, such characters could end the paste and run what follows them.
    """
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_escaped, word))}'"


def _escaped(letter: str) -> str:
    if letter in "\\'":
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    is_byte = "\udc80" <= letter <= "\udcff"  # of a file name that is not UTF-8
    encoded = letter.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
    return "".join(f"\\{byte:03o}" for byte in encoded)


def to_list(values: object, name: str) -> list[object]:
    """Return the elements of an iterable, or the one text or path that is given in its place.

    Raises:
        UsageError: it is neither.
    """
    if type(values) in (tuple, list):  # the tests below take microseconds
        return [*cast("list[object]", values)]
    if isinstance(values, str | bytes | os.PathLike):
        return [values]
    if not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise UsageError(f"{name} is {shown(values)}: give a list")
    return [*values]


def to_texts(values: object, name: str) -> tuple[str, ...]:
    """Return several texts, or the one that is given in their place.

    Raises:
        UsageError: one is not a text.
    """
    if type(values) is tuple and all(type(text) is str for text in values):
        return values
    texts = to_list(values, name)
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(f"{name} contains {shown(text)}: give texts")
    return tuple(str(text) for text in texts)


def to_path_text(path: object) -> str:
    """Return a path as a text.

    Raises:
        UsageError: it is not a text or an `os.PathLike` of a text.
    """
    text = path
    if isinstance(path, str | os.PathLike):
        with contextlib.suppress(TypeError):  # its method returns something else
            text = os.fspath(path)
    if not isinstance(text, str):
        raise UsageError(f"{shown(path)} is not a path: give a text or a pathlib.Path")
    return text


def to_path(path: object) -> Path:
    """Return a path that the file system can look up.

    Raises:
        UsageError: as for `to_path_text`, or it is empty or too long, or it contains a character that no path can.
    """
    text = to_path_text(path)
    if not text:  # to pathlib it is the current folder
        raise UsageError("the path is empty: name a folder or a file")
    try:
        Path(text).lstat()
    except ValueError:
        raise UsageError(f"{shown(text)} is not a path: it contains a character that no file name has") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"the path {shown(text)} is too long: a name has at most 255 bytes") from None
        return Path(existing_form(text))
    return Path(text)


def name_forms(text: str) -> tuple[str, ...]:
    """Return a text, and its composed and decomposed forms (Unicode NFC and NFD) if they differ.

    macOS writes names decomposed, keyboards composed; people see one name.
    """
    if text.isascii():
        return (text,)
    return tuple(dict.fromkeys((text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text))))


def existing_form(path: str) -> str:
    """Return a path with each name that is not there, but is there in another form of `name_forms`, in that form."""
    if path.isascii() or len(path) > MAX_NORMALIZED or os.path.lexists(path):
        return path
    found = "/" if path.startswith("/") else ""
    for name in filter(None, path.split("/")):
        forms = name_forms(name)
        found += next((form for form in forms if os.path.lexists(found + form)), name) + "/"
    return found.rstrip("/") if os.path.lexists(found.rstrip("/")) else path


def with_slash(folder: str) -> str:
    """Return the path of a folder with one trailing slash: the start of the paths below it."""
    return f"{folder.rstrip('/')}/"


def is_at_or_below(path: str, folder: str) -> bool:
    """Return whether a path is a folder or archive, or below it; both absolute, or both relative ("": the whole)."""
    return not folder or path == folder or path.startswith(with_slash(folder))


def at_and_above(rel_path: str) -> Iterator[str]:
    """Yield a relative path, then the folders and archives that contain it, the deepest first."""
    while rel_path:
        yield rel_path
        rel_path = rel_path.rpartition("/")[0]


def is_existing_file(path: Path) -> bool:
    """Return whether there is such a file; False for a path that cannot be looked up."""
    try:
        return path.is_file()
    except OSError:  # the name is too long, or the folder is not accessible
        return False


def looks_like_path(text: str) -> bool:
    """Return whether a text has a slash or an extension."""
    suffix = Path(text).suffix
    return "/" in text or (1 < len(suffix) <= 6 and " " not in suffix)


def to_absolute(path: object) -> Path:
    """Return the absolute path of a file that may not exist, with links followed and "~" expanded.

    Raises:
        UsageError: as for `to_path`, or links follow each other, or there is no such user.
    """
    checked = to_path(path)
    try:
        return checked.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise UsageError(f"the path {shown(str(checked))} cannot be used: {error}") from None
