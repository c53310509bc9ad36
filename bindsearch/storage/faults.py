"""Errors of the operating system and of DuckDB while a store is used, as one line that names the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import update_wrapper
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from bindsearch.environment import raise_installation_fault
from bindsearch.errors import StoreError, first_line

Store = TypeVar("Store")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@contextmanager
def store_faults(store: Path, action: str = "write") -> Iterator[None]:
    """Convert errors of the operating system and of DuckDB in the block into a StoreError.

    Args:
        store: Folder of the store.
        action: What is done: "read" or "write".

    Raises:
        StoreError: the block raised OSError or duckdb.Error.
    """
    try:
        yield
    except Exception as error:
        raise_store_fault(error, store, action)
        raise


def raise_store_fault(error: Exception, store: Path, action: str) -> None:
    """Raise the StoreError for an error of the operating system or of DuckDB, as `store_faults`; otherwise return."""
    if isinstance(error, BrokenPipeError):  # a reader of the output has closed it
        return
    raise_installation_fault(error)
    kinds = ((kind.__module__, kind.__name__) for kind in type(error).__mro__)  # DuckDB is not imported for that
    if isinstance(error, OSError) or not {("duckdb", "Error"), ("_duckdb", "Error")}.isdisjoint(kinds):
        kept = "; committed data is kept" if action == "write" else ""
        raise StoreError(f"cannot {action} the store {store}: {reason_of(error, store)}{kept}") from error


def reason_of(error: BaseException, store: Path) -> str:
    """Return the reason of an error in one line, with the file's name if it is outside of the store."""
    if not isinstance(error, OSError) or error.strerror is None:
        return first_line(error)
    name = None if error.filename is None else os.fsdecode(error.filename)
    outside = name is not None and not Path(name).is_relative_to(store)
    return f"{error.strerror}: {name}" if outside else error.strerror


def tells_faults(
    action: str,
) -> Callable[[Callable[Concatenate[Store, Arguments], Result]], Callable[Concatenate[Store, Arguments], Result]]:
    """Return a decorator that puts `store_faults` around a function.

    Its first argument is the store: a path, None for the default store, or an object with a `path`.
    """

    def decorate(
        function: Callable[Concatenate[Store, Arguments], Result],
    ) -> Callable[Concatenate[Store, Arguments], Result]:
        def guarded(store: Store, /, *arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
            with store_faults(_path_of(store), action):
                return function(store, *arguments, **options)

        update_wrapper(guarded, function)
        return guarded

    return decorate


def _path_of(store: Any) -> Path:
    from bindsearch.storage.config import resolve_store

    return store.path if hasattr(store, "path") else resolve_store(store)
