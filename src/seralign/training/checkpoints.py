"""Complete checkpoints: marked when fully written, and checked by digest before training resumes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from seralign import distributed
from seralign.errors import StoreError, one_line
from seralign.progress import say
from seralign.runs import CHECKPOINT_MARKER
from seralign.runs.files import file_digest
from seralign.runs.sealed import read_sealed, write_sealed


class CheckpointMarker(TrainerCallback):
    """Marks a checkpoint as complete once it is fully written, with the digests of its files."""

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        # Checkpoints do not contain the sums since the last log, so log first.
        control.should_log |= control.should_save

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        distributed.barrier()
        if distributed.is_main():
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            write_sealed(
                folder / CHECKPOINT_MARKER, {str(path.relative_to(folder)): file_digest(path) for path in files}
            )


def steps_of(checkpoint: Path) -> int:
    """The steps after which a checkpoint was saved."""
    return int(checkpoint.name.rsplit("-", 1)[1])


def last_checkpoint(scratch: Path) -> Path | None:
    """The newest complete checkpoint. Incomplete ones are removed, and damaged ones, which a warning names.

    Raises:
        StoreError: a file of the checkpoint cannot be read.
    """
    whole: list[Path] = []
    for path in scratch.glob("checkpoint-*"):
        if (path / CHECKPOINT_MARKER).is_file():
            whole.append(path)
        else:
            shutil.rmtree(path)
    for path in sorted(whole, key=steps_of, reverse=True):
        damage = _damage(path)
        if damage is None:
            return path
        say(
            f"warning: {path}: the checkpoint is damaged ({damage}) and was removed; training resumes from the "
            "checkpoint before it, or from the beginning"
        )
        shutil.rmtree(path)
    return None


def _damage(checkpoint: Path) -> str | None:
    """What has changed of a checkpoint since it was written, or None."""
    try:
        digests = read_sealed(checkpoint / CHECKPOINT_MARKER)
        found = [name for name, digest in digests.items() if _digest(checkpoint / name) != digest]
    except ValueError as error:
        return f"{CHECKPOINT_MARKER}: {one_line(error)}"
    except OSError as error:
        raise StoreError(
            f"{error.filename or checkpoint}: cannot be read: {error.strerror or one_line(error)}"
        ) from None
    return ", ".join(found) or None


def _digest(path: Path) -> str | None:
    return file_digest(path) if path.is_file() else None
