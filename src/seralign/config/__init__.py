"""The configuration of a run: frozen dataclasses, read from YAML with dotted overrides. Imports no torch."""

from seralign.config.bootstrap import BootstrapConfig
from seralign.config.data import ConvertConfig, DataConfig, OwnWorldConfig, SourceConfig, WorldConfig
from seralign.config.flags import brief_parser, config_parser
from seralign.config.load import load_config, parse_config, to_dict, to_yaml
from seralign.config.policy import LoraConfig, PolicyConfig, ReferenceConfig
from seralign.config.rlhf import RlhfConfig
from seralign.config.rounds import (
    CrossfitConfig,
    EvaluationConfig,
    ScoringConfig,
    SelectionConfig,
)
from seralign.config.run import RunConfig
from seralign.config.sampling import LOCAL, SamplingConfig
from seralign.config.server import PricesConfig, ServerConfig
from seralign.config.stop import StopConfig
from seralign.config.training import TrainingConfig

__all__ = [
    "LOCAL",
    "BootstrapConfig",
    "ConvertConfig",
    "CrossfitConfig",
    "DataConfig",
    "EvaluationConfig",
    "LoraConfig",
    "OwnWorldConfig",
    "PolicyConfig",
    "PricesConfig",
    "ReferenceConfig",
    "RlhfConfig",
    "RunConfig",
    "SamplingConfig",
    "ScoringConfig",
    "SelectionConfig",
    "ServerConfig",
    "SourceConfig",
    "StopConfig",
    "TrainingConfig",
    "WorldConfig",
    "brief_parser",
    "config_parser",
    "load_config",
    "parse_config",
    "to_dict",
    "to_yaml",
]
