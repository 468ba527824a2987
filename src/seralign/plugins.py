"""User code that a configuration names as ``module:name``. Its exceptions are reported as errors of that code."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from seralign.errors import ConfigError, SeralignError, one_line


def load_plugin(spec: str, key: str, kind: str) -> Callable[..., Any]:
    """Load the function or class ``spec``, ``module:name``.

    Modules are imported from the Python path or the current folder.

    Args:
        spec: ``module:name``.
        key: The configuration key that names it, for messages.
        kind: What it must be, for messages: ``function`` or ``class``.

    Raises:
        ConfigError: the module or the name is missing, or fails to load.
    """
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise ConfigError(f"{key} must be of the form module:{kind}, got {spec!r}")
    # Unlike python -m, the installed command does not look for modules in the current folder.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{key}: cannot import {module_name!r}: {_described(error)}") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise ConfigError(f"{key}: module {module_name!r} has no {kind} {name!r}")
    return found


def source_of(found: Callable[..., Any], otherwise: str) -> str:
    """The source of the module that defines a function or class, or of the object itself; else ``otherwise``."""
    module = inspect.getmodule(found)
    try:
        return inspect.getsource(module if module is not None else found)
    except (OSError, TypeError):
        return otherwise


@contextmanager
def plugin_errors(key: str, name: str) -> Iterator[None]:
    """Turn exceptions of user code into one error that names the key and the line of the code.

    Raises:
        ConfigError: the code raised an exception or exited.
    """
    try:
        yield
    except SeralignError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{key}: {name} failed: {_described(error)}") from error


def _described(error: BaseException) -> str:
    """The exception of the user's code, and the line where it was raised."""
    kind = "" if isinstance(error, ModuleNotFoundError) else f"{type(error).__name__}: "
    place: TracebackType | None = error.__traceback__
    if isinstance(error, ModuleNotFoundError) or place is None:
        return f"{kind}{one_line(error)}"
    while place.tb_next is not None:
        place = place.tb_next
    file = Path(place.tb_frame.f_code.co_filename).name
    return f"{kind}{one_line(error)} ({file} line {place.tb_lineno})"


def is_text(value: object) -> bool:
    """Whether a value from user code is text that can be written to a file; half a surrogate pair cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
