"""What several tests need: small shapes, random models, slow references."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from model.config import ModelConfig
from model.deepseek_v3 import DeepseekV3
from model.engine import Engine
from model.errors import UserError

T = TypeVar("T")

torch.set_num_threads(1)  # small shapes: a second thread only waits for the first

ROOT = Path(__file__).resolve().parents[1]
TOKENIZER = ROOT / "assets" / "hospital" / "tokenizer.json"

SMALL = ModelConfig(
    vocab_size=211, hidden_size=48, intermediate_size=80, moe_intermediate_size=24, num_hidden_layers=4,
    first_k_dense_replace=1, num_attention_heads=4, q_lora_rank=24, kv_lora_rank=16, qk_nope_head_dim=16,
    qk_rope_head_dim=8, v_head_dim=12, n_routed_experts=16, num_experts_per_tok=4, n_group=4, topk_group=2,
    max_position_embeddings=256,
)  # fmt: skip
CLINIC = ModelConfig.preset("clinic")
HOSPITAL = ModelConfig.preset("hospital")

YARN = {
    "type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


def build(c: ModelConfig = SMALL, seed: int = 0, bias: float = 0.1) -> DeepseekV3:
    """A random model whose norms are not all 1, whose selection biases are of both signs, and whose logits reach about
    2: float32 rounding alone is then some 3e-6 of them, wherever they are computed."""
    model = DeepseekV3(c).initialise(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
        model.lm_head.weight *= 0.4
        for router in model.routers():
            router.e_score_correction_bias.normal_(0.0, bias, generator=generator)
    return model


def some_ids(c: ModelConfig, count: int, seed: int = 0) -> list[int]:
    """`count` random ids that are not special."""
    return torch.randint(2, c.vocab_size, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def gap(a: Tensor, b: Tensor) -> float:
    """The largest difference of two tensors of one shape."""
    assert a.shape == b.shape
    return float((a - b).detach().abs().max())


def step_by_step(engine: Engine, ids: list[int], **how: object) -> Tensor:
    """Logits (T, vocab) of `ids`, one cached step each."""
    cache = engine.new_cache()
    return torch.cat([engine.forward([i], cache, **how)[0] for i in ids])  # type: ignore[arg-type]


def fingerprint(model: DeepseekV3) -> str:
    """A hash of every number of a model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def one_sentence(error: pytest.ExceptionInfo[UserError]) -> str:
    """The message, after checking that it can be shown to a person."""
    text = str(error.value)
    assert text and text[-1] in ".)" and "\n" not in text and "Traceback" not in text and len(text) < 600, text
    return text


PYTHON = sys.executable


def apart(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in a thread of its own: where a browser was driven before, this one has a loop already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
