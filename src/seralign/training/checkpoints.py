"""Complete checkpoints: marked when fully written, and checked by digest before training resumes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from seralign import distributed
from seralign.errors import StoreError, one_line
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
    """The newest complete checkpoint. Incomplete ones are removed.

    Raises:
        StoreError: a file of the checkpoint has changed or is missing.
    """
    whole: list[tuple[int, Path]] = []
    for path in scratch.glob("checkpoint-*"):
        if (path / CHECKPOINT_MARKER).is_file():
            whole.append((steps_of(path), path))
        else:
            shutil.rmtree(path)
    if not whole:
        return None
    newest = max(whole)[1]
    try:
        digests = read_sealed(newest / CHECKPOINT_MARKER)
        broken = [name for name, digest in digests.items() if file_digest(newest / name) != digest]
    except (OSError, ValueError) as error:
        broken = [one_line(error)]
    if broken:
        raise StoreError(
            f"{newest}: the checkpoint is corrupt ({', '.join(broken)}). Delete this folder; the same command then "
            "resumes from the checkpoint before it, or from the beginning"
        )
    return newest
