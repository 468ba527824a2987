"""What each signal says of hand-made rows and responses."""

from __future__ import annotations

from typing import Any

import pytest

from seralign.errors import ConfigError, DataError
from seralign.preferences.groups import Group, text_of
from seralign.preferences.opinions import Ballot, Compared, Scored
from seralign.preferences.signals.base import Asked, NoValue
from seralign.preferences.signals.comparison import Comparison
from seralign.preferences.signals.compiles import Compiles
from seralign.preferences.signals.error import Error
from seralign.preferences.signals.fenced import fenced
from seralign.preferences.signals.form import Format
from seralign.preferences.signals.json_text import Json
from seralign.preferences.signals.length import Length
from seralign.preferences.signals.match import Match
from seralign.preferences.signals.ranking import Ranking
from seralign.preferences.signals.ratings import Ratings
from seralign.preferences.signals.regex_match import Regex
from seralign.preferences.signals.votes import Votes


def group(count: int = 3, each: tuple[dict[str, Any], ...] = (), **columns: Any) -> Group:
    responses = tuple(f"answer {number}" for number in range(count))
    return Group("raw.jsonl row 7", "question", responses, {"prompt": "question", **columns}, each)


def asked(response: str, **row: Any) -> Asked:
    return Asked("question", response, row, "raw.jsonl row 7")


# --- ratings


def test_ratings_are_means_and_null_is_no_rating() -> None:
    assert Ratings().read(group(ratings=[True, False, [True, False]])) == Scored((1.0, 0.0, 0.5))
    found = Ratings().read(group(ratings=[4, [1, 2, None], None]))
    assert found == Scored((4.0, 1.5, None), ("no rating",))
    assert Ratings(lower_is_better=True).read(group(ratings=[4, "2.5", 0])) == Scored((-4.0, -2.5, 0.0))


def test_ratings_are_read_from_columns_and_from_the_rows_of_responses() -> None:
    assert Ratings(column=["a", "b"]).read(group(2, a=1, b="2")) == Scored((1.0, 2.0))
    rows = ({"score": 1}, {"score": 3}, {})
    assert Ratings(column="score").read(group(3, each=rows)) == Scored((1.0, 3.0, None), ("no rating",))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"ratings": [1, 2]}, r"raw.jsonl row 7: ratings has 2 values, and there are 3 responses"),
        ({"ratings": [1, 2, float("nan")]}, "ratings must be a finite number or null, got nan"),
        ({"ratings": [1, 2, {"x": 1}]}, "ratings must be a finite number or null, got {'x': 1}"),
        ({"ratings": [1, 2, "good"]}, "ratings must be a finite number or null, got 'good'"),
        ({"ratings": 3}, "ratings must be a list with a value for each of 3 responses, got 3"),
        ({"score": 3}, "there is no column 'ratings'; the columns are prompt, score"),
    ],
)
def test_wrong_ratings_name_the_row(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Ratings().read(group(**columns))


# --- rankings


@pytest.mark.parametrize("ranks", [[1, 2, 3], [2, 1, 1], [2, 2, 1], [1, 1, 3], [1, 2, 2], [1, 1, 1]])
def test_rankings_dense_or_with_skipped_ranks_after_a_tie(ranks: list[int]) -> None:
    assert Ranking().read(group(ranks=ranks)) == Scored(tuple(-float(rank) for rank in ranks))


def test_a_response_without_a_rank() -> None:
    assert Ranking().read(group(ranks=[None, 2, 1])) == Scored((None, -2.0, -1.0), ("not ranked",))


@pytest.mark.parametrize("ranks", [[1, 2, 4], [0, 1, 2], [2, 3, 4], [1.5, 2, 3], [1, 3, 3], [1, 1, 4], [-1, 1, 2]])
def test_rankings_with_holes_are_refused(ranks: list[float]) -> None:
    with pytest.raises(DataError, match=r"row 7: ranks must be whole numbers from 1 without holes, got "):
        Ranking().read(group(ranks=ranks))


# --- comparisons and votes


def test_a_comparison_prefers_one_response_to_each_of_the_others() -> None:
    assert Comparison().read(group(preferred=1)) == Compared((Ballot(1, 0, 1.0), Ballot(1, 2, 1.0)))
    named = Comparison(column="winner", choices=["A", "B"], p=0.9)
    assert named.read(group(2, winner="B")) == Compared((Ballot(1, 0, 0.9),))
    assert named.read(group(2, winner="tie")) == Compared((), ("a tie",))
    with pytest.raises(DataError, match="row 7: winner must be one of A, B, or tie, got 'C'"):
        named.read(group(2, winner="C"))
    with pytest.raises(DataError, match="row 7: preferred must name one of 3 responses, 0 to 2, or be null, got 3"):
        Comparison().read(group(preferred=3))


def test_counts_of_votes() -> None:
    found = Votes().read(group(votes=[3, 1, 0]))
    assert found.ballots == (Ballot(0, 1, 0.75, 4.0), Ballot(0, 2, 1.0, 3.0), Ballot(1, 2, 1.0, 1.0))
    assert Votes().read(group(votes=[0, 0, 0])) == Compared((), ("no votes",))


@pytest.mark.parametrize(
    "columns",
    [
        {"votes": [{"annotator": "ann", "choice": 1}, {"annotator": "bob", "choice": "0"}]},
        {"votes": {"ann": 1, "bob": 0}},
        {"votes": [{"annotator": "ann", "better": 1, "worse": 0}, {"annotator": "bob", "better": 0, "worse": 1}]},
    ],
)
def test_votes_of_named_annotators(columns: dict[str, Any]) -> None:
    ballots = Votes(method="dawid_skene").read(group(2, **columns)).ballots
    assert ballots == (Ballot(1, 0, 1.0, 1.0, "ann"), Ballot(0, 1, 1.0, 1.0, "bob"))


def test_a_column_for_each_annotator() -> None:
    votes = Votes(annotators=["ann", "bob"], choices=["A", "B"])
    found = votes.read(group(2, ann="A", bob="")).ballots
    assert found == (Ballot(0, 1, 1.0, 1.0, "ann"), Ballot(0, 1, 0.5, 1.0, "bob"))


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        ([1, -2, 0], "row 7: votes must be at least 0, got -2"),
        ([{"annotator": "ann", "choice": 5}], "a choice must name one of 3 responses, 0 to 2, or be null, got 5"),
        (
            [{"annotator": "ann", "better": 1, "worse": 1}],
            "a vote has better 1 and worse 1; they must be two responses",
        ),
        ([{"annotator": "ann"}], "a vote needs choice, or better and worse; it has annotator"),
        ([{"choice": 1}, 3], "a vote must be an object"),
    ],
)
def test_wrong_votes_name_the_row(votes: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Votes().read(group(votes=votes))


def test_reliability_needs_annotators() -> None:
    with pytest.raises(DataError, match="method: dawid_skene needs the annotator of each vote"):
        Votes(method="dawid_skene").read(group(votes=[1, 2, 0]))
    with pytest.raises(ConfigError, match=r"prior must be above 0 with method: bradley_terry, got 0"):
        Votes(method="bradley_terry", prior=0.0)


# --- checks


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ('{"x": 1}', 1.0),
        (' [1, "two", null]\n', 1.0),
        ('{"x": 1} and more', 0.0),
        ("{'x': 1}", 0.0),
        ("NaN", 0.0),
        ("", 0.0),
        ("[" * 100_000, 0.0),
        ('```json\n{"x": 1}\n```', 0.0),
    ],
)
def test_json_parses(text: str, passes: float) -> None:
    assert Json().check(asked(text)) == passes


def test_json_in_a_fence_and_against_a_schema() -> None:
    schema = {"type": "object", "required": ["x"], "properties": {"x": {"type": "integer", "minimum": 0}}}
    check = Json(schema=schema, fence=True)
    assert check.check(asked('Here:\n```json\n{"x": 1}\n```\nDone.')) == 1.0
    assert check.check(asked('{"x": -1}')) == 0.0
    assert check.check(asked('{"y": 1}')) == 0.0
    with pytest.raises(ConfigError, match="schema is not a JSON schema: 'nothing' is not valid"):
        Json(schema={"type": "nothing"})
    with pytest.raises(ConfigError, match=r"schema: no/such.json cannot be read"):
        Json(schema="no/such.json")


def test_a_schema_is_never_loaded_from_elsewhere() -> None:
    check = Json(schema={"$ref": "https://example.com/schema.json"})
    with pytest.raises(ConfigError, match=r"schema: .*example.com/schema.json.* is not in the schema"):
        check.check(asked("1"))


def test_regular_expressions() -> None:
    assert Regex(pattern=r"\d+ apples").check(asked("I have 12 apples.")) == 1.0
    assert Regex(pattern=r"\d+ apples", full=True).check(asked("I have 12 apples.")) == 0.0
    assert Regex(pattern="sorry", absent=True).check(asked("I am sorry")) == 0.0
    with pytest.raises(ConfigError, match="pattern is not a regular expression: missing"):
        Regex(pattern="(")


def test_a_regular_expression_that_backtracks_for_ever_is_stopped() -> None:
    check = Regex(pattern="(a+)+b", seconds=0.1)
    with pytest.raises(NoValue, match=r"the pattern took longer than 0.1 s"):
        check.check(asked("a" * 5000 + "c"))


def test_lengths_include_their_bounds() -> None:
    assert [Length(min=2, max=3).check(asked(text)) for text in ("one", "a b", "a b c", "a b c d")] == [0, 1, 1, 0]
    assert Length(max=3, unit="characters").check(asked("äöü")) == 1.0
    assert Length(min=2, unit="lines").check(asked("one\n\n")) == 0.0
    with pytest.raises(ConfigError, match="min is missing: set min, max or both"):
        Length()
    with pytest.raises(ConfigError, match="max must be at least min = 3, got 2"):
        Length(min=3, max=2)


@pytest.mark.parametrize(
    ("check", "text", "passes"),
    [
        (Format(count="bullets", min=3, max=3), "List:\n- a\n* b\n  + c\n", 1.0),
        (Format(count="bullets", min=3, max=3), "- a\n- b\n---\n-c\n", 0.0),
        (Format(count="numbered", min=2), "1. a\n2) b", 1.0),
        (Format(count="numbered", min=2), "In 1999. a\n2) b", 0.0),
        (Format(count="headings", max=1), "# a\ntext # no\n## b", 0.0),
        (Format(count="paragraphs", min=2, max=2), "\n\na\nb\n \nc\n", 1.0),
        (Format(starts_with="Answer:", ends_with="."), "  Answer: yes.\n", 1.0),
        (Format(includes=["yes", "no"]), "yes", 0.0),
        (Format(excludes=["maybe"]), "yes, maybe", 0.0),
    ],
)
def test_formats(check: Format, text: str, passes: float) -> None:
    assert check.check(asked(text)) == passes


def test_a_format_without_a_condition_is_refused() -> None:
    with pytest.raises(ConfigError, match="count is missing"):
        Format()
    with pytest.raises(ConfigError, match="count is missing: what min and max are numbers of"):
        Format(min=1, includes=["x"])


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("def add(a, b):\n    return a + b", 1.0),
        ("Sure:\n```python\nx = 1\n```\nThat is it.", 1.0),
        ("Sure, here it is: x = 1", 0.0),
        ("x = '\\d'", 1.0),  # only a warning
        ("\0", 0.0),
        ("  \n", 0.0),
        ("(" * 5000 + ")" * 5000, 0.0),
    ],
)
def test_code_compiles(text: str, passes: float) -> None:
    assert Compiles().check(asked(text)) == passes


def test_code_that_compiles_is_not_run(tmp_path: Any) -> None:
    made = tmp_path / "made"
    assert Compiles().check(asked(f"open({str(made)!r}, 'w')")) == 1.0
    assert not made.exists()


def test_the_last_fenced_block_is_the_answer() -> None:
    assert fenced("```\na\n```\ntext\n~~~py\nb\n~~~\n") == "b\n"
    assert fenced("no block") == "no block"
    assert fenced("```\nnot closed") == "```\nnot closed"


def test_classification() -> None:
    check = Match(target="label", pattern=r"sentiment: (\w+)")
    assert check.check(asked("The sentiment: Positive", label="positive")) == 1.0
    assert check.check(asked("sentiment: good, no, sentiment: bad", label=["bad", "negative"])) == 1.0
    assert check.check(asked("positive", label="positive")) == 0.0
    assert Match(ignore_case=False).check(asked(" Yes\n", target="yes")) == 0.0
    assert Match().check(asked("42", target=42)) == 1.0
    with pytest.raises(DataError, match="row 7: there is no column 'target'; the columns are label"):
        Match().check(asked("yes", label="yes"))


def test_regression() -> None:
    assert Error().check(asked("It was 1 or 1,250.5 metres", target=1250)) == -0.5
    assert Error(relative=True).check(asked("-3", target=-4)) == -0.25
    assert Error(pattern=r"about (\S+) km").check(asked("about 5 km, 9 h", target="4")) == -1.0
    with pytest.raises(NoValue, match="no number in the response"):
        Error().check(asked("I do not know", target=3))
    with pytest.raises(NoValue, match="no number in the response"):
        Error().check(asked("1e999", target=3))
    with pytest.raises(DataError, match="row 7: target must be a finite number, got 'many'"):
        Error().check(asked("1", target="many"))
    with pytest.raises(DataError, match=r"target must be a finite number other than 0 \(relative: true\), got 0"):
        Error(relative=True).check(asked("1", target=0))


def test_texts_of_conversations() -> None:
    assert text_of([{"role": "user", "content": "Hi"}]) == "Hi"
    assert text_of({"from": "gpt", "value": "Hello"}) == "Hello"
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    assert text_of(chat) == "system: Be brief.\n\nuser: Hi"
    with pytest.raises(ValueError, match=r"text or messages are needed, got \[1, 2\]"):
        text_of([1, 2])
