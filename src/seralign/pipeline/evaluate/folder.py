"""The folder of an evaluation: which configuration it belongs to, and the outputs in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from seralign.config.evaluate import EvaluateConfig
from seralign.config.load import plain_values
from seralign.errors import StoreError
from seralign.pipeline.evaluate.outputs import Outputs
from seralign.pipeline.evaluate.prompts import Question
from seralign.progress import say
from seralign.runs.files import write_table
from seralign.runs.layout import LOCK
from seralign.runs.manifest import differences
from seralign.runs.sealed import read_sealed, write_sealed

# Increased whenever folders of an earlier version can no longer be read.
FORMAT = 1
EVALUATION = "evaluation.json"
OUTPUTS = "outputs.parquet"
# Written last: a folder that has it is a finished evaluation.
RESULTS = "results.json"
# Settings that change how a server is reached and what may be spent on it, and not what it answers.
_FREE = frozenset(
    {
        "url",
        "api_key_env",
        "parallel",
        "timeout",
        "retries",
        "requests_per_minute",
        "tokens_per_minute",
        "max_tokens_spent",
        "max_cost",
    }
)


def open_folder(root: Path, config: EvaluateConfig) -> None:
    """Open the folder of an evaluation for work, or create it.

    An unfinished evaluation may change its configuration: what is stored is keyed by its content, so that answers and
    verdicts that the change does not concern are used again.

    Raises:
        StoreError: the folder contains something else, or a finished evaluation of another configuration (names the
            keys).
    """
    values = _bound({key: value for key, value in plain_values(config).items() if key not in ("out", "store")})
    path = root / EVALUATION
    if path.exists():
        before = _read(path)
        changed = differences(before["config"], values)
        if not changed:
            return
        if (root / RESULTS).exists():
            raise StoreError(
                f"{root} holds an evaluation of another configuration: {'; '.join(changed)}. "
                "Use the configuration that it began with, or another folder (out)"
            )
        say(f"{root}: the configuration of the unfinished evaluation has changed: {'; '.join(changed)}")
    elif root.is_dir() and any(entry.name not in (LOCK, f"{EVALUATION}.tmp") for entry in root.iterdir()):
        raise StoreError(f"{root} is not empty and is not an evaluation; use another folder (out)")
    root.mkdir(parents=True, exist_ok=True)
    write_sealed(path, {"format": FORMAT, "config": values})


def write_outputs(root: Path, questions: list[Question], outputs: list[Outputs]) -> None:
    """Write the outputs of all policies as one table."""
    rows = [
        (one.name, question.prompt.prompt_id, question.prompt.text, answer, reason)
        for one in outputs
        for question, answer, reason in zip(questions, one.answers, one.reasons, strict=True)
    ]
    columns = {
        "policy": pa.array([row[0] for row in rows], pa.string()),
        "prompt_id": pa.array([row[1] for row in rows], pa.string()),
        "prompt": pa.array([row[2] for row in rows], pa.string()),
        "output": pa.array([row[3] and row[3].text for row in rows], pa.string()),
        "finished": pa.array([row[3] and row[3].finished for row in rows], pa.bool_()),
        "tokens": pa.array([row[3] and row[3].tokens for row in rows], pa.int64()),
        "left_out": pa.array([row[4] for row in rows], pa.string()),
    }
    write_table(root / OUTPUTS, columns)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_sealed(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {error}; evaluate into another folder (out)") from None
    if found.get("format") != FORMAT:
        raise StoreError(f"{path}: not an evaluation of this version (format {FORMAT}); use another folder (out)")
    return found


def _bound(values: dict[str, Any]) -> dict[str, Any]:
    """The configuration that the folder is bound to."""
    policies = {
        name: policy | {"server": _without_free(policy["server"])} for name, policy in values["policies"].items()
    }
    return values | {"judge_options": _bound_options(values["judge"], values["judge_options"]), "policies": policies}


def _bound_options(judge: Any, options: Any) -> Any:
    """The options of a judge that its verdicts depend on.

    Only a server has others. A user's judge may have an option of the same name, and a judge of a panel may be named
    like one.
    """
    if judge == "server":
        return _without_free(options)
    if judge == "panel" and isinstance(options, dict) and isinstance(members := options.get("judges"), dict):
        bound = {
            name: member | {"judge_options": _bound_options(member.get("judge"), member.get("judge_options", {}))}
            if isinstance(member, dict)
            else member
            for name, member in members.items()
        }
        return options | {"judges": bound}
    return options


def _without_free(options: Any) -> Any:
    if not isinstance(options, dict):
        return options
    return {key: value for key, value in options.items() if key not in _FREE}
