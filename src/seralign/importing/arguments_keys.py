"""Keys of ``transformers.TrainingArguments`` that need no translation, each with what becomes of it and why."""

from __future__ import annotations

from seralign.config.hints import INSTEAD

EXTRA = frozenset({
    "activation_checkpointing_kwargs", "adam_beta1", "adam_beta2", "adam_epsilon", "dataloader_num_workers",
    "dataloader_persistent_workers", "dataloader_pin_memory", "dataloader_prefetch_factor", "ddp_broadcast_buffers",
    "ddp_bucket_cap_mb", "ddp_find_unused_parameters", "ddp_static_graph", "full_determinism",
    "gradient_checkpointing_kwargs", "lr_scheduler_kwargs", "neftune_noise_alpha", "optim_args", "optim_target_modules",
    "project", "run_name", "torch_empty_cache_steps",
})  # fmt: skip

_HUB = "nothing is uploaded by a training; use seralign push afterwards"
_BEST = "the result is the last round that gained (stop); there is no choice among checkpoints"
_SAME_NUMBERS = "it would change how the policy is computed, but not the reference"
SHARDED = "training.shard divides the model over the processes of a launcher"
_EVERY_PROCESS = "steps are the same for any number of processes"
LEFT = {
    "accelerator_config": "seralign sets it itself",
    "auto_find_batch_size": "training.tokens_per_pack limits the memory, and never changes the loss",
    "bf16_full_eval": "scoring.dtype is the precision of scoring",
    "fp16_full_eval": "scoring.dtype is the precision of scoring",
    "data_seed": "seed is the seed of everything random",
    "dataloader_drop_last": "no pair is dropped; the last step of an epoch is filled",
    "debug": "it has no counterpart",
    "early_stopping_patience": _BEST,
    "enable_jit_checkpoint": "checkpoints are saved by steps",
    "eval_delay": "held-out pairs are evaluated from the start",
    "group_by_length": "rows are packed, so lengths cost no padding",
    "train_sampling_strategy": "pairs are shuffled; rows are packed, so lengths cost no padding",
    "ignore_data_skip": "a resumed run continues with the next step",
    "label_smoothing_factor": "it is for classifiers; objective.label_smoothing (cdpo, robust) is for preferences",
    "liger_kernel_config": _SAME_NUMBERS,
    "load_best_model_at_end": _BEST,
    "metric_for_best_model": _BEST,
    "greater_is_better": _BEST,
    "deepspeed": SHARDED,
    "fsdp": SHARDED,
    "fsdp_config": SHARDED,
    "parallelism_config": SHARDED,
    "resume_from_checkpoint": INSTEAD["resume_from_checkpoint"],
    "save_only_model": "checkpoints always have the optimizer, so that a killed run can resume",
    "tf32": _SAME_NUMBERS,
    "torch_compile": _SAME_NUMBERS,
    "torch_compile_backend": _SAME_NUMBERS,
    "torch_compile_mode": _SAME_NUMBERS,
    "use_liger_kernel": _SAME_NUMBERS,
    "use_cpu": "the device is a GPU if PyTorch finds one; hide it with CUDA_VISIBLE_DEVICES",
    "no_cuda": "the device is a GPU if PyTorch finds one; hide it with CUDA_VISIBLE_DEVICES",
    "ddp_backend": "the backend is chosen by the device",
    "overwrite_output_dir": INSTEAD["overwrite_output_dir"],
    "include_for_metrics": "it has no counterpart",
    "activation_offloading": "training.gradient_checkpointing saves memory",
} | dict.fromkeys(
    ("push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision"), _HUB
) | {
    "hub_token": "set HF_TOKEN in the environment; the value is not copied",
    "push_to_hub_token": "set HF_TOKEN in the environment; the value is not copied",
}  # fmt: skip

_LOGS = "it changes only what is logged"
_MEMORY = "it changes only memory; training.tokens_per_pack and scoring.tokens_per_pack set it"
_WORKERS = "it changes only how data is prepared"
IDLE = {
    "average_tokens_across_devices": _EVERY_PROCESS,
    "batch_eval_metrics": _MEMORY,
    "dataloader_in_order": _WORKERS,
    "dataloader_multiprocessing_context": _WORKERS,
    "ddp_timeout": "seralign waits long enough for the slowest step",
    "disable_tqdm": _LOGS,
    "do_eval": "held-out pairs decide it (data.heldout)",
    "do_predict": "seralign sample answers prompts",
    "do_train": "seralign train trains",
    "eval_accumulation_steps": _MEMORY,
    "eval_do_concat_batches": _MEMORY,
    "eval_on_start": "held-out pairs are always evaluated before training",
    "eval_use_gather_object": _MEMORY,
    "include_inputs_for_metrics": _LOGS,
    "include_num_input_tokens_seen": _LOGS,
    "include_tokens_per_second": _LOGS,
    "label_names": _WORKERS,
    "length_column_name": _WORKERS,
    "local_rank": "the launcher sets it",
    "log_level": _LOGS,
    "log_level_replica": _LOGS,
    "log_on_each_node": _LOGS,
    "logging_dir": "the logs are in the folder of the run",
    "logging_first_step": _LOGS,
    "logging_nan_inf_filter": "a loss that is not finite is an error",
    "logging_strategy": "metrics are written every training.log_steps",
    "per_device_eval_batch_size": _MEMORY,
    "prediction_loss_only": _LOGS,
    "remove_unused_columns": "columns that are not read are ignored and named",
    "restore_callback_states_from_checkpoint": "a resumed run continues as if it had not been killed",
    "save_on_each_node": "the main process saves",
    "save_safetensors": "weights are always saved as safetensors",
    "save_total_limit": "the last two checkpoints are kept until the training is done",
    "skip_memory_metrics": _LOGS,
    "trackio_bucket_id": _LOGS,
    "trackio_space_id": _LOGS,
    "trackio_static_space_id": _LOGS,
    "use_cache": "it is off in training",
}
