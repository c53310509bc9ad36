"""Detection of the encoding of a text that is not UTF-8.

`chardet` ranks the encodings by the frequency of pairs of bytes in each language. It ranks also for two letters in a
page, so that two rules are added: characters that no text has, such as a letter of another script or a sign inside a
word, exclude an encoding; and a text is refused if another encoding that reads differently is about as likely.
Measured on sentences in 19 languages (tests/ingest/media/texts/test_detection.py): of texts of 40 characters 0.6% are
wrong and 18% refused, mostly those of Mac OS and DOS; of 200 characters 0 and 6%, of 2,000 none.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

_USUAL = (
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874", "tis-620"),
    *("iso8859-1", "iso8859-2", "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-9", "iso8859-13"),
    *("iso8859-15", "koi8-r", "koi8-u", "cp437", "cp850", "cp852", "cp866"),
    *("mac-roman", "mac-cyrillic", "mac-greek", "mac-latin2"),
    *("gb2312", "gbk", "gb18030", "hz", "big5", "big5hkscs", "euc-kr", "cp949", "johab", "iso2022_kr"),
    *("cp932", "shift_jis", "shift_jis_2004", "shift_jisx0213", "euc_jp", "euc_jis_2004", "euc_jisx0213"),
    *("iso2022_jp", "iso2022_jp_1", "iso2022_jp_2", "iso2022_jp_3", "iso2022_jp_ext", "iso2022_jp_2004"),
)
USUAL = frozenset(codecs.lookup(name).name for name in _USUAL)
"""Encodings that texts are found in; `chardet` knows more, which short texts resemble by chance."""

_WESTERN = "cp1252"
_LATIN = r"A-Za-z\u00c0-\u024f"
_OTHER_SCRIPTS = (
    r"\u0370-\u03ff\u0400-\u052f\u0590-\u05ff\u0600-\u06ff\ufb50-\ufdff\ufe70-\ufeff"
    r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uff66-\uff9d"
)
"""Greek, Cyrillic, Hebrew, Arabic, Thai, Japanese and Chinese, Korean."""

_UPPER = "".join(letter for letter in map(chr, range(0x80, 0x530)) if letter.isupper())
_UNASSIGNED = re.compile(r"[\x80-\x9f\ue000-\uf8ff\ufffd]")
"""Control characters of the second kind, private ones, and the sign for what is not valid."""

_ODD = re.compile(
    rf"""(?<=[{_LATIN}])[^\w\s\x00-\x7f’–—…·´]+(?=[{_LATIN}])  # a sign inside a word, besides apostrophe and dash
      | (?<=[a-zß-ÿ])[{_UPPER}](?=[a-zß-ÿ])                     # a capital inside a word
      | [{_LATIN}][{_OTHER_SCRIPTS}] | [{_OTHER_SCRIPTS}][{_LATIN}]
      | [a-zß-ÿ][§€£] | [§€][a-zß-ÿ]                            # a sign of a sum or a section on a word
      | [\u2500-\u259f]                                         # lines of a box
    """,
    re.VERBOSE,
)
_LOW_QUOTE = re.compile(r"(?<!\w)‚\w|\w[‚„](?=\w)")
_LONE_LETTERS = re.compile(rf"(?<!\w)[{_OTHER_SCRIPTS}]{{1,2}}(?!\w)")
_WESTERN_LETTERS = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüÿŒœ"
"""Letters of Windows-1252 in languages of Western Europe; Icelandic's others are Turkish in Windows-1254."""

_WESTERN_SIGNS = re.compile(
    r"(?<![^\W\d_])[“„«‹‘‚¡¿–—]|[”“»›’‘](?![^\W\d_])|(?<=[^\W\d_])’(?=[^\W\d_])|[…°£€©®§\u00a0]"
)
_MIN_ASCII = 0.5
_NEAR = 0.8
"""Share of the best rank from which Windows-1252 is taken if it fits: it is by far the most frequent of its kind."""

_FEW = 5
_TELLING_RANK = 0.05
"""Number of bytes beyond ASCII, and rank of the best encoding, below which the ranks are chance."""

_RIVALS = ((12, 0.99), (5, 0.9), (0, 0.8))
"""Least number of bytes beyond ASCII, and the share of the best rank from which another encoding is a rival."""

_LEAST_BEYOND_ASCII = 3
"""Least number of bytes beyond ASCII that tell another encoding than Windows-1252 from the many that are like it."""

_MIN_SHARE = 0.5
"""Least share of the highest rank, odd encodings included: else the text is in none that is known."""


class _Candidate(NamedTuple):
    """An encoding, its rank from 0 to 1, and what the text reads in it."""

    encoding: str
    rank: float
    text: str


def guess_encoding(raw: bytes) -> str | list[str]:
    """Return the Python name of the encoding that a text is most likely in, or a list of them if it is unclear."""
    beyond_ascii = sum(byte >= 0x80 for byte in raw)
    candidates = _candidates(raw)
    odd = {one: _count_odd(one.text) for one in candidates}
    most = 0 if 0 in odd.values() else beyond_ascii // 50
    fitting = [one for one, count in odd.items() if count <= most]
    best = fitting[0].rank if fitting else 0.0
    western = raw.decode(_WESTERN, errors="replace")
    if _is_western(western) and not _count_odd(western):
        rank = next((one.rank for one in fitting if one.text == western), 0.0)
        if rank >= _NEAR * best or (beyond_ascii < _FEW and best < _TELLING_RANK):
            return _WESTERN
    if not fitting:
        return [one.encoding for one in candidates[:2]]
    limit = next(share for count, share in _RIVALS if beyond_ascii >= count)
    rivals = [one for one in fitting if one.rank >= limit * best]
    is_too_little = 0 < beyond_ascii < _LEAST_BEYOND_ASCII < len(raw) // 2
    if len(rivals) > 1 or is_too_little or best < _MIN_SHARE * candidates[0].rank:
        return [one.encoding for one in fitting[:2]]
    return fitting[0].encoding


def shown_name(encoding: str) -> str:
    """Return the name of an encoding as people and other programs write it (IANA, for those that it names)."""
    name = codecs.lookup(encoding).name.replace("_", "-")
    if name.startswith("cp125"):
        return f"windows-{name[2:]}"
    return name.replace("iso8859", "iso-8859").replace("iso2022", "iso-2022")


def _candidates(raw: bytes) -> list[_Candidate]:
    """Return the usual encodings in which the bytes are valid, the most likely first; of those that agree, one."""
    import chardet

    found: dict[str, _Candidate] = {}
    for result in chardet.detect_all(raw, ignore_threshold=True, max_bytes=len(raw)):
        name = result["encoding"]
        if name is None:
            continue
        try:
            encoding = codecs.lookup(name).name
            text = codecs.getincrementaldecoder(encoding)().decode(raw)
        except (LookupError, UnicodeDecodeError):
            continue
        if encoding in USUAL and text not in found and not _UNASSIGNED.search(text):
            found[text] = _Candidate(encoding, result["confidence"], text)
    return sorted(found.values(), key=lambda one: -one.rank)


def _count_odd(text: str) -> int:
    """Return the number of places in a text that no text has."""
    count = sum(1 for _ in _ODD.finditer(text))
    if not re.search("[‘’]", text):  # a low quotation mark has a second one
        count += sum(1 for _ in _LOW_QUOTE.finditer(text))
    latin, other = (len(re.findall(f"[{letters}]", text)) for letters in (_LATIN, _OTHER_SCRIPTS))
    if other and latin > 2 * other:
        count += sum(1 for _ in _LONE_LETTERS.finditer(text))
    return count


def _is_western(text: str) -> bool:
    """Return whether a text is mostly ASCII, and the rest letters and signs of languages of Western Europe."""
    rest = "".join(letter for letter in _WESTERN_SIGNS.sub("", text) if not letter.isascii())
    return len(text.encode("ascii", "ignore")) > _MIN_ASCII * len(text) and not rest.strip(_WESTERN_LETTERS)
