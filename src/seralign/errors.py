"""Errors that the user can fix. They are shown as one line without a traceback, with exit code 2."""


class SeralignError(Exception):
    """Base of every error with a message meant for the user."""


class ConfigError(SeralignError):
    """A configuration key is unknown, missing, or has a value that is not allowed. Names the key."""


class DataError(SeralignError):
    """A data file or row cannot be read as preference data. Names the file and the row."""


class ModelError(SeralignError):
    """A model, tokenizer or adapter cannot be loaded or does not fit the run."""


class StoreError(SeralignError):
    """A run folder, checkpoint or cache file is missing, corrupt, or belongs to something else."""


class AwaitingLabels(SeralignError):
    """Pairs have to be labelled before the work can continue. What was done is kept. Exit code 3."""


class BusyError(StoreError):
    """Another process works in the folder."""


class PeerError(SeralignError):
    """Another process of the same run has ended, so this one cannot continue. Exit code 1."""


def one_line(error: BaseException) -> str:
    """The message of an error on one line."""
    return " ".join(str(error).split())


def brief(error: Exception, length: int = 300) -> str:
    """The message of a library's error on one line, cut after ``length`` characters."""
    words = one_line(error) or type(error).__name__
    return words if len(words) <= length else words[:length].rstrip() + " ..."
