"""What a reader of a run's data should know besides the counts of its sources."""

from __future__ import annotations

from seralign.data.columns import listed_names
from seralign.data.tokens import PROMPT_CUT, PROMPT_TOO_LONG, RESPONSE_CUT, RESPONSE_TOO_LONG
from seralign.runs.data_figures import SourceFigures
from seralign.tables import percent

# From this share of the rows on, a limit of length is a warning.
_MOST = 0.5


def remarks(name: str, source: SourceFigures) -> list[str]:
    """Remarks on a source besides its counts, a line each."""
    unread = [f"columns not read: {listed_names(source.unread)}"] if source.unread else []
    made = [f"{count} {what}" for what, count in source.converted.items()]
    found = [f"data.{name}: {remark}" for remark in (*unread, *made, *source.remarks)]
    return [*found, *(f"warning: data.{name}: {remark}" for remark in _too_long(source))]


def _too_long(source: SourceFigures) -> list[str]:
    """The limits that most rows exceed."""
    raised = "raise it (by default it is three quarters of data.max_length)"
    found = (
        (source.noted.get(PROMPT_CUT, 0) / source.kept, "prompts lose their beginning", "max_prompt_length", raised),
        (source.noted.get(RESPONSE_CUT, 0) / source.kept, "rows have responses that are cut", "max_length", "raise it"),
        (source.dropped.get(PROMPT_TOO_LONG, 0) / source.read, "rows are dropped", "max_prompt_length", raised),
        (source.dropped.get(RESPONSE_TOO_LONG, 0) / source.read, "rows are dropped", "max_length", "raise it"),
    )
    return [
        f"{percent(share)} of the {what}, because they exceed data.{key}; {advice}"
        for share, what, key, advice in found
        if share > _MOST
    ]
