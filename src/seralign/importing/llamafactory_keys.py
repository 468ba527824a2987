"""Keys of LLaMA-Factory that are left out or have no effect, each with the reason."""

from __future__ import annotations

from seralign.config.hints import INSTEAD
from seralign.importing import arguments_keys as arguments
from seralign.importing.parts import LORA_LEFT


def _because(reason: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), reason)


_TOKENS = "the tokenizer is used as it is; change and save it first, and name it in policy.tokenizer"
_PACKED = "rows are packed without padding by default; to force an implementation, set policy.attention"
_LORA = "adapters are plain LoRA, scaled by alpha / r"
_OPTIMIZER = "it has no counterpart; training.optimizer is an optimizer of transformers"
_SINGLE = "it has no counterpart"

LEFT = (
    arguments.LEFT
    | LORA_LEFT
    | _because(_TOKENS, "resize_vocab split_special_tokens add_tokens add_special_tokens new_special_tokens_config "
               "init_special_tokens skip_special_tokens")
    | _because(_PACKED, "flash_attn shift_attn")
    | _because(_LORA, "use_rslora use_dora pissa_init pissa_iter pissa_convert loraplus_lr_ratio "
               "loraplus_lr_embedding additional_target adapter_folder")
    | _because(_OPTIMIZER, "use_galore galore_target galore_rank galore_update_interval galore_scale galore_proj_type "
               "galore_layerwise use_apollo apollo_target apollo_rank apollo_update_interval apollo_scale apollo_proj "
               "apollo_proj_type apollo_scale_type apollo_layerwise apollo_scale_front use_badam badam_mode "
               "badam_start_block badam_switch_mode badam_switch_interval badam_update_ratio badam_mask_mode "
               "badam_verbose use_adam_mini use_muon")
    | _because(INSTEAD["load_in_4bit"], "quantization_bit quantization_method quantization_type double_quantization "
               "quantization_device_map ref_model_quantization_bit fp8 fp8_backend fp8_enable_fsdp_float8_all_gather")
    | _because("finetuning_type is lora or full", "freeze_trainable_layers freeze_trainable_modules "
               "freeze_extra_modules use_llama_pro oft_rank oft_block_size oft_target module_dropout")
    | _because("only text is trained on", "image_max_pixels image_min_pixels image_do_pan_and_scan crop_to_patches "
               "video_max_pixels video_min_pixels video_fps video_maxlen use_audio_in_video audio_sampling_rate "
               "media_dir freeze_language_model")
    | _because("set tracking of SwanLab up through its integration of transformers (training.report_to)",
               "use_swanlab swanlab_project swanlab_workspace swanlab_run_name swanlab_mode swanlab_logdir "
               "swanlab_lark_webhook_url")
    | _because("set it in the environment; the value is not copied", "hf_hub_token ms_hub_token om_hub_token "
               "swanlab_api_key swanlab_lark_secret")
    | _because("start seralign with a launcher (torchrun), and give --devices N here", "ray_run_name ray_storage_path "
               "ray_storage_filesystem ray_num_workers resources_per_worker placement_strategy ray_init_kwargs use_mca")
    | _because(_SINGLE, "rope_scaling mixture_of_depths moe_aux_loss_coef train_from_scratch upcast_layernorm "
               "upcast_lmhead_output use_unsloth use_unsloth_gc enable_liger_kernel use_v1_kernels use_kt "
               "kt_optimize_rule tool_format use_dft_loss compute_accuracy disable_shuffling mask_history "
               "train_on_prompt eval_on_each_dataset")
    | _because("a run stops by stop.metric", "early_stopping_steps")
    | _because("write the rows that you want to one file, and name it in data.pairs.path", "mix_strategy "
               "interleave_probs")
    | _because("the data is read once and stored on disk; memory stays small", "streaming buffer_size")
    | _because(INSTEAD["packing"], "packing neat_packing")
    | _because("seralign merge merges an adapter, seralign push uploads it", "export_dir export_size export_device "
               "export_quantization_bit export_quantization_dataset export_quantization_nsamples "
               "export_quantization_maxlen export_legacy_format export_hub_model_id")
    | _because("evaluation.prompts: N answers held-out prompts in every round", "predict_with_generate")
)  # fmt: skip

_OTHER_STAGE = "it is for another stage"
_GENERATION = "no answers are generated in a training"

IDLE = (
    arguments.IDLE
    | _because("prepared data is part of the run", "overwrite_cache preprocessing_batch_size "
               "preprocessing_num_workers tokenized_path data_shared_file_system")
    | _because("the report has charts of all losses", "plot_loss")
    | _because("it changes only speed or memory", "low_cpu_mem_usage use_reentrant_gc offload_folder use_kv_cache "
               "use_fast_tokenizer include_effective_tokens_per_second")
    | _because(_OTHER_STAGE, "ppo_buffer_size ppo_epochs ppo_score_norm ppo_target ppo_whiten_rewards reward_model "
               "reward_model_adapters reward_model_quantization_bit reward_model_type")
    | _because(_GENERATION, "infer_backend infer_dtype vllm_maxlen vllm_gpu_util vllm_enforce_eager "
               "vllm_max_lora_rank vllm_config sglang_maxlen sglang_mem_fraction sglang_tp_size sglang_config "
               "sglang_lora_backend do_sample temperature top_p top_k num_beams max_length max_new_tokens "
               "repetition_penalty length_penalty eval_num_beams generation_max_length generation_num_beams "
               "generation_config cpu_infer chunk_size mode kt_maxlen kt_use_cuda_graph kt_mode kt_force_think")
    | _because("only text is trained on", "freeze_vision_tower freeze_multi_modal_projector")
    | _because("prompts are never part of the loss", "ignore_pad_token_for_loss sortish_sampler")
    | _because("models come from the cache of the hub (HF_HOME)", "cache_dir")
    | _because("it is for debugging", "print_param_status")
)  # fmt: skip
