"""Keys of settings: which options of which commands have a default that can be set, and where.

A key is the long name of an option without its dashes. It is set for every command that has the option, or for one:
`k` or `search.k`, [options] or [options.search] in a file, BINDSEARCH_K or BINDSEARCH_SEARCH_K in the environment.

Who may set what: the user's own file and the environment every key of `KNOWN`. A `.bindsearch.toml` that is found up
the tree may come with a folder from elsewhere, so that it sets the keys of `FOLDER_KEYS` alone: how many hits there
are, of which kinds and in which order. What makes a program read, write, run or connect to something else (store,
encoder, device, limits), what leaves files out, and what changes the form of the output that scripts read, is refused
there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bindsearch.arguments import did_you_mean, shown
from bindsearch.errors import UsageError

PREFIX = "BINDSEARCH_"

FOLDER_KEYS = frozenset(
    {"color", "copies", "diversity", "flat", "include-query", "k", "min-match", "ranking", "to", "words"}
)
"""Keys that a folder's file may set."""

FOLDER_COMMANDS = frozenset({"search", "explain", "report"})
"""Commands that these are set for; elsewhere the same names may do more: `to` of `export` leaves vectors out."""

INPUTS = (
    "text image video audio depth thermal imu like query item from url png html open at root start labels labels-file "
    "against write-column write-probability remove-column pairs out sweep shards"
)
CONSENT = "accept-license any-space force replace restart prune dry-run help version debug"
GIVEN_EACH_TIME = frozenset([*INPUTS.split(), *CONSENT.split()])
"""Options that are given on the command line alone: what one call is about, and consent."""

READ_ELSEWHERE = frozenset({"BINDSEARCH_OFFLINE", "BINDSEARCH_MODEL_PULL_OFFLINE"})
"""Variables named as an option's would be that the package itself reads."""

KNOWN: Mapping[str, str] = {
    "index": "store on workers gpus modality-rule encoder encoder-option device compile imu-rate segment index memory "
    "recall index-option retry-failed include exclude limit json json-lines",
    "search": "to k ranking diversity min-match copies words where under collection since until include-query imu-rate "
    "device store on require-all json jsonl csv paths print0 format flat color preview no-server locate",
    "explain": "to k ranking diversity min-match copies words where under collection since until include-query "
    "imu-rate device store on json analyze",
    "classify": "templates encoder top modality collection imu-rate device store json",
    "imagine": "model encoder prompt strength seed steps size count imu-rate device dtype store json",
    "locate": "threshold detail max-boxes encoder detector imu-rate device store json",
    "serve": "store host port token-file no-socket on processes replicas encoders gpus",
    "report": "title to k where locate imu-rate device store json",
    "show": "encoder modality-rule imu-rate limit store json",
    "watch": "store on modality-rule encoder include exclude rescan polling json-lines",
    "retry": "store on modality-rule imu-rate limit device json json-lines",
    "optimize": "index memory recall index-option device store on json",
    "calibrate": "device store json",
    "reindex": "encoder encoder-option store modality-rule imu-rate limit device json json-lines",
    "status": "failed left-out most store on json",
    "verify": "store on check-media hash-media json",
    "compact": "store on json",
    "reshard": "device store on json",
    "recover": "store json",
    "doctor": "deep store json",
    "duplicates": "near threshold to store json",
    "forget": "store on json",
    "relocate": "store json",
    "export": "layout name to where under collection since until store json",
    "import": "modality vector-column encoder encoder-option optimize device store json",
    "merge": "optimize device store json",
    "encoders": "for json",
    "bind": "modality bridge hub set work templates tensorboard device json",
    "eval": "data encoder split modality templates shots sample cache device store json",
    "bench encode": "modality encoder random-weights dtype device batch seconds compile json",
    "model pull": "dtype revision offline json",
    "model list": "json",
    "model info": "check json",
    "model remove": "json",
}
"""Keys by command. Written down, since a command at its start must not load all others to know a misspelt key; a test
compares them with the options of the commands."""


def settable_options(command: str, params: Iterable[Any]) -> dict[str, Any]:
    """Return those options of a command, such as "model pull", that can be set, by key: the longest name, no dashes."""
    named = [option for option in params if option.param_type_name == "option"]
    options = {str(max(option.opts, key=len)).lstrip("-"): option for option in named}
    return {
        key: option
        for key, option in options.items()
        if key not in GIVEN_EACH_TIME and not option.hidden and (command, key) != ("show", "segment")
    }


def all_keys() -> frozenset[str]:
    """Return the keys that some command has."""
    return frozenset(key for keys in KNOWN.values() for key in keys.split())


def check_key(command: str, key: str, where: str = "") -> None:
    """Check that a command, or any command for "", has an option that can be set; `where` opens the message.

    Raises:
        UsageError: there is no such option or command; the message names the nearest ones.
    """
    if command and command not in KNOWN:
        raise UsageError(f"{where}unknown command {shown(command)}: {did_you_mean(command, KNOWN)}{SEE_ALL}")
    keys = KNOWN[command].split() if command else all_keys()
    if key in keys:
        return
    if key in GIVEN_EACH_TIME:
        raise UsageError(f"{where}{key} cannot be set: it is given with each command")
    of = f" of {command}" if command else ""
    raise UsageError(f"{where}unknown option {shown(key)}{of}: {did_you_mean(key, sorted(keys))}{SEE_ALL}")


SEE_ALL = "`bindsearch config show --all` lists the options"


def split_key(dotted: str) -> tuple[str, str]:
    """Return command ("" for "k") and key of "k", "search.k", "model.pull.dtype". Raises UsageError: as `check_key`."""
    command, _, key = dotted.removeprefix("options.").rpartition(".")
    check_key(command.replace(".", " "), key)
    return command.replace(".", " "), key


def dotted_key(command: str, key: str) -> str:
    """Return a key as `config` shows it, such as "search.k"."""
    return ".".join([*command.split(), key])


def variable_name(command: str, key: str) -> str:
    """Return the name of the environment variable of a key, such as BINDSEARCH_SEARCH_K."""
    return PREFIX + "_".join([*command.split(), key]).upper().replace("-", "_")
