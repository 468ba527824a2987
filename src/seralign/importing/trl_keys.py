"""Keys of ``trl dpo`` that are left out or have no effect, each with the reason."""

from __future__ import annotations

from seralign.config.hints import INSTEAD
from seralign.importing import arguments_keys as arguments
from seralign.importing.parts import LORA_LEFT

LEFT = arguments.LEFT | LORA_LEFT | {
    "accelerate_config": "start seralign with a launcher: accelerate launch, or torchrun; give --devices N here",
    "attn_implementation": "rows are packed without padding by default; to force it, set policy.attention",
    "bnb_4bit_quant_storage": INSTEAD["load_in_4bit"],
    "use_bnb_nested_quant": INSTEAD["load_in_4bit"],
    "dataset_streaming": "the data is read once and stored on disk; memory stays small",
    "env": "set them in the environment of the command",
    "force_use_ref_model": "the reference is always separate from the trained weights",
    "generate_during_eval": "evaluation.prompts: N answers held-out prompts in every round",
    "max_completion_length": "data.max_length limits prompt and response together",
    "model_init_kwargs": "set policy.dtype, policy.attention and policy.revision",
    "ref_model_init_kwargs": "set reference.revision; its data type is policy.dtype",
    "precompute_ref_log_probs": INSTEAD["precompute_ref_log_probs"],
    "reference_free": INSTEAD["reference_free"],
    "router_aux_loss_coef": "the loss has no term for the router of a mixture of experts",
    "tools": "the column tools of a row has its tools",
}  # fmt: skip
OF_REFERENCE = frozenset({
    "force_use_ref_model", "ref_model_init_kwargs", "precompute_ref_log_probs", "precompute_ref_batch_size",
    "reference_free", "base_model_attribute_name",
})  # fmt: skip
"""Keys of a reference, which CPO and ORPO do not have."""
DPO_ALONE = frozenset({"reference_free", "tools"})
"""Keys that only ``trl dpo`` has, or had."""
IDLE = arguments.IDLE | {
    "base_model_attribute_name": "it is found without a name",
    "bnb_4bit_quant_type": "read only with load_in_4bit",
    "dataset_num_proc": "seralign chooses the number of processes",
    "ignore_bias_buffers": "it is for DistributedDataParallel; buffers are not trained",
    "is_encoder_decoder": "only causal language models are trained",
    "label_pad_token_id": "rows are packed without padding",
    "lora_task_type": "it is always CAUSAL_LM",
    "model_adapter_name": "the adapter has one name",
    "pad_to_multiple_of": "rows are packed without padding",
    "pad_token": "rows are packed without padding",
    "padding_free": INSTEAD["packing"],
    "padding_value": "rows are packed without padding",
    "precompute_ref_batch_size": "scoring.tokens_per_pack is the size of a pass over the reference",
    "use_logits_to_keep": "only the logits of responses are computed",
}
