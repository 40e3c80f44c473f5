"""Runs inside of fitcheck-llm's environment: rows as JSON on stdin, its predictions as JSON on stdout."""

import json
import sys

from fitcheck.config_parser import ModelConfig
from fitcheck.estimator import TrainingConfig, estimate
from fitcheck.gpu_db import get_gpu


def predicted(row):
    """As its measuring script asks; nothing where it refuses."""
    run = row["run"]
    try:
        training = TrainingConfig(
            precision=run["precision"],
            quantization=run["quantization"],
            double_quant=run["double_quant"],
            optimizer=run["optimizer"],
            optimizer_dtype=run.get("optimizer_dtype", "fp32"),
            batch_size=run["batch_size"],
            seq_len=run["seq_len"],
            lora_rank=run["lora_rank"],
            lora_targets=run["lora_targets"],
            grad_checkpoint=run["grad_checkpoint"],
            flash_attn=run["kernel"] == "flash",
        )
        report = estimate(ModelConfig(**row["model_config"]), training, get_gpu(run["gpu_key"]))
    except (ValueError, TypeError, KeyError):
        return {}
    return {"allocated": report.total_mib - report.overhead_mib, "process": report.total_mib}


json.dump([predicted(row) for row in json.load(sys.stdin)], sys.stdout)
