"""All targets by name."""

from fuzz.configurations import CONFIGURATIONS
from fuzz.files import FILES
from fuzz.rows import ROWS
from fuzz.runs import RUNS
from fuzz.target import Target
from fuzz.templates import TEMPLATES_TARGET

TARGETS: dict[str, Target] = {target.name: target for target in (ROWS, FILES, CONFIGURATIONS, TEMPLATES_TARGET, RUNS)}
