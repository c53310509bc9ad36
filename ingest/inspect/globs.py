"""Globs over paths inside a collection, for rules and path filters, and the matcher that ignore files share.

Letter case is ignored: `*` and `?` match within a folder name, `**/` any number of folders, `[abc]` one character other
than "/". A glob without "/" is matched against the file name alone.

Patterns are matched by an automaton (Thompson, CACM 11, 1968) whose sets of states are the bits of integers, computed
when a name first needs them. The time grows with the length of the name, whatever the pattern is: there is no
backtracking. pathspec, whose patterns are regular expressions of `re`, takes minutes for one name of 200 characters and
"*a*a*a*a*a*b", cannot say whether a pattern may match below a folder, and minds the case of letters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from bindsearch.errors import UsageError

MAX_GLOB = 1000
"""Maximum characters of a pattern."""

NAME_CHARACTER = "[^/]"
STAR, GLOBSTAR, FOLDERS = "[^/]*", ".*", "(?:.*/)?"
"""Tokens of a pattern besides regular expressions of one character; concatenated, tokens are a regular expression."""

_ANY = "."
_NAMED_CLASS = re.compile(r"\[:[^]]*:\]")
_CACHE_BYTES = 1 << 18


def glob_matches(glob: str, rel_path: str) -> bool:
    """Return whether a valid glob matches the file at `rel_path` inside its collection."""
    return _automaton(glob).matches(rel_path if "/" in glob else rel_path.rsplit("/", 1)[-1]) != 0


def matching_globs(globs: tuple[str, ...], rel_path: str) -> int:
    """Return which of valid globs match the file at `rel_path`, as bits: the first glob is the lowest bit."""
    return _automaton_of_all(globs).matches(rel_path)


def globs_below(globs: tuple[str, ...], folder: str) -> int:
    """Return which of valid globs can match files in or below a folder, as bits."""
    return _automaton_of_all(globs).begins(f"{folder}/")


def parse_glob(text: str, source: str) -> str:
    """Return a user's glob without surrounding spaces and a leading "./"; `source` names its origin in errors.

    Raises:
        UsageError: it is empty, too long or invalid.
    """
    glob = text.strip().removeprefix("./")
    if not glob:
        raise UsageError(f"{source}: empty glob, expected one such as '*.jpg' or 'folder/**'")
    if len(glob) > MAX_GLOB:
        raise UsageError(f"{source}: glob {glob[:40]!r}... has {len(glob)} characters: expected at most {MAX_GLOB}")
    if glob.startswith("/"):
        raise UsageError(f"{source}: glob {glob!r} is absolute: make it relative to the indexed folder")
    try:
        _automaton(glob)
    except ValueError as error:
        raise UsageError(f"{source}: glob {glob!r} is invalid ({ascii(str(error))[1:-1]})") from error
    return glob


@lru_cache(maxsize=256)
def _automaton(glob: str) -> GlobAutomaton:
    return GlobAutomaton([_glob_tokens(glob)], re.IGNORECASE)


@lru_cache(maxsize=16)
def _automaton_of_all(globs: tuple[str, ...]) -> GlobAutomaton:
    patterns = []  # matched against whole paths, even if they have no "/"
    for glob in globs:
        tokens = _glob_tokens(glob)
        names = [FOLDERS, *(STAR if token == GLOBSTAR else token for token in tokens)]
        patterns.append(tokens if "/" in glob else names)
    return GlobAutomaton(patterns, re.IGNORECASE)


def _glob_tokens(glob: str) -> list[str]:
    """Return the tokens of a glob."""
    tokens, i = [], 0
    while i < len(glob):
        if glob.startswith("**/", i):
            token, i = FOLDERS, i + 3
        elif glob.startswith("**", i):
            token, i = GLOBSTAR, i + 2
        elif glob[i] == "*":
            token, i = STAR, i + 1
        elif glob[i] == "?":
            token, i = NAME_CHARACTER, i + 1
        elif glob[i] == "[" and (found := class_token(glob, i)) is not None:
            token, i = found
        else:
            token, i = re.escape(glob[i]), i + 1
        tokens.append(token)
    return tokens


def class_token(pattern: str, start: int, *, escapes: bool = False) -> tuple[str, int] | None:
    """Return the token of the character class that begins at `start`, and where it ends; None if it has no "]".

    It never matches "/". With `escapes`, a character after a backslash stands for itself.

    Raises:
        ValueError: a range is reversed, or it contains a named class of POSIX, such as [:alpha:].
    """
    negated = pattern[start + 1 : start + 2] in ("!", "^")
    i = first = start + 1 + negated
    ranges: list[tuple[str, str]] = []
    while i < len(pattern) and (pattern[i] != "]" or i == first):  # a "]" in the first place is a member
        if named := _NAMED_CLASS.match(pattern, i):
            raise ValueError(f"named classes such as {named[0]} are not supported")
        low, i = _class_member(pattern, i, escapes)
        high = low
        if pattern[i : i + 1] == "-" and pattern[i + 1 : i + 2] not in ("", "]"):
            high, i = _class_member(pattern, i + 1, escapes)
        ranges.append((low, high))
    if i >= len(pattern):
        return None
    for low, high in ranges:
        if low > high:
            raise ValueError(f"bad character range {low}-{high}")
    members = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges)
    return f"(?!/)[{'^' if negated else ''}{members}]", i + 1


def _class_member(pattern: str, i: int, escapes: bool) -> tuple[str, int]:
    """Return the character of a class at `i`, empty at the end of the pattern, and where the next one is."""
    i += escapes and pattern[i] == "\\"
    return pattern[i : i + 1], i + 1


class GlobAutomaton:
    """An automaton of several patterns at once, each given by its tokens; it matches whole paths."""

    def __init__(self, patterns: Sequence[Sequence[str]], flags: re.RegexFlag = re.NOFLAG) -> None:
        """Give each token a place, as a bit, and FOLDERS two, since it may be skipped; one more accepts the pattern."""
        self._into_next = self._over_folders = starts = self._accepting = 0
        self._accepts: list[int] = []
        steps: Counter[str] = Counter()
        loops: Counter[str] = Counter()
        bit = 1
        for tokens in patterns:
            starts |= bit
            for token in tokens:
                if token == FOLDERS:
                    self._into_next |= bit
                    self._over_folders |= bit
                    bit <<= 1
                    loops[_ANY] |= bit
                    steps["/"] |= bit
                elif token in (STAR, GLOBSTAR):
                    self._into_next |= bit
                    loops[token.removesuffix("*")] |= bit
                else:
                    steps[token] |= bit
                bit <<= 1
            self._accepts.append(bit)
            self._accepting |= bit
            bit <<= 1
        self._steps = {re.compile(token, flags | re.DOTALL): places for token, places in steps.items()}
        self._loops = {re.compile(token, flags | re.DOTALL): places for token, places in loops.items()}
        self._first = self._closure(starts)
        self._max_cached = _CACHE_BYTES // (bit.bit_length() // 8 + 128) + 1
        self._clear()

    def _clear(self) -> None:
        """Forget the computed states and characters."""
        self._states: dict[int, _State] = {}
        self._masks: dict[str, tuple[int, int]] = {}
        self.n_cached = 0
        self._start, self._dead = self.state(self._first), self.state(0)

    def matches(self, path: str) -> int:
        """Return which patterns match a path, as bits: the first pattern is the lowest bit."""
        if self.n_cached > self._max_cached:
            self._clear()
        state, dead = self._start, self._dead
        for character in path:
            state = state[character]
            if state is dead:
                return 0
        return state.accepted

    def begins(self, path: str) -> int:
        """Return which patterns match a path that begins with this text and goes on, as bits."""
        places = self._first
        for character in path:
            places = self.advance(places, character)
        last = found = 0
        for i, bit in enumerate(self._accepts):  # a pattern has the places after the last one's, its own end excepted
            found |= bool(places & (bit - 1) & ~last) << i
            last = 2 * bit - 1
        return found

    def state(self, places: int) -> _State:
        """Return the state of a set of places."""
        state = self._states.get(places)
        if state is None:
            accepted = 0
            if places & self._accepting:
                accepted = sum(1 << i for i, bit in enumerate(self._accepts) if places & bit)
            state = self._states[places] = _State(self, places, accepted)
        return state

    def advance(self, places: int, character: str) -> int:
        """Return the places that a character leads to."""
        if character not in self._masks:
            self._masks[character] = _places(self._steps, character), _places(self._loops, character)
        steps, loops = self._masks[character]
        return self._closure((places & steps) << 1 | places & loops)

    def _closure(self, places: int) -> int:
        """Return places with all that are reached from them without a character."""
        while True:
            reached = places | (places & self._into_next) << 1 | (places & self._over_folders) << 2
            if reached == places:
                return places
            places = reached


def _places(elements: Mapping[re.Pattern[str], int], character: str) -> int:
    """Return the places of the elements that match a character."""
    places = 0
    for element, bits in elements.items():
        if element.match(character):
            places |= bits
    return places


class _State(dict[str, "_State"]):
    """A set of places of an automaton: the next state for each character, computed when it is first asked for."""

    __slots__ = ("_automaton", "_places", "accepted")

    def __init__(self, automaton: GlobAutomaton, places: int, accepted: int) -> None:
        self._automaton, self._places, self.accepted = automaton, places, accepted

    def __missing__(self, character: str) -> _State:
        automaton = self._automaton
        state = self[character] = automaton.state(automaton.advance(self._places, character))
        automaton.n_cached += 1
        return state
