"""Checkpoints: what is written comes back, and what is damaged or foreign is refused in one sentence."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import HOSPITAL, ROOT, SMALL, TOKENIZER, build, fingerprint, gap, one_sentence, some_ids
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import model as door
from model import checkpoint
from model.config import ModelConfig
from model.engine import Engine
from model.errors import UserError

C = SMALL.with_(vocab_size=4096, num_hidden_layers=3)  # as many tokens as the tokenizer has
WEIGHTS, SUM = "model.safetensors", "model.safetensors.sha256"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    checkpoint.save(build(C, seed=31), folder, TOKENIZER)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(good, tmp_path / "copy"))


def refused(folder: Path) -> str:
    """The sentence with which `model.load` refuses; any other exception fails the test."""
    with pytest.raises(UserError) as error:
        door.load(folder)
    return one_sentence(error)


# -- what is written comes back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(128, 128), (64, 48), (300, 260), (5, 48, 16), (3, 200, 130), (1, 1)])
def test_fp8_is_close(shape: tuple[int, ...]) -> None:
    """E4M3 has 3 bits behind the point: half a step is 1/16 of a number, or of the smallest normal one of its block."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.1
    quantised, scale = checkpoint.quantise(weight)
    assert quantised.dtype == torch.float8_e4m3fn and quantised.shape == weight.shape
    rows, columns = shape[-2:]
    assert scale.shape == (*shape[:-2], -(-rows // 128), -(-columns // 128))
    back = checkpoint.dequantise(quantised, scale)
    spread = scale.repeat_interleave(128, -2)[..., :rows, :].repeat_interleave(128, -1)[..., :columns]
    assert bool(((back - weight).abs() <= weight.abs() / 16 + spread * 2**-9).all())
    assert torch.equal(back, quantised.float() * spread)
    again = checkpoint.dequantise(*checkpoint.quantise(back))
    assert gap(again, back) <= 1e-6  # nothing is lost the second time


def test_fp8_of_extremes() -> None:
    weight = torch.zeros(130, 130)
    assert gap(checkpoint.dequantise(*checkpoint.quantise(weight)), weight) == 0
    weight[0, 0], weight[129, 129], weight[0, 129] = 3e4, -1e-6, 7.0  # each block has a scale of its own
    back = checkpoint.dequantise(*checkpoint.quantise(weight))
    assert back[0, 0] == pytest.approx(3e4) and back[129, 129] == pytest.approx(-1e-6) and back[0, 129] == pytest.approx(7)


@pytest.mark.parametrize("c", [SMALL, SMALL.with_(q_lora_rank=None), SMALL.with_(n_shared_experts=2),
                               SMALL.with_(n_shared_experts=0), SMALL.with_(num_nextn_predict_layers=0),
                               SMALL.with_(first_k_dense_replace=4)])  # fmt: skip
def test_round_trips(c: ModelConfig, tmp_path: Path) -> None:
    model, ids = build(c, seed=32), some_ids(c, 12)
    checkpoint.export(model, tmp_path / "published")
    back = checkpoint.load(tmp_path / "published")
    assert fingerprint(back) == fingerprint(model) and back.c == c
    exact = Engine(model).forward(ids)[0]
    assert torch.equal(Engine(back).forward(ids)[0], exact)
    for fp8 in (False, True):
        once, twice = tmp_path / f"once{fp8}", tmp_path / f"twice{fp8}"
        checkpoint.save(model, once, fp8=fp8)
        rounded = checkpoint.load(once)
        off = gap(torch.cat([p.flatten() for p in rounded.parameters()]), torch.cat([p.flatten() for p in model.parameters()]))
        assert 0 < off < 0.1
        for mine, theirs in zip(rounded.routers(), model.routers(), strict=True):  # gates and biases are kept whole
            assert torch.equal(mine.weight, theirs.weight)
            assert torch.equal(mine.e_score_correction_bias, theirs.e_score_correction_bias)
        checkpoint.save(rounded, twice, fp8=fp8)
        again = checkpoint.load(twice)
        for (name, p), (_, q) in zip(rounded.state_dict().items(), again.state_dict().items(), strict=True):
            assert gap(p, q) <= 1e-6 * float(p.abs().max()), name


def test_a_model_without_its_mtp_module(tmp_path: Path) -> None:
    """Stripped checkpoints are common: the module is left out, the rest works, and it can be written again."""
    model = build(SMALL, seed=33)
    checkpoint.export(model, tmp_path / "a")
    tensors = {k: v for k, v in load_file(tmp_path / "a" / WEIGHTS).items() if ".layers.4." not in k}
    save_file(tensors, tmp_path / "a" / WEIGHTS)
    (tmp_path / "a" / SUM).unlink()
    stripped = checkpoint.load(tmp_path / "a")
    assert stripped.mtp is None
    ids = some_ids(SMALL, 7)
    assert torch.equal(Engine(stripped).forward(ids)[0], Engine(model).forward(ids)[0])
    checkpoint.save(stripped, tmp_path / "b")
    assert checkpoint.load(tmp_path / "b").mtp is None


def test_compact_file_of_the_hospital_is_small_and_whole(tmp_path: Path) -> None:
    checkpoint.save(build(HOSPITAL, bias=0.02), tmp_path, TOKENIZER)
    assert (tmp_path / WEIGHTS).stat().st_size < 58e6
    assert len(load_file(tmp_path / WEIGHTS)) < 2000
    live = door.load(tmp_path)
    assert live.trace("医生，我发烧。").experts_per_token == 522


def test_the_sum_is_one_that_others_read(folder: Path) -> None:
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "-c", SUM], cwd=folder, check=True, capture_output=True)
    (folder / SUM).unlink()  # it may be absent: other people's folders have none
    assert door.load(folder).config == C


def test_published_fp8_layout_opens(folder: Path, tmp_path: Path) -> None:
    """Block-wise FP8 per expert, with `weight_scale_inv`, as DeepSeek publishes it."""
    model = build(SMALL, seed=34)
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in checkpoint.published(model):
        tensor = tensor.detach().clone(memory_format=torch.contiguous_format)
        if tensor.dim() == 2 and "gate.weight" not in name and "embed" not in name and "head" not in name:
            tensors[name], tensors[name + "_scale_inv"] = checkpoint.quantise(tensor)
        else:
            tensors[name] = tensor
    save_file(tensors, tmp_path / WEIGHTS)
    (tmp_path / "config.json").write_text(json.dumps(SMALL.to_dict()))
    assert gap(checkpoint.load(tmp_path).lm_head.weight, model.lm_head.weight) == 0


# -- what cannot be used is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "word"), [("config.json", "config.json"), (WEIGHTS, "safetensors"),
                                            ("tokenizer.json", "tokenizer.json")])  # fmt: skip
def test_a_missing_file_is_named(folder: Path, name: str, word: str) -> None:
    (folder / name).unlink()
    if name == WEIGHTS:
        (folder / SUM).unlink()
    assert word in refused(folder)


def test_weights_missing_beside_their_sum(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert "safetensors" in refused(folder)


@pytest.mark.parametrize("place", ["nowhere", "a\0b", "file", ""])
def test_no_folder_at_all(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    assert "config.json" in refused(tmp_path / place)


@pytest.mark.parametrize("with_sum", [True, False])
@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 100, 0.3, 0.7, 0.999, -1])
def test_a_truncated_file(folder: Path, keep: float, with_sum: bool) -> None:
    data = (folder / WEIGHTS).read_bytes()
    size = int(len(data) * keep) if 0 < keep < 1 else int(keep)
    (folder / WEIGHTS).write_bytes(data[:size])
    if not with_sum:
        (folder / SUM).unlink()
    refused(folder)


def test_bytes_at_the_end(folder: Path) -> None:
    with open(folder / WEIGHTS, "ab") as file:
        file.write(b"more")
    refused(folder)
    (folder / SUM).unlink()
    refused(folder)


@pytest.mark.parametrize("seed", range(20))
def test_any_flipped_bit_is_found_by_the_sum(folder: Path, seed: int) -> None:
    dice = random.Random(seed)
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    (folder / WEIGHTS).write_bytes(data)
    assert "sha256" in refused(folder)


@pytest.mark.parametrize("seed", range(60))
def test_flipped_bits_without_a_sum(folder: Path, seed: int) -> None:
    """In the header nearly every flip makes the file unreadable or leaves a tensor out. A flip in the data is another
    number and nobody can tell, unless it is no number at all. Either way: opened or refused, never anything else."""
    dice = random.Random(seed)
    (folder / SUM).unlink()
    data = bytearray((folder / WEIGHTS).read_bytes())
    header = 8 + int.from_bytes(data[:8], "little")
    for _ in range(1 + seed % 3):
        data[dice.randrange(header if seed % 4 else len(data))] ^= 1 << dice.randrange(8)
    (folder / WEIGHTS).write_bytes(data)
    try:
        door.load(folder)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.1.mlp.gate.e_score_correction_bias", "model.norm.weight"])
def test_what_is_not_a_number_is_found_without_a_sum(folder: Path, name: str, value: float) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors[name].view(-1)[3] = value
    save_file(tensors, folder / WEIGHTS)
    (folder / SUM).unlink()
    assert name.removeprefix("model.") in refused(folder)


def test_fp8_nan_is_found(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["model.layers.1.mlp.experts.down_proj"].view(torch.uint8).view(-1)[5] = 0x7F
    save_file(tensors, folder / WEIGHTS)
    (folder / SUM).unlink()
    assert "not finite" in refused(folder)


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> str:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    (folder / SUM).unlink()
    return refused(folder)


def test_tensors_that_do_not_fit(folder: Path) -> None:
    for change in (
        lambda t: t.pop("model.norm.weight"),
        lambda t: t.pop("model.layers.1.mlp.experts.down_proj"),
        lambda t: t.pop("model.layers.3.mlp.gate.weight"),  # a part of the MTP module only
        lambda t: t.pop("model.layers.1.self_attn.o_proj.weight_scale_inv"),
        lambda t: t.update({"model.extra.weight": torch.zeros(3)}),
        lambda t: t.update({"model.layers.1.mlp.experts.99.up_proj.weight": torch.zeros(24, 48)}),
        lambda t: t.update({"model.norm.weight": torch.zeros(49)}),
        lambda t: t.update({"model.norm.weight": torch.ones(48, dtype=torch.int32)}),
        lambda t: t.update({"model.layers.1.self_attn.o_proj.weight_scale_inv": torch.ones(3, 3)}),
        lambda t: t.update({"model.layers.1.mlp.shared_experts.up_proj.weight": torch.zeros(7)}),
    ):
        before = (folder / WEIGHTS).read_bytes(), (folder / SUM).read_bytes()
        rewrite(folder, change)
        (folder / WEIGHTS).write_bytes(before[0])
        (folder / SUM).write_bytes(before[1])
    assert door.load(folder)


def change_config(folder: Path, **changes: Any) -> str:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return refused(folder)


@pytest.mark.parametrize(("change", "word"), [
    ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, "llama"),
    ({"rope_scaling": {"type": "dynamic", "factor": 2}}, "dynamic"),
    ({"sliding_window": 4096}, "sliding_window"),
    ({"hidden_size": 64}, ""), ({"n_routed_experts": 32}, ""), ({"num_hidden_layers": 5}, "incomplete"),
    ({"num_hidden_layers": 2}, ""), ({"vocab_size": 5000}, ""), ({"kv_lora_rank": 8}, ""),
    ({"hidden_size": 10**9}, "incomplete"), ({"num_hidden_layers": 10**12}, "incomplete"),
    ({"q_lora_rank": None}, ""), ({"n_shared_experts": 0}, ""), ({"first_k_dense_replace": 0}, ""),
    ({"vocab_size": 10**30}, "incomplete"),
])  # fmt: skip
def test_a_config_that_does_not_fit(folder: Path, change: dict[str, Any], word: str) -> None:
    """Refused before a tensor of the promised size is made: a trillion layers must not be built first."""
    assert word in change_config(folder, **change)


def test_a_real_llama_config_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "rms_norm_eps": 1e-5,
    }))  # fmt: skip
    assert "llama" in refused(folder) and "deepseek_v3" in refused(folder)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["config.json", WEIGHTS, "tokenizer.json",
                                                 "model.safetensors.index.json"]))  # fmt: skip
def test_random_bytes_are_refused(good: Path, tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    folder = tmp_path_factory.mktemp("random")
    for path in good.iterdir():
        if path.name not in (name, SUM):
            (folder / path.name).symlink_to(path)
    (folder / name).write_bytes(data)
    refused(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "[" * 99_999,
                                   '{"weight_map": {"a": "../../etc/passwd"}}', '{"weight_map": {"a": "/etc/passwd"}}',
                                   '{"weight_map": {"a": ""}}', '{"weight_map": {}}', '{"weight_map": {"a": ["b"]}}',
                                   '{"weight_map": {"a": "lost.safetensors"}}'])  # fmt: skip
def test_a_wrong_index(folder: Path, index: str) -> None:
    (folder / "model.safetensors.index.json").write_text(index)
    refused(folder)


def test_a_foreign_tokenizer(folder: Path) -> None:
    """More pieces than the model has rows."""
    config = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    config["added_tokens"].append({"id": 4096, "content": "<new>", "single_word": False, "lstrip": False,
                                   "rstrip": False, "normalized": False, "special": True})  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(config), "utf-8")
    assert "4097" in refused(folder)


def test_a_pickle_is_never_opened(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    torch.save({"model.norm.weight": torch.ones(48)}, folder / "pytorch_model.bin")
    assert "safetensors" in refused(folder)
    source = (ROOT / "model" / "checkpoint.py").read_text("utf-8")
    assert "torch.load" not in source and "import pickle" not in source


def test_saving_again_replaces_both(folder: Path) -> None:
    checkpoint.save(build(C, seed=35), folder, TOKENIZER)
    assert gap(checkpoint.load(folder).norm.weight, build(C, seed=35).norm.weight) == 0
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", WEIGHTS, SUM, "tokenizer.json"]
