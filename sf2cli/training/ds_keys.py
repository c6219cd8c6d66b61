"""Every key of DeepSpeed 0.19's configuration: honoured, filled in by sf2, or refused and why.

DeepSpeed itself ignores keys it does not know, and honours some that would part the backbone from
the head; a setting without effect is worse than an error.
"""

from __future__ import annotations

BATCH = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")

HONOURED = frozenset(
    {
        *BATCH,
        "bf16",
        "communication_data_type",
        "fp16",
        "gradient_clipping",
        "optimizer",
        "prescale_gradients",
        "zero_optimization",
    }
)

_RECIPE_PRECISION = "the recipe's `precision` decides it"
_OWN_CHECKPOINTS = "sf2 writes its own checkpoints; see the recipe's `checkpoint`"
_OWN_METRICS = "sf2 writes metrics.jsonl"
_NOT_HERE = "it is for models that are cut over ranks, which a backbone is not"
_REMOVED = "DeepSpeed 0.19 has removed it"

REFUSED = {
    "activation_checkpointing": "say `backbone.activation_checkpointing: true` in the recipe",
    "aio": "nothing is offloaded to NVMe",
    "amp": _REMOVED,
    "autotuning": "sf2 scale-test plans what fits",
    "bfloat16": "its name is bf16",
    "checkpoint": _OWN_CHECKPOINTS,
    "comet": _OWN_METRICS,
    "comms_logger": "DeepSpeed would print between sf2's lines",
    "compile": "say `backbone.compile: true` in the recipe",
    "compression_training": _REMOVED,
    "csv_monitor": _OWN_METRICS,
    "curriculum_learning": _REMOVED,
    "data_efficiency": "the data are sf2's; see the recipe's `data`",
    "data_parallel_size": "every rank is data-parallel",
    "data_types": _RECIPE_PRECISION,
    "dataloader_drop_last": "the data are sf2's; see the recipe's `data`",
    "datastates_ckpt": _OWN_CHECKPOINTS,
    "disable_allgather": "ranks would go on with different weights",
    "disable_python_gc": "sf2 leaves the garbage collector alone",
    "dump_state": "DeepSpeed would print between sf2's lines",
    "eigenvalue": _REMOVED,
    "elasticity": _REMOVED,
    "expert_parallel": _NOT_HERE,
    "flops_profiler": "sf2 scale-test counts and measures",
    "gradient_allreduce_op": "the head counts on gradients that are averaged over the ranks",
    "gradient_predivide_factor": "the factor would round gradients and change nothing else",
    "graph_harvesting": _REMOVED,
    "hybrid_engine": "it is for text generation",
    "log_level": "sf2 keeps DeepSpeed quiet",
    "managed_gradient_accumulation": "sf2 says when a step is due",
    "memory_breakdown": "DeepSpeed would print between sf2's lines",
    "nebula": _REMOVED,
    "pipeline": _NOT_HERE,
    "progressive_layer_drop": _REMOVED,
    "quantize_training": _REMOVED,
    "scheduler": "the learning rate is the recipe's `schedule` section",
    "seq_parallel_communication_data_type": _NOT_HERE,
    "sequence_parallel_size": _NOT_HERE,
    "sparse_attention": _REMOVED,
    "sparse_gradients": _REMOVED,
    "steps_per_print": "DeepSpeed would print between sf2's lines",
    "tensor_parallel": _NOT_HERE,
    "tensorboard": _OWN_METRICS,
    "timers": "DeepSpeed would print between sf2's lines",
    "torch_autocast": _RECIPE_PRECISION,
    "use_data_before_expert_parallelism": _NOT_HERE,
    "vocabulary_size": "it is for language models",
    "wall_clock_breakdown": "DeepSpeed would print between sf2's lines",
    "wandb": _OWN_METRICS,
    "weight_quantization": "it is for inference",
    "zero_allow_untested_optimizer": "sf2 sets it: it has tested the optimisers it takes",
    "zero_force_ds_cpu_optimizer": "sf2 sets it: the recipe's SGD is torch's, on the CPU as well",
}

ZERO_HONOURED = frozenset(
    {
        "stage",
        "allgather_bucket_size",
        "allgather_partitions",
        "contiguous_gradients",
        "offload_optimizer",
        "overlap_comm",
        "reduce_bucket_size",
        "reduce_scatter",
        "round_robin_gradients",
        "stage3_max_live_parameters",
        "stage3_max_reuse_distance",
        "stage3_param_persistence_threshold",
        "stage3_prefetch_bucket_size",
        "sub_group_size",
    }
)
OFFLOAD_HONOURED = frozenset({"device", "pin_memory"})
FP16_COUNTS = ("initial_scale_power", "loss_scale_window", "hysteresis", "min_loss_scale")
FP16_HONOURED = frozenset({"enabled", "loss_scale", "consecutive_hysteresis", *FP16_COUNTS})
OPTIMIZER_HONOURED = frozenset({"type", "params"})

# Those whose step is element by element: ZeRO hands them flat pieces of many tensors.
OPTIMIZERS = {
    "adam": "Adam",
    "adamw": "AdamW",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "adamax": "Adamax",
    "lion": "Lion",
    "nadam": "NAdam",
    "radam": "RAdam",
    "rmsprop": "RMSprop",
    "sgd": "SGD",
}
WHOLE_TENSOR_OPTIMIZERS = {"lamb": "Lamb"}
