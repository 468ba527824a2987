"""Silences libraries that print and warn."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

from transformers.utils import logging as transformers_logging

# Warnings of PEFT and transformers that no setting avoids: the text to ignore, and its category.
_SILENT: tuple[tuple[str, type[Warning]], ...] = (
    ("`is_gradient_checkpointing` is deprecated", FutureWarning),
    ("fan_in_fan_out is set to", UserWarning),
    ("Setting `save_embedding_layers` to `True`", UserWarning),
    # Merging unties tied embeddings if an adapter changed only one of them, and the merged settings record it.
    ("Model with `tie_word_embeddings=True` and the tied_target_modules", UserWarning),
    ("Input and output embeddings are no longer tied", UserWarning),
    # load_adapter raises an error instead.
    ("Found missing adapter keys", UserWarning),
)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' loading reports and progress bars, and a few warnings of PEFT."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            for message, kind in _SILENT:
                warnings.filterwarnings("ignore", message, kind)
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
