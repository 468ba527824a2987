"""Templates of judges: what is asked, and how the answer is read. They are YAML files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from seralign.checks import positive, require
from seralign.config.paths import expanded
from seralign.config.values import build
from seralign.config.yaml12 import read_yaml
from seralign.errors import ConfigError

_SHIPPED = Path(__file__).parent / "prompts"
# A response may contain what looks like a placeholder, so all are replaced in one pass over the template.
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
_ROLES = ("system", "user", "assistant")
_COMPARE, _GRADE = {"prompt", "first", "second"}, {"prompt", "response"}


@dataclass(frozen=True)
class Template:
    """What a judge is asked, and how its answer is read.

    Args:
        messages: The conversation, each message with a role and its content. Placeholders: ``{prompt}``, and
            ``{first}`` and ``{second}``, the two responses in the order in which they are shown; or ``{response}``, if
            each response is graded alone.
        pattern: Regular expression whose first group is the verdict or the grade. All its matches must agree. Without
            a pattern, the probabilities of the answer's first token are read.
        labels: What each verdict, or each first token, means: the probability that the response that is shown first is
            better.
        scale: Lowest and highest grade of a response, in place of ``labels``.
        min_probability: Of a template without a pattern: the least probability of all labels together. A judge that
            would rather say something else has no verdict. Default: 0.5.
        max_tokens: Maximum number of tokens of an answer.
        temperature: Sampling temperature.
    """

    messages: list[dict[str, str]]
    pattern: str | None = None
    labels: dict[str, float] | None = None
    scale: list[float] | None = None
    min_probability: float | None = None
    max_tokens: int = 1024
    temperature: float = 0.0

    def __post_init__(self) -> None:
        for place, message in enumerate(self.messages):
            fits = set(message) == {"role", "content"} and message["role"] in _ROLES
            require(fits, f"messages[{place}]", f"a role ({', '.join(_ROLES)}) and its content", message)
        positive(self.max_tokens, "max_tokens")
        require(self.temperature >= 0, "temperature", "at least 0", self.temperature)
        if (self.labels is None) == (self.scale is None):
            raise ConfigError("labels or scale must be set: labels to compare two responses, scale to grade one")
        if self.labels is not None:
            fits = len(self.labels) >= 2 and all(0.0 <= value <= 1.0 for value in self.labels.values())
            require(fits, "labels", "at least two labels with numbers in [0, 1]", self.labels)
        if self.scale is not None:
            fits = len(self.scale) == 2 and self.scale[0] < self.scale[1]
            require(fits, "scale", "the lowest and the highest grade", self.scale)
            require(self.pattern is not None, "pattern", "set, to read the grade", self.pattern)
        if self.min_probability is not None:
            fits = 0.0 <= self.min_probability <= 1.0
            require(fits, "min_probability", "between 0 and 1", self.min_probability)
            if self.pattern is not None:
                raise ConfigError("min_probability is for templates without a pattern; remove one of them")
        if self.pattern is not None:
            _check_pattern(self.pattern)
        found = {name for message in self.messages for name in _PLACEHOLDER.findall(message["content"])}
        needed = _COMPARE if self.scale is None else _GRADE
        if found != needed:
            names = ", ".join(f"{{{name}}}" for name in sorted(found ^ needed))
            what = ", ".join(f"{{{name}}}" for name in sorted(needed))
            raise ConfigError(f"messages must have the placeholders {what} and no others; wrong or missing: {names}")

    @property
    def by_logprobs(self) -> bool:
        """Whether the verdict is the probability of the first token."""
        return self.pattern is None

    @property
    def least_probability(self) -> float:
        """``min_probability``, or its default."""
        return 0.5 if self.min_probability is None else self.min_probability

    @property
    def digest(self) -> str:
        """Identity of the whole template."""
        whole = asdict(self) | {"min_probability": self.least_probability if self.by_logprobs else None}
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]

    def fill(self, texts: Mapping[str, str]) -> list[dict[str, str]]:
        """The messages with the texts in place of the placeholders."""
        return [
            {**message, "content": _PLACEHOLDER.sub(lambda found: texts[found[1]], message["content"])}
            for message in self.messages
        ]


def load_template(name: str, key: str) -> Template:
    """The template of that name, or of a file.

    Args:
        name: The name of a template of this package, or a path that ends in ``.yaml``.
        key: The configuration key that names it, for messages.

    Raises:
        ConfigError: there is no such template, or it is wrong; names the file and the key in it.
    """
    shipped = {path.stem: path for path in sorted(_SHIPPED.glob("*.yaml"))}
    if name not in shipped and not name.endswith((".yaml", ".yml")):
        raise ConfigError(f"{key} must be one of {', '.join(shipped)}, or the path of a YAML file, got {name!r}")
    path = shipped.get(name) or Path(expanded(name))
    if not path.is_file():
        raise ConfigError(f"{key}: there is no file {path}")
    try:
        return build(Template, read_yaml(path))
    except ConfigError as error:
        raise ConfigError(f"{key}: {path}: {str(error).removeprefix(f'{path}: ')}") from None


def _check_pattern(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ConfigError(f"pattern is no regular expression: {error}") from None
    require(groups >= 1, "pattern", "a regular expression with a group for the verdict", pattern)
