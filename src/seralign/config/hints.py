"""Messages about unknown keys: which key was probably meant, with its whole path."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from seralign.config.fields import all_keys, dataclass_of, value_of
from seralign.config.run import RunConfig

# Our keys, and the names that other tools (TRL, LLaMA-Factory, axolotl) use for them.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "out": ("output_dir", "out_dir", "output", "run_dir", "save_dir"),
    "seed": ("random_seed", "data_seed", "random_state"),
    "rounds": ("num_rounds", "iterations", "num_iterations"),
    "policy.model": ("model_name_or_path", "model_name", "base_model", "model_id", "model_path", "pretrained_model"),
    "policy.revision": ("model_revision", "revision_of_model"),
    "policy.tokenizer": ("tokenizer_name", "tokenizer_name_or_path", "tokenizer_path", "processing_class"),
    "policy.chat_template": ("template", "chat_template_path"),
    "policy.adapter": ("adapter_name_or_path", "lora_model_dir", "adapter_path"),
    "policy.lora": ("peft", "peft_config", "lora_config", "use_peft", "use_lora", "finetuning_type", "qlora"),
    "policy.lora.r": ("lora_r", "lora_rank", "rank"),
    "policy.lora.alpha": ("lora_alpha",),
    "policy.lora.target_modules": ("lora_target", "lora_target_modules", "lora_modules", "lora_target_linear"),
    "policy.dtype": ("torch_dtype", "model_dtype", "load_dtype"),
    "policy.attention": ("attn_implementation", "flash_attention", "flash_attn", "use_flash_attention_2"),
    "reference.model": ("ref_model", "reference_model", "ref_model_name_or_path", "ref_model_path"),
    "reference.adapter": ("ref_adapter_name", "ref_model_adapters", "reference_adapter"),
    "reference.mixup": ("ref_model_mixup_alpha",),
    "reference.sync_steps": ("sync_ref_model", "ref_model_sync_steps"),
    "data.pairs.path": ("dataset", "datasets", "dataset_name", "dataset_path", "data_path", "data_file", "data_files",
                        "train_file", "train_dataset", "train_data", "dataset_dir"),
    "data.pairs.name": ("dataset_config", "subset", "dataset_config_name"),
    "data.pairs.split": ("dataset_split", "train_split", "dataset_train_split"),
    "data.heldout.path": ("eval_dataset", "eval_file", "validation_file", "val_file", "eval_data", "test_dataset"),
    "data.heldout_fraction": ("val_size", "test_size", "val_set_size", "eval_split", "validation_split"),
    "data.max_length": ("max_seq_length", "max_seq_len", "sequence_len", "cutoff_len", "model_max_length",
                        "max_completion_length", "max_target_length"),
    "data.overlong": ("truncation", "truncation_mode", "truncation_side"),
    "data.system": ("system_prompt", "default_system"),
    "objective.name": ("loss_type", "loss", "pref_loss", "objective_type", "rl", "algorithm", "method"),
    "objective.beta": ("pref_beta", "dpo_beta", "rl_beta", "kl_coef", "kl_beta"),
    "objective.divergence": ("f_divergence_type",),
    "objective.label_smoothing": ("label_smoothing_factor", "dpo_label_smoothing", "smoothing"),
    "objective.nll_weight": ("cpo_alpha",),
    "objective.odds_weight": ("orpo_alpha",),
    "objective.tau": ("discopop_tau",),
    "objective.target_margin": ("simpo_gamma", "gamma_beta_ratio", "simpo_gamma_beta_ratio"),
    "selection.fraction": ("keep",),
    "training.learning_rate": ("lr", "learningrate", "peak_lr"),
    "training.schedule": ("lr_scheduler_type", "lr_scheduler", "scheduler", "scheduler_type"),
    "training.warmup": ("warmup_ratio", "warmup_steps", "num_warmup_steps", "warmup_fraction"),
    "training.epochs": ("num_train_epochs", "num_epochs", "n_epochs", "epoch"),
    "training.max_steps": ("num_steps", "total_steps", "train_steps", "steps"),
    "training.batch_size": ("per_device_train_batch_size", "train_batch_size", "micro_batch_size",
                            "global_batch_size", "batch"),
    "training.precision": ("bf16", "fp16", "mixed_precision", "amp", "tf32"),
    "training.log_steps": ("logging_steps", "log_interval", "log_every"),
    "training.eval_steps": ("evals_per_epoch", "eval_interval", "eval_every"),
    "training.save_steps": ("save_interval", "checkpoint_steps", "saves_per_epoch"),
    "training.optimizer": ("optim", "optimizer_type"),
    "training.max_grad_norm": ("gradient_clipping", "grad_clip", "clip_grad_norm", "max_norm"),
    "training.gradient_checkpointing": ("activation_checkpointing", "use_gradient_checkpointing"),
    "training.report_to": ("use_wandb", "wandb", "wandb_project", "logger", "loggers"),
    "training.shard": ("fsdp", "deepspeed", "fsdp_config", "zero_stage", "sharding"),
    "training.extra.adam_beta1": ("adam_beta1", "beta1"),
    "training.extra.adam_beta2": ("adam_beta2", "beta2"),
    "training.extra.adam_epsilon": ("adam_epsilon", "adam_eps"),
    "training.extra.dataloader_num_workers": ("dataloader_num_workers", "num_workers"),
    "training.extra.neftune_noise_alpha": ("neftune_noise_alpha",),
    "training.extra.torch_compile": ("torch_compile",),
    "scoring.tokens_per_pack": ("per_device_eval_batch_size", "eval_batch_size", "scoring_batch_size"),
    "bootstrap.samples": ("num_generations", "n_samples", "num_samples", "num_return_sequences", "best_of"),
    "evaluation.scorer": ("reward_model", "reward_model_path", "judge", "reward_funcs", "scorer_path"),
}  # fmt: skip
_OURS = {theirs: ours for ours, names in SYNONYMS.items() for theirs in names}

# Names of other tools for which there is no key, and what to do instead.
INSTEAD: dict[str, str] = {
    "gradient_accumulation_steps": "gradients are accumulated automatically: training.batch_size is the number of "
    "pairs in a step, and training.tokens_per_pack limits the tokens in memory",
    "gamma": "the gamma of simpo is objective.target_margin, and that of the reward ensemble is "
    "scoring.ensemble_weight",
    "lora_dropout": "dropout is always disabled, so that policy and reference can be compared",
    "dropout": "dropout is always disabled, so that policy and reference can be compared",
    "reference_free": "objective.name: simpo is the objective without a reference",
    "precompute_ref_log_probs": "log-probabilities of the reference are always computed once and stored "
    "(scoring.cache)",
    "resume_from_checkpoint": "give the same command again to resume the run",
    "overwrite_output_dir": "give the same command again to resume the run; for a new run, set another out",
    "rpo_alpha": "a list adds objectives: [{name: dpo}, {name: nll, weight: ...}]",
    "use_weighting": "objective.name: wpo weights the pairs",
    "packing": "rows are always packed if the model allows it (training.tokens_per_pack)",
    "sample_packing": "rows are always packed if the model allows it (training.tokens_per_pack)",
    "load_in_4bit": "weights are not quantized; policy.dtype and policy.lora save memory",
    "load_in_8bit": "weights are not quantized; policy.dtype and policy.lora save memory",
}
_INSTEAD_ALIASES = {"gradient_accumulation": "gradient_accumulation_steps", "pref_ftx": "rpo_alpha",
                    "ref_free": "reference_free", "auto_resume_from_checkpoints": "resume_from_checkpoint",
                    "grad_accum": "gradient_accumulation_steps"}  # fmt: skip
# Sections with the same keys as another section, which is suggested instead.
_SECOND = {
    "sft.": "training.",
    "rlhf.": "objective.",
    "bootstrap.selection.": "selection.",
    "data.heldout.": "data.pairs.",
}


def unknown_key(key: str, others: list[str] | None = None) -> str:
    """The message about an unknown key.

    Args:
        key: The whole key, with dots.
        others: Names without dots that could stand there, too.
    """
    section, path = _known_part(key)
    name = path[0].lower().replace("-", "_")
    name = _INSTEAD_ALIASES.get(name, name)
    if len(path) == 1 and name in INSTEAD:
        return f"{key}: unknown key; {INSTEAD[name]}"
    meant = _meant(section, [name, *path[1:]], others or [])
    if meant:
        return f"{key}: unknown key; did you mean {' or '.join(meant)}?"
    known = [known for known in all_keys(RunConfig) if known.rpartition(".")[0] == section]
    return f"{key}: unknown key; known {f'below {section}' if section else 'here'}: {', '.join(known)}"


def unknown_option(key: str, section: str, known: Collection[str]) -> str | None:
    """The message about an unknown key of a section that the configuration of a run does not list, such as the options
    of a judge; None for the sections of a run, and if no known key is similar.

    Args:
        key: The whole key, with dots.
        section: The key of the section.
        known: The names of the section.
    """
    if _known_part(key)[0] == section:
        return None
    close = difflib.get_close_matches(key.removeprefix(f"{section}."), known, n=1, cutoff=0.7)
    return f"{key}: unknown key; did you mean {section}.{close[0]}?" if close else None


def unknown_name(key: str, known: Collection[str], of: str) -> str:
    """The message about an unknown key of a configuration of another tool.

    Args:
        key: The key.
        known: The keys that the tool has.
        of: Name of the tool.
    """
    close = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.7)
    meant = f"did you mean {close[0]}?" if close else "remove it, or name another tool with --from"
    return f"{key}: not a known key of {of}; {meant}"


def _known_part(key: str) -> tuple[str, list[str]]:
    """The section that a key begins with, and what is left of the key."""
    keys, section, path = all_keys(RunConfig), "", key.split(".")
    while len(path) > 1:
        below = f"{section}.{path[0]}".lstrip(".")
        if below not in keys or dataclass_of(keys[below]) is None:
            break
        section, path = below, path[1:]
    return section, path


def _meant(section: str, path: list[str], others: list[str]) -> list[str]:
    keys, tail, prefix = all_keys(RunConfig), ".".join(path), f"{section}." if section else ""
    if path[-1] in _OURS:
        ours = _OURS[path[-1]]
        here = f"{prefix}{ours.rpartition('.')[2]}"
        return [here if here in keys and section else ours]
    same = [known for known in keys if known.endswith(f".{tail}")]
    if same := _first_ones([known for known in same if known.startswith(prefix)] or same, keys):
        return same[:3]
    here = [known for known in keys if known.startswith(prefix) and known.rpartition(".")[0] == section]
    names = {known.rpartition(".")[2]: known for known in here} | {other: other for other in others}
    for close in difflib.get_close_matches(path[0], names, n=1, cutoff=0.7):
        whole = ".".join([names[close], *path[1:]])
        return [whole if whole in keys or names[close] not in keys else names[close]]
    if not section and (close := difflib.get_close_matches(tail, keys, n=1, cutoff=0.8)):
        return close
    leaves = {known.rpartition(".")[2] for known in keys}
    for close in difflib.get_close_matches(path[-1], sorted(leaves), n=1, cutoff=0.8):
        return _first_ones([known for known in keys if known.rpartition(".")[2] == close], keys)[:3]
    return []


def _first_ones(found: list[str], keys: dict[str, object]) -> list[str]:
    """Without those of a section whose keys another section has, too."""

    def first(key: str) -> str:
        for second, before in _SECOND.items():
            if key.startswith(second) and f"{before}{key.removeprefix(second)}" in keys:
                return f"{before}{key.removeprefix(second)}"
        return key

    return list(dict.fromkeys(map(first, found)))


def type_at(key: str) -> object | None:
    """The type of a key, or of a name below a mapping; None where there is no such key."""
    keys = all_keys(RunConfig)
    if key in keys:
        return keys[key]
    above, _, name = key.rpartition(".")
    return value_of(keys[above]) if name and above in keys else None
