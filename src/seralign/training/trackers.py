"""Checks trackers (``report_to``) before a run begins; most of them fail only during training."""

from __future__ import annotations

import contextlib
import importlib
import netrc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from seralign.errors import ConfigError, one_line


def check_trackers(names: Sequence[str], section: str) -> None:
    """Refuse trackers that cannot log.

    Args:
        names: Names of trackers in transformers.
        section: ``training`` or ``sft``; errors name it.

    Raises:
        ConfigError: a tracker is unknown, its package is missing, or there is no login.
    """
    for name in names:
        why = _why_not(name)
        if why is not None:
            raise ConfigError(f"{section}.report_to: {name} cannot be used: {why}")


def _why_not(name: str) -> str | None:
    with _no_complaints_of_halves():
        try:
            for tracker in get_reporting_integration_callbacks([name]):
                tracker()  # looks for its package
        except (ValueError, RuntimeError, ImportError) as error:
            return one_line(error)
    logged_in = _LOGINS.get(name)
    return None if logged_in is None else logged_in()


def _wandb() -> str | None:
    """Without a login, wandb would prompt for the key or fail in the first step of training."""
    settings: Any = importlib.import_module("wandb").setup().settings
    if settings.mode not in ("online", "run", None):
        return None
    key = settings.api_key or getattr(settings, "identity_token_file", None)
    if key or _in_netrc(str(urlsplit(settings.base_url).hostname)):
        return None
    return "not logged in; run `wandb login`, set WANDB_API_KEY, or set WANDB_MODE=offline"


def _comet() -> str | None:
    environment = os.environ
    is_offline = environment.get("COMET_START_ONLINE", "").lower() in ("0", "false", "no")
    is_off = environment.get("COMET_MODE", "create").lower() not in ("get", "get_or_create", "create")
    if is_offline or is_off or importlib.import_module("comet_ml").get_config("comet.api_key"):
        return None
    return "there is no API key; run `comet login`, set COMET_API_KEY, or set COMET_START_ONLINE=0"


_LOGINS: dict[str, Callable[[], str | None]] = {"wandb": _wandb, "comet_ml": _comet}


def _in_netrc(host: str) -> bool:
    """Whether the user's netrc file, to which ``wandb login`` writes, has a login for a host."""
    given = os.environ.get("NETRC")
    for file in [Path(given)] if given else [Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()]:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if host in netrc.netrc(str(file)).hosts:
                return True
    return False


@contextlib.contextmanager
def _no_complaints_of_halves() -> Iterator[None]:
    """Suppress the traceback of trackers whose ``__del__`` fails after their ``__init__`` failed."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = before
