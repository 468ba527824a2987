"""Every name of a run's files, columns, keys and values that the comparison reads, with its names in other revisions.

A change that renames one adds the new name here, and keeps the old one while BASE has it. Facts are compared under the
first name of each list, so two trees with different names are compared by what the names stand for.
"""

from __future__ import annotations

# The file that makes a folder a finished stage, and the key of its figures.
RECORD = ("stage.json",)
FIGURES_KEY = ("figures",)

# Parts of a stage's name. A part that is not listed, such as round-2, is its own name.
STAGE_PARTS = (
    ("data",),
    ("sft",),
    ("initial",),
    ("crossfit",),
    ("review",),
    ("baseline",),
    ("train",),
    ("evaluate",),
    ("score",),
    ("select",),
    ("sample",),
    ("bootstrap",),
    ("compose",),
    ("decide",),
    ("result",),
)

# Columns that name a row: of an example, of a prompt, and the number of a response among those to a prompt.
EXAMPLE_ID = ("pair_id", "example_id")
PROMPT_ID = ("prompt_id",)
RESPONSE_INDEX = ("index",)
# What the ids of an example and of a prompt stand for. Ids are replaced by a digest of these, so that a revision may
# make its ids in another way: the prompt, and the responses in columns of their own or in one column of lists.
EXAMPLE_PROMPT = ("prompt_ids",)
EXAMPLE_RESPONSES = (("chosen_ids", "rejected_ids"), ("response_ids",), ("responses_ids",))
# The label of a pair: a column of its own, or the first of the probabilities of both responses.
LABEL = ("p",)
PREFERENCE = ("preference",)
PROMPT_TOKENS = ("ids", "prompt_ids")

# Columns that are compared, row by row, in whatever file of a stage they are.
SELECTION_COLUMNS = (("kept",), ("reason",), ("rank",), ("used",), ("origin",), ("fold",), ("swapped",))
NUMBER_COLUMNS = (("margin",), ("reward",), ("p",), ("disagreement",), ("logp",), ("log_ratio",), ("score",))
TEXT_COLUMNS = (("text",), ("finished",))
# Values of the columns of a selection that have had other names.
VALUES: tuple[tuple[str, ...], ...] = ()

# Keys of the lines that a training logs; a `/` parts a key, and each part may have had another name.
METRICS_SUFFIX = ".jsonl"
METRIC_STEP = ("step",)
METRIC_PARTS = (
    ("loss",),
    ("eval_loss",),
    ("grad_norm",),
    ("learning_rate",),
    ("epoch",),
    ("margins",),
    ("eval_margins",),
    ("rewards",),
    ("eval_rewards",),
    ("logps",),
    ("eval_logps",),
    ("lengths",),
    ("eval_lengths",),
    ("chosen",),
    ("rejected",),
    ("accuracies",),
)

# Figures of the stages' records, by their dotted path; `*` stands for any one part, such as the name of a policy.
FIGURES = (
    ("score.mean",),
    ("score.low",),
    ("score.high",),
    ("win_rates.*.mean",),
    ("win_rates.*.low",),
    ("win_rates.*.high",),
    ("win_rates.*.*.mean",),
    ("kl.mean",),
    ("length",),
    ("distinct_2",),
    ("repetition",),
    ("unfinished",),
    ("heldout_accuracy.mean",),
    ("heldout_margin",),
    ("margin_length_correlation",),
    ("margin_mean",),
    ("margin_mean_kept",),
    ("margin_smallest_kept",),
    ("length_slope",),
    ("length_difference",),
    ("similarity_kept",),
    ("pairs",),
    ("kept",),
    ("left_out.*",),
    ("offline",),
    ("generated",),
    ("share",),
    ("scale",),
    ("accuracy",),
    ("certainty",),
    ("steps",),
    ("stop",),
    ("best_round",),
    ("policy",),
)
