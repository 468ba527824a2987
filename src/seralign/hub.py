"""Whether the hub answers at all: asked once per process, because its client retries for most of a minute."""

from __future__ import annotations

import threading
from functools import cache

import datasets.config
from huggingface_hub import constants
from huggingface_hub.utils import get_session

from seralign.errors import brief

SECONDS = 5
"""How long the hub has to answer."""


@cache
def silence() -> str | None:
    """Why the hub cannot be asked, or None if it answers. If it does not, only local caches are used from then on."""
    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    outcome: list[str] = []
    # A thread, because the timeouts of a client do not bound the time for all of a request.
    asking = threading.Thread(target=_ask, args=(outcome,), daemon=True)
    asking.start()
    asking.join(SECONDS)
    found = outcome[0] if outcome else f"no answer within {SECONDS} s"
    if not found:
        return None
    # As if the variable had been set: every library asks here before it opens a connection.
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    return f"{constants.ENDPOINT} (HF_ENDPOINT): {found}"


def _ask(outcome: list[str]) -> None:
    """Any response will do; of an error the message, which is never empty."""
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception as error:  # a class of whatever library the client uses
        outcome.append(brief(error))
    else:
        outcome.append("")
