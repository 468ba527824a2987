"""Libraries that print and warn, kept quiet."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

from transformers.utils import logging as transformers_logging

# Warnings of PEFT's and transformers' that no setting of ours answers: what to keep silent, and its kind.
_SILENT: tuple[tuple[str, type[Warning]], ...] = (
    ("`is_gradient_checkpointing` is deprecated", FutureWarning),
    ("fan_in_fan_out is set to", UserWarning),
    ("Setting `save_embedding_layers` to `True`", UserWarning),
    # Where an adapter changes one of two tied embeddings, merging unties them, and the merged settings say so.
    ("Model with `tie_word_embeddings=True` and the tied_target_modules", UserWarning),
    ("Input and output embeddings are no longer tied", UserWarning),
    # load_adapter raises in its place.
    ("Found missing adapter keys", UserWarning),
)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' load reports and bars, and a few warnings of PEFT's, away."""
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
