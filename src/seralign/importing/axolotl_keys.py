"""Keys of axolotl that are left out or have no effect, each with the reason."""

from __future__ import annotations

from seralign.config.hints import INSTEAD
from seralign.importing import arguments_keys as arguments
from seralign.importing.parts import LORA_LEFT


def _because(reason: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), reason)


_PACKED = "rows are packed without padding by default; to force an implementation, set policy.attention"
_KERNELS = "it is a kernel of axolotl; it changes speed and memory"
_TRACKER = "set it in the environment of the tracker (WANDB_PROJECT, MLFLOW_TRACKING_URI, COMET_WORKSPACE ...)"
_TOKENS = "the tokenizer is used as it is; change and save it first, and name it in policy.tokenizer"
_DATA = "it is for other data than preference pairs"
_PARALLEL = arguments.SHARDED
_OTHER_RL = "it is for another kind of training than preferences"
_OPTIMIZER = "it has no counterpart; training.extra has the other fields of transformers.TrainingArguments"

LEFT = (
    arguments.LEFT
    | LORA_LEFT
    | _because(_PACKED, "flash_attention sdp_attention xformers_attention eager_attention flex_attention s2_attention "
               "flash_optimum attn_implementation sage_attention")
    | _because(_KERNELS, "lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_embedding_kernel flash_attn_fuse_mlp "
               "flash_attn_fuse_qkv flash_attn_cross_entropy flash_attn_rms_norm unsloth_cross_entropy_loss "
               "unsloth_lora_mlp unsloth_lora_qkv unsloth_lora_o unsloth_rms_norm unsloth_rope use_kernels "
               "cut_cross_entropy chunked_cross_entropy liger_rope liger_rms_norm liger_glu_activation "
               "liger_layer_norm liger_fused_linear_cross_entropy liger_cross_entropy dpo_use_liger_kernel "
               "flex_attn_compile_kwargs tiled_mlp")
    | _because(_TRACKER, "wandb_project wandb_entity wandb_watch wandb_name wandb_run_id wandb_log_model wandb_mode "
               "mlflow_tracking_uri mlflow_experiment_name mlflow_run_name hf_mlflow_log_artifacts comet_workspace "
               "comet_project_name comet_experiment_key comet_mode comet_online comet_experiment_config")
    | _because(_TOKENS, "special_tokens tokens added_tokens_overrides resize_token_embeddings_to_32x eot_tokens "
               "mean_resizing_embeddings shrink_embeddings embeddings_skip_upcast fix_untrained_tokens "
               "tokenizer_use_mistral_common tokenizer_legacy")
    | _because(_DATA, "pretraining_dataset reward_model process_reward_model num_labels train_on_inputs processor_type "
               "pretraining_sample_concatenation dataset_shard_num dataset_shard_idx min_sample_len use_pose "
               "pose_split_on_token_ids pose_max_context_len pose_num_chunks image_size image_resize_algorithm "
               "curriculum_sampling streaming")
    | _because(_PARALLEL, "sequence_parallel_degree context_parallel_size tensor_parallel_size dp_shard_size "
               "dp_replicate_size heads_k_stride ring_attn_func device_map device max_memory gpu_memory_limit "
               "use_ray ray_num_workers resources_per_worker ray_run_name fsdp_version")
    | _because(_OTHER_RL, "vllm lisa_n_layers lisa_step_interval "
               "lisa_layers_attribute relora relora_steps relora_warmup_steps relora_prune_ratio relora_prune_method "
               "relora_cpu_offload jagged_restart_steps jagged_restart_warmup_steps jagged_restart_anneal_steps qat "
               "quantization")
    | _because(_OPTIMIZER, "embedding_lr embedding_lr_scale lr_groups loraplus_lr_ratio loraplus_lr_embedding "
               "adam_epsilon2 adam_beta3 lr_quadratic_warmup cosine_min_lr_ratio cosine_constant_lr_ratio "
               "lr_div_factor torchdistx_path")
    | _because("no code is loaded for a training; objective.name: module:Class is an objective of your own",
               "plugins trainer_cls")
    | _because("all weights are trained, or a new adapter (policy.lora)", "unfrozen_parameters "
               "peft_layers_to_transform peft_layers_pattern peft_layer_replication peft_init_lora_weights "
               "peft_trainable_token_indices peft_ensure_weight_tying peft_autocast_adapter_dtype lora_fan_in_fan_out "
               "peft")
    | _because("adapters are plain LoRA, scaled by alpha / r", "peft_use_dora peft_use_rslora")
    | _because(INSTEAD["load_in_4bit"], "gptq gptq_disable_exllama bnb_config_kwargs fp8 model_quantization_config "
               "model_quantization_config_kwargs fp8_enable_fsdp_float8_all_gather")
    | _because("the model is read as it was saved", "base_model_config cls_model_config model_config "
               "overrides_of_model_config overrides_of_model_kwargs is_falcon_derived_model is_llama_derived_model "
               "is_mistral_derived_model is_qwen_derived_model llama4_linearized_experts rope_scaling")
    | _because("training.gradient_checkpointing saves memory", "layer_offloading")
    | _because("a loss that is not finite is an error", "loss_watchdog_threshold loss_watchdog_patience")
    | _because("evaluation.prompts: N answers held-out prompts in every round", "do_bench_eval bench_dataset "
               "bench_split bench_source_max_len do_causal_lm_eval eval_causal_lm_metrics eval_table_size "
               "eval_max_new_tokens eval_table_max_new_tokens")
    | _because("seralign merge merges an adapter", "merge_lora merge_method")
    | _because("repeated pairs are counted and told by seralign inspect", "dataset_exact_deduplication")
    | {
        "comet_api_key": "set COMET_API_KEY in the environment; the value is not copied",
        "auto_resume_from_checkpoints": INSTEAD["resume_from_checkpoint"],
        "dpo_norm_loss": "objective.name: dpo_norm is DPO normalised by length",
        "precompute_ref_log_probs": INSTEAD["precompute_ref_log_probs"],
        "push_dataset_to_hub": "nothing is uploaded by a training",
        "sample_packing": INSTEAD["sample_packing"],
        "eval_sample_packing": INSTEAD["sample_packing"],
        "shuffle_merged_datasets": "pairs are shuffled by seed",
    }
)  # fmt: skip

_CACHE = "prepared data is part of the run"
_MODEL = "the classes of model and tokenizer are found by themselves"
_SPEED = "it changes only speed or memory"

IDLE = (
    arguments.IDLE
    | _because(_CACHE, "dataset_prepared_path skip_prepare_dataset dataset_processes dataset_num_proc "
               "dataset_keep_in_memory num_dataset_shards_to_save is_preprocess preprocess_iterable")
    | _because(_MODEL, "model_type type_of_model tokenizer_type tokenizer_use_fast tokenizer_save_jinja_files")
    | _because(_SPEED, "low_cpu_mem_usage gc_steps experimental_skip_move_to_device lora_on_cpu batch_flattening "
               "qlora_sharded_model_loading eval_batch_size sample_packing_group_size sample_packing_bin_size "
               "sample_packing_sequentially sample_packing_eff_est multipack_real_batches profiler_steps "
               "pretrain_multipack_buffer_size pretrain_multipack_attn dpo_padding_free dpo_use_logits_to_keep "
               "profiler_steps_start ddp world_size fsdp_final_state_dict_type")
    | _because("rows are packed without padding", "pad_to_sequence_len")
    | _because("unknown keys are always errors", "strict")
    | _because("a chat is seralign chat", "gradio_title gradio_share gradio_server_name gradio_server_port "
               "gradio_max_new_tokens gradio_temperature")
    | _because("it is an internal key of axolotl", "total_num_tokens total_supervised_tokens axolotl_config_path "
               "capabilities env_capabilities debug")
    | _because("hf auth login, or HF_TOKEN in the environment", "hf_use_auth_token")
)  # fmt: skip
