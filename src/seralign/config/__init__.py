"""The configuration of a run: frozen dataclasses, read from YAML with dotted overrides. Imports no torch."""

from seralign.config.load import config_parser, load_config, parse_config, to_dict, to_yaml
from seralign.config.run import (
    BootstrapConfig,
    DataConfig,
    EvaluationConfig,
    LoraConfig,
    ObjectiveConfig,
    PolicyConfig,
    ReferenceConfig,
    RunConfig,
    ScoringConfig,
    SelectionConfig,
    SourceConfig,
    StopConfig,
    TrainingConfig,
    WorldConfig,
)

__all__ = [
    "BootstrapConfig",
    "DataConfig",
    "EvaluationConfig",
    "LoraConfig",
    "ObjectiveConfig",
    "PolicyConfig",
    "ReferenceConfig",
    "RunConfig",
    "ScoringConfig",
    "SelectionConfig",
    "SourceConfig",
    "StopConfig",
    "TrainingConfig",
    "WorldConfig",
    "config_parser",
    "load_config",
    "parse_config",
    "to_dict",
    "to_yaml",
]
