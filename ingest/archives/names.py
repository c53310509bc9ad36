"""Names of members in code pages: archives do not say which one, so only the sure cases are told from the names.

A zip without the flag for UTF-8 has names in code page 437 by its standard (PKWARE APPNOTE 6.3.10, appendix D), but
programs write the code page of the machine: 866 and 1251 in Russia, 932 in Japan, 936 in China, 950 in Taiwan, 949 in
Korea, 1252 in western Europe. A code page is sure if all names are words of one script in it, and in no other one.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from bindsearch.errors import UsageError

STANDARD = "cp437"
MAX_BYTES = 1 << 16
"""Names are judged by this many bytes of them."""

_WORD = re.compile(r"[^\W\d_]+")
_SIGNS = frozenset("\u2116\u2013\u2014\u2018\u2019\u201c\u201d\u00ab\u00bb\u00b0\u00b7\u3000\u3001\u3002\uff08\uff09")
_COMMON_CYRILLIC = frozenset("\u043e\u0435\u0430\u0438\u043d\u0442\u0441\u0440\u0432\u043b\u043a\u0443")
"""The letters of more than two thirds of Russian texts; by chance, a third."""
_MIN_PAIRS, _MIN_HANGUL = 4, 10
_TEXT_ENCODINGS = re.compile(
    r"cp\d+|shift_jis\w*|gb\w+|big5\w*|euc_\w+|koi8-\w|iso8859-\d+|mac-\w+|utf-8|johab|tis-620"
)


def parse_encoding(name: str, source: str) -> str:
    """Return the name of an encoding of names; `source` names its origin in errors.

    Raises:
        UsageError: Python knows no such encoding, or ASCII is not part of it.
    """
    try:
        known = codecs.lookup(name).name
    except (LookupError, ValueError):
        known = ""
    # cp875 and other code pages of mainframes do not hold ASCII
    if not _TEXT_ENCODINGS.fullmatch(known) or "a.jpg".encode(known) != b"a.jpg":
        raise UsageError(f"{source}: unknown encoding {name[:40]!r}: expected one such as cp866, shift_jis or gbk")
    return known


def likely_encoding(names: Sequence[bytes]) -> str | None:
    """Return the code page of names that are not UTF-8; None if it is not sure."""
    sample = b"/".join(names)[:MAX_BYTES].rpartition(b"/")[0] if sum(map(len, names)) > MAX_BYTES else b"/".join(names)
    plausible = [encoding for encoding, judge in _JUDGES.items() if judge(sample, encoding)]
    if STANDARD in plausible:
        return STANDARD
    return plausible[0] if len(plausible) == 1 else None


def _decoded(sample: bytes, encoding: str) -> str | None:
    try:
        return sample.decode(encoding)
    except UnicodeDecodeError:
        return None


def _is_latin(sample: bytes, encoding: str) -> bool:
    """Return whether a sample is words of Latin letters, at most half of them with accents, no word all of these."""
    words = _words(_decoded(sample, encoding), "LATIN") or []
    accented = [word for word in words if not word.isascii()]
    letters = "".join(words)
    return (
        bool(accented)
        and all(any(map(str.isascii, word)) for word in accented)
        and 2 * sum(map(str.isascii, letters)) >= len(letters)
    )


def _is_cyrillic(sample: bytes, encoding: str) -> bool:
    """Return whether a sample is words of Cyrillic letters, most of them frequent ones."""
    words = _words(_decoded(sample, encoding), "CYRILLIC")
    if words is None:
        return False
    letters = "".join(word for word in words if not word.isascii()).lower()
    return len(letters) >= _MIN_PAIRS and 2 * sum(letter in _COMMON_CYRILLIC for letter in letters) >= len(letters)


def _words(text: str | None, script: str) -> list[str] | None:
    """Return the different words of a text; None if one is not of ASCII or the script, or of mixed case."""
    if text is None or any(not (one.isascii() or one.isalpha() or one in _SIGNS) for one in text):
        return None
    words = [*dict.fromkeys(_WORD.findall(text))]
    for word in words:
        if word.isascii():
            continue
        others = [letter for letter in word if script == "CYRILLIC" or not letter.isascii()]
        if not all(unicodedata.name(letter, "").startswith(script) for letter in others):
            return None
        if not (word.islower() or word.isupper() or word[1:].islower()):
            return None
    return words


def _is_east_asian(sample: bytes, encoding: str) -> bool:
    """Return whether a sample is of letters of two bytes beside ASCII, of which enough are typical of the encoding."""
    text = _decoded(sample, encoding) or ""
    pairs = [letter.encode(encoding) for letter in dict.fromkeys(text) if not letter.isascii()]
    n = len(pairs)
    if n < _MIN_PAIRS or any(len(pair) != 2 for pair in pairs):
        return False
    match encoding:
        case "cp932":  # kana and kanji: kana are lead bytes 0x82 and 0x83
            return 5 * sum(pair[0] in (0x82, 0x83) for pair in pairs) >= n
        case "gbk":  # GB 2312, nine tenths of its level 1 (lead bytes up to 0xD7), some above Hangul
            frequent = [pair[0] for pair in pairs if 0xB0 <= pair[0] <= 0xD7]
            return min(pair[1] for pair in pairs) >= 0xA1 and 10 * len(frequent) >= 9 * n and max(frequent) >= 0xC9
        case "big5":  # its frequent letters (lead bytes 0xA4 to 0xC6), some with a low second byte
            is_frequent = all(0xA4 <= pair[0] <= 0xC6 for pair in pairs)
            return is_frequent and 5 * sum(pair[1] < 0x7F for pair in pairs) >= n
        case _:  # many letters of Hangul (lead bytes 0xB0 to 0xC8): Chinese has others among so many
            return n >= _MIN_HANGUL and all(0xB0 <= pair[0] <= 0xC8 and pair[1] >= 0xA1 for pair in pairs)


_JUDGES: Mapping[str, Callable[[bytes, str], bool]] = MappingProxyType(
    {
        STANDARD: _is_latin,
        "cp1252": _is_latin,
        "cp866": _is_cyrillic,
        "cp1251": _is_cyrillic,
        "koi8-r": _is_cyrillic,
        "cp932": _is_east_asian,
        "gbk": _is_east_asian,
        "big5": _is_east_asian,
        "cp949": _is_east_asian,
    }
)
