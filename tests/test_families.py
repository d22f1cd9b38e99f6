"""Other hospitals' ways in this project's bricks: the same function as transformers' own modules, the same counts as the
formulas, and trained by the same code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from helpers import gap, one_sentence, some_ids
from torch import Tensor

from model import architectures, costs
from model.config import ConfigError
from model.deepseek_v3 import DeepseekV3, MoE
from model.families import Family, FamilyConfig, GroupedQueryAttention, SoftmaxRouter, walk
from model.labs import miniatures
from model.train import TrainSettings, optimiser, take_step

BASE: dict[str, Any] = {
    "vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 3, "num_nextn_predict_layers": 0, "n_group": 1,
    "topk_group": 1, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
}  # fmt: skip
GROUPED = {**BASE, "attention": "gqa", "num_attention_heads": 4, "num_key_value_heads": 2, "v_head_dim": 8, "qk_rope_head_dim": 8}
LLAMA = FamilyConfig(**GROUPED, first_k_dense_replace=3, intermediate_size=40)
MIXTRAL = FamilyConfig(
    **GROUPED, first_k_dense_replace=0, n_routed_experts=8, n_shared_experts=0, num_experts_per_tok=2, gate="softmax",
    routed_scaling_factor=1.0, moe_intermediate_size=24,
)  # fmt: skip


def built(c: FamilyConfig, seed: int = 0) -> Family:
    model = Family(c)
    model.initialise(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return model.eval()


def halves(weight: Tensor, width: int) -> Tensor:
    """Rows of a query or key matrix from interleaved pairs to transformers' two halves."""
    return weight.view(-1, width // 2, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def published(model: Family) -> dict[str, Tensor]:
    """The weights under transformers' names (Llama and Mixtral share all but the FFN)."""
    found, width = {}, model.c.v_head_dim
    for name, tensor in model.state_dict().items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            tensor = halves(tensor, width)
        if name.endswith("experts.down"):
            name, tensor = f"{name}_proj", tensor.transpose(1, 2)
        if name.endswith("experts.gate_up"):
            name = f"{name}_proj"
        found[name if name.startswith("lm_head") else f"model.{name}"] = tensor.contiguous()
    return found


def twin(model: Family) -> Any:
    """transformers' model with the same weights."""
    c = model.c
    shared: dict[str, Any] = {
        "vocab_size": c.vocab_size, "hidden_size": c.hidden_size, "num_hidden_layers": c.num_hidden_layers,
        "num_attention_heads": c.num_attention_heads, "num_key_value_heads": c.num_key_value_heads,
        "head_dim": c.v_head_dim, "rms_norm_eps": c.rms_norm_eps, "tie_word_embeddings": False,
        "max_position_embeddings": c.max_position_embeddings,
        "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
    }  # fmt: skip
    if c.num_moe_layers:
        config = transformers.MixtralConfig(**shared, intermediate_size=c.moe_intermediate_size, sliding_window=None,
                                            num_local_experts=c.n_routed_experts, num_experts_per_tok=c.num_experts_per_tok)  # fmt: skip
        theirs = transformers.MixtralForCausalLM(config)
    else:
        theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shared, intermediate_size=c.intermediate_size))
    theirs.load_state_dict(published(model), strict=True)
    return theirs.eval()


@pytest.mark.parametrize("config", [LLAMA, MIXTRAL], ids=["llama", "mixtral"])
def test_the_same_function_as_transformers(config: FamilyConfig):
    model = built(config)
    ids = torch.tensor([some_ids(config, 50, seed) for seed in (1, 2)])
    with torch.no_grad():
        ours = model.lm_head(model(ids)[0])
        theirs = twin(model)(ids).logits
    assert float(ours.abs().max()) > 1
    assert gap(ours, theirs) < 1e-5


def test_parity_would_see_the_wrong_rotation():
    model = built(LLAMA)
    ids = torch.tensor([some_ids(LLAMA, 20)])
    theirs = twin(model)
    with torch.no_grad():
        for layer in theirs.model.layers:
            layer.self_attn.q_proj.weight.copy_(halves(layer.self_attn.q_proj.weight, 8))
        assert gap(model.lm_head(model(ids)[0]), theirs(ids).logits) > 1e-3


@pytest.mark.parametrize("config", [LLAMA, MIXTRAL], ids=["llama", "mixtral"])
def test_as_many_parameters_as_transformers_builds(config: FamilyConfig):
    model = built(config)
    count = sum(p.numel() for p in twin(model).parameters())
    assert count == sum(p.numel() for p in model.parameters()) == architectures.total(config.architecture)


@pytest.mark.parametrize("name", miniatures.ARMS)
def test_formula_is_the_built_miniature(name: str):
    model = Family(miniatures.arm(name).config)
    stored = sum(tensor.numel() for tensor in model.state_dict().values())
    assert stored == architectures.total(model.c.architecture)


def test_v3s_way_is_the_project_s_own_model():
    """Nothing is exchanged: not one number differs, and the formulas of costs.py agree with those of the catalogue."""
    c = miniatures.arm("v3").config
    assert c.architecture.attention == "mla"
    assert costs.parameters(c).main == architectures.total(c.architecture)
    assert costs.parameters(c).active == architectures.active(c.architecture)
    ids = torch.tensor([some_ids(c, 12)])
    with torch.no_grad():
        assert gap(Family(c).initialise(3)(ids)[0], DeepseekV3(c).initialise(3)(ids)[0]) == 0


def test_a_softmax_gate_weighs_as_it_should():
    """Over the chosen where they are normalised (Mixtral), and as parts of the whole where not (Grok-1)."""
    u = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    for norm in (True, False):
        router = SoftmaxRouter(MIXTRAL.with_(norm_topk_prob=norm))
        torch.nn.init.normal_(router.weight, generator=torch.Generator().manual_seed(1))
        routing = router(u)
        best = routing.logits.topk(2, -1)
        assert torch.equal(best.indices, routing.chosen)
        expected = best.values.softmax(-1) if norm else routing.logits.softmax(-1).gather(1, best.indices)
        assert gap(routing.weights, expected) < 1e-6
    assert "e_score_correction_bias" not in router.state_dict()


def test_the_bias_of_a_softmax_gate_moves_nothing():
    model = built(MIXTRAL)
    ids = torch.tensor([some_ids(MIXTRAL, 30)])
    with torch.no_grad():
        before = model(ids)[0]
        for router in model.routers():
            router.e_score_correction_bias.normal_()
        assert gap(before, model(ids)[0]) == 0


@pytest.mark.parametrize("name", miniatures.STYLES)
def test_a_walk_weighs_what_would_be_kept(name: str):
    model = built(miniatures.arm(name).config)
    ids = some_ids(model.c, 30)
    seen = walk(model, ids)
    with torch.no_grad():
        assert gap(seen.logits, model.lm_head(model(torch.tensor([ids]))[0])[0]) < 1e-5
    a = model.c.architecture
    assert seen.cache_bytes == 4 * len(ids) * model.c.cache_numbers_per_token
    assert model.c.cache_numbers_per_token == architectures.cache_numbers(a, 1)
    assert len(seen.chosen) == model.c.num_moe_layers
    one = walk(model, ids[:1])  # one token: what it touches is the active size, of the embedding only its row
    assert one.touched == architectures.active(a) - (a.vocab_size - 1) * a.hidden_size
    assert one.touched <= seen.touched <= architectures.total(a)


def test_every_family_is_trained_by_the_same_code():
    for config in (LLAMA, MIXTRAL, MIXTRAL.with_(norm_topk_prob=False)):
        model = built(config)
        settings = TrainSettings(steps=12, rows=4, length=16, warmup=2, balance_loss=0.01, mtp_loss=0.0, learning_rate=1e-2)
        adam, ids = optimiser(model, settings), torch.tensor([some_ids(config, 16, seed) for seed in range(4)])
        rows = [take_step(model, adam, ids, settings, step) for step in range(12)]
        assert rows[-1]["loss"] < rows[0]["loss"] - 0.5
        assert all(p.grad is not None for p in model.parameters())


def test_the_parts_are_exchanged_and_nothing_else():
    model = Family(MIXTRAL)
    for layer in model.layers:
        assert isinstance(layer.self_attn, GroupedQueryAttention)
        assert isinstance(layer.mlp, MoE) and isinstance(layer.mlp.gate, SoftmaxRouter)
    assert MIXTRAL.to_dict()["model_type"] != "deepseek_v3"


@pytest.mark.parametrize("change", [
    {"num_key_value_heads": 3}, {"num_key_value_heads": None}, {"num_key_value_heads": 0}, {"v_head_dim": 16},
    {"attention": "mqa"}, {"gate": "noisy"}, {"n_group": 2, "topk_group": 1},
    {"rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 64}}, {"n_routed_experts": -1},
], ids=str)  # fmt: skip
def test_what_cannot_be_built_is_said(change: dict[str, Any]):
    with pytest.raises(ConfigError) as error:
        MIXTRAL.with_(**change)
    one_sentence(error)
