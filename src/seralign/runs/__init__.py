"""The only reader and writer of a run's folder: layout, atomic stages, digests.

A run is a folder of stages. A stage works in ``NAME.partial`` and becomes ``NAME`` by one rename, its record
``stage.json`` inside: it is either whole or not there, and what a killed stage had finished is still in
``NAME.partial`` when it is begun again. The record names what the stage read and wrote by digest; a stage that
exists is read back, never made again, and refused when its inputs are others now.

    RUN/run.json             configuration and versions
    RUN/data/                pairs.arrow, heldout.arrow, prompts.arrow, heldout_prompts.arrow
    RUN/sft/policy/          supervised policy
    RUN/round-2/score/       margins.parquet
    RUN/round-2/train/       policy/, metrics.jsonl, reference.parquet
    RUN/result/              the model that the run was for
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
