"""Every stage name, file name and column of a run, in one place.

A stage is named by its path in the run's folder: ``data``, ``round-2/select``. Tables are Parquet files of a stage;
``COLUMNS`` lists theirs. Examples and prompts are Arrow streams, whose columns ``seralign.runs.examples`` and
``seralign.data.table`` list.
"""

from __future__ import annotations

# Files and folders at the run's root.
MANIFEST = "run.json"
LOCK = "lock"
REPORT = "report.html"
LOGS = "logs"
LOGPS = "cache/logps.sqlite"
RESULTS = "cache/results.sqlite"
QUEUES = "labels"

# In the folder of every stage.
RECORD = "stage.json"
SCRATCH = "scratch"
INPUTS = "inputs.json"
# Lies beside the files of a checkpoint, and lists them with their digests.
CHECKPOINT_MARKER = "complete.json"

# Stages that a run has once.
WORLD = "world"
DATA = "data"
PRECISION = "precision"
BASE = "base"
SFT = "sft"
POLICIES = "policies"
CROSSFIT = "crossfit/review"
RESULT = "result"

# Parts of a round, in order; the starting policy has an evaluation, the baseline a training and an evaluation.
AVERAGE = "average"
SCORE = "score"
SELECT = "select"
SAMPLE = "sample"
BOOTSTRAP = "bootstrap"
COMPOSE = "compose"
TRAIN = "train"
EVALUATE = "evaluate"
TOKENS = "tokens"
DECIDE = "decide"
ROUND_PARTS = (AVERAGE, SCORE, SELECT, SAMPLE, BOOTSTRAP, COMPOSE, TRAIN, EVALUATE, TOKENS, DECIDE)

# Owners of a training or evaluation: the first part of a stage's name.
INITIAL = "initial"
BASELINE = "baseline"

# Files of a training: the folder of the policy, and its logged metrics, one JSON object a line.
POLICY = "policy"
METRICS = "metrics.jsonl"
REFERENCE = "reference.parquet"
REFERENCE_HELDOUT = "reference_heldout.parquet"

# Pairs and prompts: Arrow streams.
PAIRS = "pairs.arrow"
HELDOUT = "heldout.arrow"
PROMPTS = "prompts.arrow"
HELDOUT_PROMPTS = "heldout_prompts.arrow"
DEMONSTRATIONS = "demonstrations.arrow"
GENERATED = "generated.arrow"

# Tables.
MARGINS = "margins.parquet"
SELECTION = "selection.parquet"
CANDIDATES = "candidates.parquet"
REWARDS = "rewards.parquet"
QUERIED = "queried.parquet"
LABELS = "labels.parquet"
HELDOUT_REWARDS = "heldout_rewards.parquet"
TRAINING = "training.parquet"
SAMPLES = "samples.parquet"
VERDICTS = "verdicts.parquet"
REVIEW = "review.parquet"
TOKEN_RATIOS = "tokens.parquet"

# The columns of each table. ``log_ratio`` and ``score`` of samples exist only if they were measured.
COLUMNS: dict[str, tuple[str, ...]] = {
    MARGINS: ("example_id", "chosen_logp", "rejected_logp", "chosen_length", "rejected_length", "margin"),
    SELECTION: ("example_id", "margin", "rank", "kept", "reason", "disagreement"),
    CANDIDATES: ("prompt_id", "index", "text", "ids", "finished"),
    REWARDS: ("prompt_id", "index", "reward"),
    QUERIED: ("pair_id", "prompt_id", "rows"),
    LABELS: ("pair_id", "p"),
    HELDOUT_REWARDS: ("example_id", "rewards"),
    TRAINING: ("example_id", "origin", "margin", "used"),
    SAMPLES: ("prompt_id", "index", "text", "ids", "finished", "prompt", "logp", "log_ratio", "score"),
    VERDICTS: (
        "prompt_id",
        "rival",
        "first_better",
        "scores",
        "explanation",
        "error",
        "orders",
        "unreadable",
        "members",
        "usage",
    ),
    REVIEW: ("example_id", "margin", "rank", "kept", "reason", "fold", "p", "swapped"),
    TOKEN_RATIOS: ("example_id", "tokens", "ratios"),
    REFERENCE: ("example_id", "logps"),
    REFERENCE_HELDOUT: ("example_id", "logps"),
}

# Stages with pairs or decisions about them, and their files.
PAIR_TABLES: dict[str, tuple[str, ...]] = {
    DATA: (PAIRS,),
    CROSSFIT: (PAIRS,),
    SELECT: (SELECTION,),
    BOOTSTRAP: (GENERATED, SELECTION),
    COMPOSE: (TRAINING,),
    TOKENS: (TOKEN_RATIOS,),
}

# Keys of a line in METRICS; those of held-out pairs begin with HELDOUT_PREFIX.
STEP = "step"
LOSS = "loss"
LEARNING_RATE = "learning_rate"
TRAINING_ACCURACY = "rewards/accuracies"
TRAINING_MARGIN = "rewards/margins"
CHOSEN_REWARD = "rewards/chosen"
REJECTED_REWARD = "rewards/rejected"
CHOSEN_LOGP = "logps/chosen"
CHOSEN_LENGTH = "lengths/chosen"
REJECTED_LENGTH = "lengths/rejected"
HELDOUT_PREFIX = "eval_"
# Of reinforcement learning: means over the responses since the last line. ``RLHF_SPREAD``: standard deviation of the
# rewards of a prompt; ``RLHF_KL``: nats a response; ``RLHF_TRACKED``: prefix of a tracked score.
RLHF_REWARD = "rlhf/reward"
RLHF_SPREAD = "rlhf/reward_spread"
RLHF_KL = "rlhf/kl"
RLHF_LENGTH = "rlhf/length"
RLHF_UNFINISHED = "rlhf/unfinished"
RLHF_TRACKED = "rlhf/track/"

_ROUND = "round-"
# The first parts of stages in the order of a run; rounds come between the others and the baseline.
_ORDER = (WORLD, DATA, PRECISION, BASE, SFT, POLICIES, INITIAL, "crossfit", "round", BASELINE, RESULT)


def round_name(index: int) -> str:
    """The folder of a round; rounds are counted from 1."""
    return f"{_ROUND}{index}"


def round_stage(index: int, part: str) -> str:
    """The stage of a round: ``round_stage(2, SELECT)`` is ``round-2/select``."""
    return f"{round_name(index)}/{part}"


def round_of(stage: str) -> int | None:
    """The round of a stage or of a round's folder; None for the stages outside the rounds."""
    number = stage.partition("/")[0].removeprefix(_ROUND)
    return int(number) if stage.startswith(_ROUND) and number.isdigit() else None


def part_of(stage: str) -> str:
    """The last part of a stage's name: ``select`` of ``round-2/select``."""
    return stage.rpartition("/")[2]


def fold_stage(number: int) -> str:
    """The stage that trains the copy without the pairs of a fold; folds are counted from 0."""
    return f"crossfit/fold-{number + 1}"


def evaluation(owner: str) -> str:
    """The evaluation of ``INITIAL``, ``BASELINE`` or a round's folder."""
    return f"{owner}/{EVALUATE}"


def training(owner: str) -> str:
    """The training of ``SFT``, ``BASELINE`` or a round's folder."""
    return SFT if owner == SFT else f"{owner}/{TRAIN}"


def place(stage: str) -> tuple[int, int, int]:
    """Sort key that puts stages in the order of a run; unknown stages come last."""
    head, _, part = stage.partition("/")
    index = round_of(stage)
    first = "round" if index is not None else head
    known = _ORDER.index(first) if first in _ORDER else len(_ORDER)
    return known, index or 0, ROUND_PARTS.index(part) if part in ROUND_PARTS else 0
