"""What a judge may spend, and what it has spent."""

from __future__ import annotations

from seralign.errors import ConfigError
from seralign.evaluation.judges.options import ServerJudgeOptions
from seralign.servers.usage import Usage


class Budget:
    """Counts what a judge spends in this process, against its budget.

    Args:
        options: The options of the judge, with its budget.
        section: Their configuration section, for messages.
    """

    def __init__(self, options: ServerJudgeOptions, section: str) -> None:
        self._options, self._section = options, section
        self._under_way = 0
        self.spent = Usage()

    def asked(self) -> None:
        """A request is sent."""
        self._under_way += 1

    def returned(self, usage: Usage | None) -> None:
        """A request is answered; None if it failed.

        Raises:
            ConfigError: there is a budget, and the server does not report the tokens of a request.
        """
        self._under_way -= 1
        if usage is None:
            return
        limit = self._limit()
        if usage.unreported and limit is not None:
            raise ConfigError(
                f"{self._section}.{limit[0]}: {self._options.server.url} does not report the tokens of its answers, so "
                "a budget cannot be kept; remove it"
            )
        self.spent += usage

    @property
    def is_spent(self) -> bool:
        """Whether nothing more may be asked. A request under way counts as much as the answered ones on average."""
        ahead = 1.0 + self._under_way / max(1, self.spent.requests)
        limit = self._limit()
        return limit is not None and limit[1] * ahead >= limit[2]

    def error(self, decided: int, comparisons: int) -> ConfigError:
        """The error that ends the work: how many comparisons are decided, and how to resume."""
        limit = self._limit()
        assert limit is not None
        name, spent, most = limit
        return ConfigError(
            f"{self._section}.{name}: the budget is spent, {spent:,.6g} of {most:,.6g} in {self.spent.requests} "
            f"requests; of {comparisons} open comparisons, {decided} are decided and stored; raise it, or give "
            "the same command again to spend as much once more"
        )

    def note(self) -> str:
        """What was spent, for a line of progress."""
        money = "" if self.spent.cost is None else f", cost {self.spent.cost:,.4g}"
        return f"{self.spent.tokens:,} tokens{money}"

    def _limit(self) -> tuple[str, float, float] | None:
        """The budget that is closest to its end: its key, what is spent of it, and its size."""
        options, limits = self._options, []
        if options.max_tokens_spent is not None:
            limits.append(("max_tokens_spent", float(self.spent.tokens), float(options.max_tokens_spent)))
        if options.max_cost is not None:
            limits.append(("max_cost", self.spent.cost or 0.0, options.max_cost))
        return max(limits, key=lambda limit: limit[1] / limit[2], default=None)
