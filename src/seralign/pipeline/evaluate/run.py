"""Runs an evaluation: outputs, comparisons, figures, and the files that show them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from seralign.config.evaluate import EvaluateConfig, EvaluatedConfig, check_baseline
from seralign.config.paths import expanded
from seralign.errors import ConfigError
from seralign.evaluation.judges import SCORER, Judge, make_judge
from seralign.evaluation.scorer import ScoreFunction, Scorer, load_scorer, make_scorer
from seralign.evaluation.scores import StoredScorer
from seralign.pipeline.evaluate.comparisons import Pairing, compare_all, write_comparisons
from seralign.pipeline.evaluate.export import export
from seralign.pipeline.evaluate.figures import (
    controlled_rates,
    cost_figures,
    pair_figures,
    panel_figures,
    policy_figures,
    rating_figures,
)
from seralign.pipeline.evaluate.files import file_outputs
from seralign.pipeline.evaluate.folder import RESULTS, open_folder, write_outputs
from seralign.pipeline.evaluate.outputs import Outputs, checked
from seralign.pipeline.evaluate.page import configuration_table, shown_prompts
from seralign.pipeline.evaluate.prompts import Question, prompt_reading, read_questions
from seralign.pipeline.evaluate.sampled import expand_rounds, sampled_outputs
from seralign.pipeline.evaluate.served import served_outputs
from seralign.progress import say
from seralign.report.evaluation_page import write_evaluation
from seralign.runs.evaluated import EvaluationFigures
from seralign.runs.files import disk_errors, locked, write_json
from seralign.runs.results import Results

PAGE = "report.html"
# The store of outputs and verdicts, where ``sample_answers`` puts it.
STORE = "results.sqlite"


@dataclass(frozen=True)
class EvaluationResult:
    """A finished evaluation: its folder and its figures."""

    folder: Path
    figures: EvaluationFigures


def evaluate(config: EvaluateConfig, scorer: ScoreFunction | None = None, *, replay: bool = False) -> EvaluationResult:
    """Evaluate policies: get their outputs, let the judge compare them, and compute figures.

    Outputs and verdicts are stored as they come. An evaluation that is killed and started again asks for nothing twice,
    and ends with the same result.

    Args:
        config: The evaluation.
        scorer: Scores responses: (prompts, responses) to one finite number each, higher is better. Replaces
            ``scorer`` of the configuration.
        replay: Use stored verdicts only. The judge is not asked, and its server need not run.

    Raises:
        SeralignError: a user error in configuration, data, a model, a server, the judge or the folder; or with
            ``replay``, a comparison has no stored verdict.
    """
    root = Path(expanded(config.out))
    policies = expand_rounds(config.policies)
    if config.baseline is not None:
        check_baseline(config.baseline, list(policies))
    if len(policies) < 2:
        raise ConfigError(f"policies: two policies are needed to compare, got {', '.join(policies)}")
    shared = root / STORE if config.store is None else _store(config.store)
    with (
        disk_errors(root),
        locked(root),
        closing(Results(root / STORE)) as results,
        closing(Results(shared)) as verdicts,
    ):
        open_folder(root, config)
        judge = _judge(config, scorer, verdicts)
        questions = read_questions(config.prompts, prompt_reading(config))
        outputs = [_outputs(name, policy, config, questions, root, results) for name, policy in policies.items()]
        write_outputs(root, questions, outputs)
        pairings = compare_all(judge, questions, outputs, config.baseline, verdicts, replay)
        write_comparisons(root, pairings)
        figures = _figures(config, judge, questions, outputs, pairings)
        export(root, pairings, outputs, questions, judge.identity)
        shown = shown_prompts(questions, outputs, pairings)
        write_evaluation(figures, shown, configuration_table(config), root.name, root / PAGE)
        write_json(root / RESULTS, figures.to_dict())
        return EvaluationResult(root, figures)


def _store(given: str) -> Path:
    """A file of verdicts that may be shared, checked before anything is sampled.

    Raises:
        ConfigError: it is a folder, or below a file.
        StoreError: it is another file.
    """
    path = Path(expanded(given))
    if path.is_dir() or given.endswith("/"):
        raise ConfigError(f"store: {given} is a folder; give the path of a file, such as {path / STORE}")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise ConfigError(f"store: {above} is a file, so there can be no {path}; give another path")
    if path.exists():
        with closing(Results(path)) as stored:
            list(stored.get([b""]))
    return path


def _judge(config: EvaluateConfig, given: ScoreFunction | None, results: Results) -> Judge:
    scorer: Scorer | None = None
    if given is not None:
        scorer = make_scorer(given, getattr(given, "__qualname__", repr(given)), "scorer")
    elif config.scorer is not None:
        scorer = load_scorer(config.scorer, "scorer")
    stored = None if scorer is None else StoredScorer(scorer, results)
    return make_judge(config.judge or SCORER, config.judge_options, stored, "judge", results)


def _outputs(
    name: str,
    policy: EvaluatedConfig,
    config: EvaluateConfig,
    questions: list[Question],
    root: Path,
    results: Results,
) -> Outputs:
    if policy.outputs is not None:
        found = file_outputs(name, policy, questions, prompt_reading(config), config.prompts.limit is not None)
    elif policy.server is not None:
        found = served_outputs(name, policy, config, questions, results)
    else:
        found = sampled_outputs(name, policy, config, questions, root)
    if left_out := sum(reason is not None for reason in found.reasons):
        reason = next(reason for reason in found.reasons if reason is not None)
        say(f"warning: {name} has no output for {left_out} of {len(questions)} prompts ({reason}); not compared")
    return checked(found)


def _figures(
    config: EvaluateConfig, judge: Judge, questions: list[Question], outputs: list[Outputs], pairings: list[Pairing]
) -> EvaluationFigures:
    controlled = controlled_rates(pairings, config.seed) if config.length_control else [None] * len(pairings)
    all_with_all = config.baseline is None and len(outputs) > 2
    return EvaluationFigures(
        judge=config.judge or SCORER,
        judge_identity=judge.identity,
        prompts=len(questions),
        baseline=config.baseline,
        policies=tuple(policy_figures(one) for one in outputs),
        pairs=tuple(pair_figures(*one) for one in zip(pairings, controlled, strict=True)),
        ratings=rating_figures(pairings, config.seed) if all_with_all else (),
        cost=cost_figures(pairings, config.seed),
        panel=panel_figures(judge, pairings),
    )
