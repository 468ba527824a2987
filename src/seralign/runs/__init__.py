"""Reads and writes the folder of a run: layout, atomic stages, digests. No other package does.

A run is a folder of stages. While a stage runs, its files are in ``NAME.partial``. When it is done, the folder is
renamed to ``NAME`` in one step, with the record ``stage.json`` inside. So a stage is either complete or absent. If a
stage was killed, its unfinished work is still in ``NAME.partial`` when it runs again. The record has the digests of
everything that the stage read and wrote. An existing stage is read back and never made again; it is refused if its
inputs have changed.

    RUN/run.json             configuration and versions
    RUN/data/                pairs.arrow, heldout.arrow, prompts.arrow, heldout_prompts.arrow
    RUN/sft/policy/          supervised policy
    RUN/round-2/score/       margins.parquet
    RUN/round-2/train/       policy/, metrics.jsonl, reference.parquet
    RUN/result/              the trained model
"""

from seralign.runs.check import Checked, check_run, run_size
from seralign.runs.layout import CHECKPOINT_MARKER, SCRATCH
from seralign.runs.manifest import FORMAT, open_run, read_manifest, read_run
from seralign.runs.stages import Run, StageRecord

__all__ = [
    "CHECKPOINT_MARKER",
    "FORMAT",
    "SCRATCH",
    "Checked",
    "Run",
    "StageRecord",
    "check_run",
    "open_run",
    "read_manifest",
    "read_run",
    "run_size",
]
