"""Text form of queries.

    query  = [sign] term { sign term }
    term   = [ number "*" ] [ prefix ":" ] source [ "@" number ["s"] "-" number "s" ] [ "&" quoted ]
    sign   = "+" | "-"
    number = such as 2, 0.5, .5 or 1e-3
    prefix = "text" | "image" | "video" | "audio" | "depth" | "thermal" | "imu" | "like"
    source = quoted | bare
    quoted = between " and " or between ' and '; inside, the same quote is doubled
    bare   = up to @, *, a quote, an & before a quote or the end, or a sign that follows a space or precedes a
             weight or a prefix

A picture or video with & and a quoted text is one input of both, for encoders that embed such; + adds two vectors.

So image:my-photo.jpg and image:my photo.jpg are one file each. Quote names that contain *, @ or a quote, a + or - after
a space or at the end, or a prefix. `format_query` quotes every name with characters other than letters, digits and
. / ~ _ + -

A source without a prefix is a file if it exists or looks like a path (a slash, an extension), else text. Without any
weights, each of n terms has the weight 1/n; if some terms are weighted, the others have the weight 1. "-" negates it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from bindsearch.arguments import did_you_mean
from bindsearch.errors import QuerySyntaxError
from bindsearch.search.query import CAPTIONED, PREFIXES, Composition, Term
from bindsearch.types import Span

_DIGITS = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_NUMBER = re.compile(rf"\s*({_DIGITS})\s*\*")
_PREFIX = re.compile(r"\s*([A-Za-z]+):(?!//)")
_SPAN = re.compile(rf"@\s*({_DIGITS})s?\s*-\s*({_DIGITS})s")
_SECOND_PREFIX = re.compile(rf"\s(?:{'|'.join(PREFIXES)}):(?!//)")
_END_OF_BARE = re.compile(rf"[*@\"']|&(?=\s*[\"'])|(?<!\S)[+-]|[+-](?=\s*(?:{_DIGITS}\s*\*|(?:{'|'.join(PREFIXES)}):))")
_QUOTED = re.compile(r"""(["'])((?:(?!\1).|\1\1)*+)\1""", re.DOTALL)
_PLAIN = re.compile(r"(?!//)[\w./~](?:[\w./~+-]*[\w./~])?")
_SPACE = re.compile(r"\s*")


def parse_query(expression: str) -> Composition:
    """Parse the text form of a composition.

    Raises:
        QuerySyntaxError: the expression does not parse; the error has the position.
    """
    terms: list[Term] = []
    position = _skip_space(expression, 0)
    if position == len(expression):
        raise QuerySyntaxError("the query is empty: write a term such as 0.5*image:fruit.jpg", expression, 0)
    while position < len(expression):
        sign = expression[position]
        if sign in "+-":
            position += 1
        elif terms:
            raise QuerySyntaxError("expected + or - before the next term", expression, position)
        term, position = _parse_term(expression, position)
        terms.append(-term if sign == "-" else term)
        position = _skip_space(expression, position)
    return Composition(tuple(terms))


def format_query(terms: Sequence[Term]) -> str:
    """Return the text form of terms; `parse_query` reads it as the same terms."""
    text = ""
    for term in terms:
        negative = term.negative if term.weight is None else math.copysign(1.0, term.weight) < 0
        sign = "-" if negative else "+" if text else ""
        text += f" {sign} {_format_term(term)}" if text else f"{sign}{_format_term(term)}"
    return text


def _format_term(term: Term) -> str:
    weight = "" if term.weight is None else f"{_format_number(abs(term.weight))}*"
    prefix = "" if term.kind is None else f"{term.kind}:"
    span = term.span
    suffix = "" if span is None else f"@{_format_number(span.start_s)}s-{_format_number(span.end_s)}s"
    caption = f" & {_format_quoted(term.caption)}" if term.caption else ""
    return f"{weight}{prefix}{_format_source(term.source)}{suffix}{caption}"


def _format_source(source: str) -> str:
    if _PLAIN.fullmatch(source):
        return source
    return _format_quoted(source)


def _format_quoted(source: str) -> str:
    quote = "'" if '"' in source and "'" not in source else '"'
    return f"{quote}{source.replace(quote, 2 * quote)}{quote}"


def _format_number(number: float) -> str:
    return repr(float(number)).removesuffix(".0")


def _skip_space(expression: str, position: int) -> int:
    match = _SPACE.match(expression, position)
    return match.end() if match else position


def _parse_term(expression: str, position: int) -> tuple[Term, int]:
    weight = None
    if number := _NUMBER.match(expression, position):
        weight = _finite(number, 1, expression)
        position = number.end()
    kind = None
    if prefix := _PREFIX.match(expression, position):
        kind = prefix.group(1).lower()
        if kind not in PREFIXES:
            near = did_you_mean(kind, PREFIXES)
            message = f"unknown prefix {prefix.group(1)!r} ({near}choose from {', '.join(PREFIXES)}, or quote the text)"
            raise QuerySyntaxError(message, expression, prefix.start(1))
        position = prefix.end()
    position = _skip_space(expression, position)
    if kind is None and expression[position : position + 1] in ("+", "-"):
        raise QuerySyntaxError("expected a text, a file or like:ITEM", expression, position)
    source, position = _parse_source(expression, position)
    span = None
    if position < len(expression) and expression[position] == "@":
        match = _SPAN.match(expression, position)
        if match is None:
            raise QuerySyntaxError("expected a span such as @12s-15s", expression, position)
        span = Span(_finite(match, 1, expression), _finite(match, 2, expression))
        if span.end_s <= span.start_s:
            raise QuerySyntaxError("the span ends before it starts", expression, position)
        position = match.end()
    caption, position = _parse_caption(expression, _skip_space(expression, position))
    if caption and kind not in (None, *CAPTIONED):
        raise QuerySyntaxError("only a picture or a video is joined with a text by &", expression, position)
    return Term(kind, source, weight, span=span, caption=caption), position


def _parse_caption(expression: str, position: int) -> tuple[str, int]:
    """Return the text after an "&", "" if there is none, and the position behind it."""
    if expression[position : position + 1] != "&":
        return "", position
    position = _skip_space(expression, position + 1)
    if expression[position : position + 1] not in tuple("\"'"):
        raise QuerySyntaxError("expected a quoted text after &", expression, position)
    return _parse_source(expression, position)


def _parse_source(expression: str, position: int) -> tuple[str, int]:
    if position < len(expression) and expression[position] in "\"'":
        quoted = _QUOTED.match(expression, position)
        if quoted is None:
            raise QuerySyntaxError("the quote is not closed", expression, position)
        quote, content = quoted.groups()
        if not content:
            raise QuerySyntaxError("the quotes are empty", expression, position)
        return content.replace(2 * quote, quote), quoted.end()
    ending = _END_OF_BARE.search(expression, position)
    end = ending.start() if ending else len(expression)
    source = expression[position:end].strip()
    if end < len(expression) and expression[end] in "*\"'":
        message = f"unexpected {expression[end]} (a weight is a number before *; quote names that hold *, @ or quotes)"
        raise QuerySyntaxError(message, expression, end)
    if second := _SECOND_PREFIX.search(expression, position, end):
        raise QuerySyntaxError("expected + or - before the next term", expression, second.start() + 1)
    if not source:
        raise QuerySyntaxError("expected a text, a file or like:ITEM", expression, position)
    return source, end


def _finite(match: re.Match[str], group: int, expression: str) -> float:
    number = float(match.group(group))
    if not math.isfinite(number):
        raise QuerySyntaxError("the number is too large", expression, match.start(group))
    return number
