"""Best-of-n sampling: the best of n responses to each prompt, by a scorer, a judge or an implicit reward."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seralign.config.best_of import BestOfConfig
from seralign.config.paths import expanded
from seralign.errors import ConfigError
from seralign.evaluation.best_of import Pairs, kl_bound, knockout, mean_win_rates, sizes, subset_means
from seralign.evaluation.implicit import ImplicitReward, implicit_reward
from seralign.evaluation.judges import Comparison, Judge, Verdict, make_judge
from seralign.evaluation.scorer import load_scorer
from seralign.evaluation.scores import StoredScorer
from seralign.evaluation.win_rates import check_decided, verdicts_on
from seralign.intervals import Interval, mean_interval
from seralign.pipeline.answers import Answered, sample_answers
from seralign.pipeline.asking import load_reader, make_speaker, read_file
from seralign.policy.identity import weights_digest
from seralign.policy.saved import saved_policy
from seralign.records import Candidate, Prompt
from seralign.runs.cache import LogpCache
from seralign.runs.files import disk_errors, partial_folder, write_atomic
from seralign.runs.results import Results
from seralign.sampling import params_of

MAKER = "seralign best-of"
_LABEL = "pairs of responses"


@dataclass(frozen=True)
class Choice:
    """The best response to each prompt, and the scores of all.

    Args:
        best: Index of the best response [P].
        scores: [P, N]; None for a knockout. NaN where there is no verdict.
        what: What the scores are, for people.
    """

    best: np.ndarray
    scores: np.ndarray | None
    what: str


@dataclass(frozen=True)
class Gain:
    """The best of ``n`` responses: the mean of its score over the prompts, and the KL bound in nats."""

    n: int
    kl_bound: float
    score: Interval


@dataclass(frozen=True)
class BestOfFigures:
    """Figures of best-of-n sampling.

    Args:
        prompts: Different prompts with responses.
        unanswered: Rows whose prompt could not be asked.
        unfinished: Share of the chosen responses that were cut at ``max_new_tokens``.
        repeated: Share of all responses that are equal to an earlier one to the same prompt.
        what: What the scores are, for people.
        gains: For 1, 2, 4, ... responses; empty for a knockout, which has no scores.
    """

    prompts: int
    unanswered: int
    unfinished: float
    repeated: float
    what: str
    gains: tuple[Gain, ...]


Questions = list[tuple[Prompt, list[Candidate]]]


def best_of(config: BestOfConfig) -> BestOfFigures:
    """Sample, choose, and write the best responses to ``config.out``. A command that was killed resumes.

    Raises:
        SeralignError: a model or the prompts cannot be read, no prompt can be asked, or the scorer or judge fails.
    """
    out = Path(expanded(config.out))
    part = out.with_name(out.name + ".partial")
    with disk_errors(out.parent), partial_folder(part, MAKER):
        policy = saved_policy(config.model, "result" if config.round is None else config.round)
        reader = load_reader(policy, system=config.system, plain=config.plain)
        speaker = make_speaker(policy, reader, config.sampling, "best-of")
        with closing(Results(part / "scores.sqlite")) as results:
            # All that can be refused is refused before anything is sampled.
            reward = None
            if config.reward is not None:
                reward = implicit_reward(config.reward, config.reference)
                reward.check_tokenizers(reader.tokenizer, reader.end_tokens, config.model, "reward", "reference")
            scorer = None if config.scorer is None else StoredScorer(load_scorer(config.scorer, "scorer"), results)
            judge = None
            if config.judge is not None:
                judge = make_judge(config.judge, config.judge_options, scorer, "judge", results)
            limit = None if policy.config is None or config.sampling.max_new_tokens else policy.config.answer_tokens
            answered = list(
                sample_answers(
                    speaker,
                    list(read_file(reader, config.prompts, "prompts")),
                    params_of(config.sampling, config.n, limit),
                    policy=weights_digest(policy.source),
                    seed=config.seed,
                    folder=part,
                )
            )
            questions = {one.prompt.prompt_id: (one.prompt, one.responses) for one in answered
                         if one.prompt is not None and one.responses}  # fmt: skip
            rows = list(questions.values())
            if judge is not None:
                choice = _by_judge(judge, config, rows, results)
            elif reward is not None:
                choice = _by_reward(reward, rows, part)
            else:
                assert scorer is not None
                choice = _by_scorer(scorer, rows)
        places = {prompt_id: row for row, prompt_id in enumerate(questions)}
        lines = "".join(json.dumps(_line(one, choice, places), ensure_ascii=False) + "\n" for one in answered)
        write_atomic(out, lambda path: path.write_text(lines, encoding="utf-8"))
        shutil.rmtree(part)
    return _figures(answered, rows, choice, config.n)


def _by_scorer(scorer: StoredScorer, rows: Questions) -> Choice:
    prompts = [prompt.text for prompt, responses in rows for _ in responses]
    found = scorer(prompts, [one.text for _, responses in rows for one in responses])
    return _highest(found.reshape(len(rows), -1), f"score by {scorer.scorer.name}")


def _by_reward(reward: ImplicitReward, rows: Questions, folder: Path) -> Choice:
    prompts = [prompt for prompt, responses in rows for _ in responses]
    with closing(LogpCache(folder / "logps.sqlite")) as cache:
        found = reward(prompts, [one for _, responses in rows for one in responses], cache)
    return _highest(found.reshape(len(rows), -1), f"implicit reward of {reward.policy.name} without beta, nats")


def _by_judge(judge: Judge, config: BestOfConfig, rows: Questions, results: Results) -> Choice:
    """The choice of a judge.

    Raises:
        ConfigError: a request failed (what was decided is stored), or there is no verdict on any pair.
    """
    texts = [[one.text for one in responses] for _, responses in rows]
    found: list[Verdict] = []

    def verdicts(pairs: Pairs) -> list[float | None]:
        asked = [Comparison(rows[row][0], texts[row][a], texts[row][b]) for row, a, b in pairs]
        new = verdicts_on(judge, asked, results, _LABEL)
        failed = [one.error for one in new if one.error is not None]
        if failed:
            raise ConfigError(
                f"judge: {len(failed)} of {len(asked)} comparisons failed ({failed[0]}); give the same command again: "
                "responses and verdicts so far are stored"
            )
        found.extend(new)
        return [verdict.first_better for verdict in new]

    if config.rule == "knockout":
        choice = Choice(knockout(texts, verdicts), None, f"knockout by {config.judge}")
    else:
        choice = _highest(mean_win_rates(texts, verdicts), f"mean win rate against the others by {config.judge}")
    check_decided(found, _LABEL, "judge")
    return choice


def _highest(found: np.ndarray, what: str) -> Choice:
    """The first response with the highest score; without any verdict, the first one."""
    return Choice(np.where(np.isnan(found), -np.inf, found).argmax(axis=1), found, what)


def _line(one: Answered, choice: Choice, places: dict[str, int]) -> dict[str, Any]:
    """A line of ``seralign sample`` with the best response alone, and all of them as ``candidates``."""
    line = one.to_dict()
    responses = line.pop("responses")
    if not responses:
        return line | {"responses": []}
    assert one.prompt is not None
    row = places[one.prompt.prompt_id]
    if choice.scores is not None:
        scores = choice.scores[row].tolist()
        responses = [each | {"score": None if np.isnan(score) else score}
                     for each, score in zip(responses, scores, strict=True)]  # fmt: skip
    best = int(choice.best[row])
    return line | {"responses": [responses[best]], "best": best, "candidates": responses}


def _figures(answered: Sequence[Answered], rows: Questions, choice: Choice, n: int) -> BestOfFigures:
    gains: list[Gain] = []
    if choice.scores is not None:
        whole = choice.scores[~np.isnan(choice.scores).any(axis=1)]
        for k, means in zip(sizes(n), subset_means(whole, sizes(n)).T, strict=True):
            score = mean_interval(means)
            if score is not None:
                gains.append(Gain(k, kl_bound(k), score))
    chosen = [responses[best] for (_, responses), best in zip(rows, choice.best.tolist(), strict=True)]
    different = sum(len({one.text for one in responses}) for _, responses in rows)
    return BestOfFigures(
        prompts=len(rows),
        unanswered=sum(one.left_out is not None for one in answered),
        unfinished=float(np.mean([not one.finished for one in chosen])),
        repeated=1 - different / (len(rows) * n),
        what=choice.what,
        gains=tuple(gains),
    )
