"""The postal code: every number on the page is the trace's, computed here another way."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import screens
import torch
from screens import LANGUAGES, fine, prose, shown, skip

import model
from model import Interventions, ModelConfig
from model.study import LatentRank
from pages.kit import chapter, plates, service, words
from pages.kit.figures import postal

ROOT = Path(__file__).resolve().parents[1]
SENTENCE = {"en": "Shall we go and eat noodles tomorrow?", "zh": "明天我们一起去吃炸酱面吧?"}
DEPTHS = ["story", "maths", "code"]
LONG = "面 " * (model.MAX_TOKENS // 2)


@pytest.fixture
def page(monkeypatch, clinic_folder):
    """A visitor who opens the page; `page("en", s=..., floor=...)`. The clinic shows that no shape is built in."""

    def open_page(lang="en", folder=clinic_folder, study=None, **query):
        monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(folder))
        monkeypatch.setattr(service, "study", lambda: study)
        return screens.open_page("pages/postal.py", lang, **{"s": SENTENCE[lang], **query})

    return open_page


@pytest.fixture(scope="module")
def house(hospital_folder):
    return service.Hospital(model.load(hospital_folder))


@pytest.fixture(scope="module")
def clinic(clinic_folder):
    return service.Hospital(model.load(clinic_folder))


def floats(text):
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").copy())


def mask(plate):
    return torch.from_numpy(np.frombuffer(base64.b64decode(plate["mask"]), np.uint8).copy())


# -- it renders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("query", [
    {}, {"s": "a"}, {"s": LONG}, {"token": 0, "rank": 1}, {"floor": 1, "head": 999, "rank": 999}, {"s": "*<b>$x$_#"},
], ids=["example", "one", "long", "door", "beyond", "odd"])  # fmt: skip
def test_every_depth_in_both_languages(page, lang, depth, query):
    at = page(lang, depth=depth, **query)
    assert fine(at) and at.title[0].value == words.say(lang, "postal.title")
    at = skip(at)
    assert fine(at) and "picks" in shown(at)
    assert all(plate["alt"] for plate in shown(at).values())
    if depth == "maths":
        assert len(at.get("markdown")) >= 10 and not re.search(r"@\w+@", prose(at))
    if depth == "code":
        assert len(at.code) >= 14 and any("do.latent_rank" in block.value for block in at.code)


def test_the_hospital_itself(page, hospital_folder):
    at = page("zh", hospital_folder, rank=3)
    assert fine(at) and len(floats(shown(at)["seen"]["series"][0]["values"])) == 61


@pytest.mark.parametrize("bad", ["", "面 " * 400], ids=["empty", "long"])
def test_bad_text_is_a_sentence(page, bad):
    at = page("en")
    at.text_input[0].set_value(bad).run()
    assert not at.exception and len(at.error) == 1 and "code" in shown(at), "the last good sentence stays"


# -- the numbers -------------------------------------------------------------------------------------------------------

PLACES = [("en", 7, 31, 5), ("zh", 4, 61, 0), ("en", 0, 1, 15), ("zh", 8, 2, 9)]


@pytest.fixture(params=PLACES, ids=str)
def look(request, page, house, hospital_folder):
    """The page on the hospital, its trace, and where it looks: (at, trace, lang, token, layer, head)."""
    lang, token, floor, head = request.param
    at = skip(page(lang, hospital_folder, token=token, floor=floor, head=head))
    assert fine(at)
    return at, house.trace(SENTENCE[lang]), lang, token, floor - 1, head


def attention_of(house, layer):
    return house.live.engine.model.layers[layer].self_attn


def test_code_and_address(look, house):
    at, trace, lang, token, layer, _ = look
    plate, c = shown(at), trace.config
    assert torch.allclose(floats(plate["code"]["values"]), trace.memory[layer, token], atol=1e-6)
    opened = attention_of(house, layer).kv_b_proj(trace.memory[layer, token, : c.kv_lora_rank]).view(16, 64)
    assert torch.allclose(floats(plate["keys"]["values"]).view(16, 32), opened[:, :32], atol=1e-6)
    assert torch.allclose(floats(plate["values"]["values"]).view(16, 32), opened[:, 32:], atol=1e-6)
    assert floats(plate["scale"]["values"]).tolist() == [1024, 16, 8]
    assert "1,024" in prose(at) and "42.7" in prose(at)
    assert f"{1024 / 24:.1f}" in plate["scale"]["note"] and "64" in plate["scale"]["note"]


def test_what_the_code_can_see(look, house):
    at, trace, lang, token, layer, _ = look
    module = house.live.engine.model.layers[layer]
    rows = module.self_attn.kv_a_proj_with_mqa.weight[:16].double()
    state = module.input_layernorm(trace.hidden[layer, token]).double()
    seen = torch.linalg.lstsq(rows.T, state).solution @ rows
    share = f"{float(seen.square().sum() / state.square().sum()):.1%}"
    assert share in prose(at) and share in shown(at)["seen"]["note"]
    assert floats(shown(at)["seen"]["series"][2]["values"]).tolist() == [0.25] * 61
    gap = re.search(r"\d\.\d\s×\s10⁻(\S)[)）]", prose(at))
    assert gap and gap.group(1) in "⁶⁷⁸⁹", "what is opened closes again"


def test_lookup(look):
    at, trace, lang, token, layer, head = look
    plate = shown(at)
    content, place = trace.attention_scores(layer)
    scores = (content + place)[head, token, : token + 1]
    both = floats(plate["scores"]["values"]).view(2, -1)
    assert torch.allclose(both[0], scores, atol=1e-5) and torch.allclose(both[1], scores, atol=1e-4)
    weights = trace.attention(layer)[head, token, : token + 1]
    assert torch.allclose(floats(plate["weights"]["values"]), weights, atol=1e-6)
    answers = floats(plate["answers"]["values"]).view(2, -1)
    assert torch.allclose(answers[0], answers[1], atol=1e-5)
    values = floats(plate["values"]["values"]).view(16, 32)[head]
    if token == 0:
        assert torch.allclose(answers[0], values, atol=1e-5), "only one value to blend"
        assert words.say(lang, "postal.lookup.alone") in plate["weights"]["note"]
    else:
        most = float(weights.max())
        assert f"{most:.1%}" in prose(at) and f"{1 - most:.1%}" in plate["weights"]["note"]


def test_nearest(look, house):
    at, trace, lang, token, layer, head = look
    plate, c, module = shown(at), trace.config, house.live.engine.model.layers[layer]
    attention = module.self_attn
    # Everything again in double precision, by the report's own equations, head by head.
    state = module.input_layernorm(trace.hidden[layer, token])
    q = (attention.q_b_proj(attention.q_a_layernorm(attention.q_a_proj(state)))).view(16, 40).double()
    angle = torch.tensor([token * c.rope_theta ** (-2 * i / 8) for i in range(4)], dtype=torch.float64)
    a, b = q[:, 32::2].clone(), q[:, 33::2].clone()
    q[:, 32::2], q[:, 33::2] = a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()
    opened = attention.kv_b_proj(trace.memory[layer, : token + 1, :16]).view(-1, 16, 64)[..., :32].double()
    k = torch.cat([opened, trace.memory[layer, : token + 1, None, 16:].double().expand(-1, 16, -1)], -1)
    product = [max(range(token + 1), key=lambda s: float(q[h] @ k[s, h])) for h in range(16)]
    nearest = [min(range(token + 1), key=lambda s: float((q[h] - k[s, h]).norm())) for h in range(16)]
    talk = [min(range(token + 1), key=lambda s: abs(float(q[h] @ q[h] - k[s, h] @ k[s, h]))) for h in range(16)]
    agree = sum(p == n for p, n in zip(product, nearest, strict=True))
    assert words.say(lang, "postal.agree.answer", agree=agree, heads=16) in prose(at)
    heard = words.say(lang, "postal.near.all_note", agree=agree, heads=16,
                      talk=sum(p == s for p, s in zip(product, talk, strict=True)))  # fmt: skip
    assert plate["picks"]["note"] == heard
    framed = mask(plate["picks"]).view(16, -1)
    assert framed.argmax(1).tolist() == nearest and (framed.sum(1) == plates.LIT).all()
    assert int(mask(plate["distances"]).argmax()) == nearest[head]
    assert int(mask(plate["products"]).argmax()) == product[head]
    slow = torch.stack([(q[head] - k[s, head]).norm() for s in range(token + 1)]).float()
    assert torch.allclose(floats(plate["distances"]["values"]), slow, atol=1e-4)


def test_meter(look):
    at, trace, lang, token, *_ = look
    plate, tokens = shown(at)["meter"], len(trace.ids)
    lines = [floats(one["values"]).tolist() for one in plate["series"]]
    assert lines[0] == [61 * 24 * 4 * n for n in range(1, tokens + 1)], "the latent, counted on the tensors"
    assert lines[0][-1] == trace.memory.nbytes
    assert lines[1][0] == 61 * 2 * 16 * 32 * 4 and lines[2][0] == lines[1][0] / 2 and lines[3][0] == lines[1][0] / 16
    for line in lines:
        assert f"{int(line[token]):,}" in plate["note"]
    assert f"{61 * 24 * 4 * (token + 1):,}" in prose(at)
    v3 = shown(at)["v3"]
    assert v3["values_list"] == pytest.approx([9.210691584, 523.986, 32.749, 4.0936], rel=1e-4)
    assert all(text in v3["note"] for text in ("9.21", "524", "56.9", "2.25", "0.38"))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_meter_names_a_shortened_code(page, hospital_folder, lang):
    """The meter counts the whole code; what the length of the slider would take stands beside it, and only then."""
    taken, whole = f"**{61 * (5 + 8) * 4 * 4:,}**", f"**{61 * (16 + 8) * 4 * 4:,}**"
    note = shown(page(lang, hospital_folder, token=3, rank=5))["meter"]["note"]
    assert whole in note and taken in note and note.index(whole) < note.index(taken)
    assert taken not in shown(page(lang, hospital_folder, token=3))["meter"]["note"]


def test_turning(look, house):
    at, trace, lang, token, layer, head = look
    line = floats(shown(at)["turning"]["series"][0]["values"])
    assert len(line) == len(trace.ids) and line[0] == 0
    assert f"{float(line[1]):.1%}" in prose(at) and f"{float(line[-1]):.1%}" in shown(at)["turning"]["note"]


# -- predict first -----------------------------------------------------------------------------------------------------


def test_nothing_gives_the_answer_away(page, hospital_folder):
    at = page("en", hospital_folder)
    assert not {"picks", "distances", "products"} & set(shown(at))
    assert "of 16." not in prose(at)
    ranges = [b for b in at.button if re.fullmatch(r"\d+ to \d+", b.label)]
    assert [b.label for b in ranges] == ["0 to 4", "5 to 10", "11 to 16"]
    at = ranges[1].click().run()
    agree = int(re.search(r"In (\d+) of 16\.", prose(at)).group(1))
    right = words.say("en", "chapter.right" if 5 <= agree <= 10 else "chapter.wrong")
    assert right.strip("*") in prose(at) and "picks" in shown(at)


@pytest.mark.parametrize("heads", [1, 2, 4, 16, 128])
def test_every_count_is_in_one_range(heads):
    for agree in range(heads + 1):
        found = SimpleNamespace(heads=heads, agree=agree)
        ranges = postal.Nearest.thirds.fget(found)
        found.thirds = ranges
        inside = [i for i, (low, high) in enumerate(ranges) if low <= agree <= high]
        assert inside == [postal.Nearest.right.fget(found)]


# -- a shorter code ----------------------------------------------------------------------------------------------------


def test_whole_code_runs_nothing_again(page, clinic_folder, monkeypatch):
    asked = []
    original = service.Hospital.trace
    monkeypatch.setattr(service.Hospital, "trace", lambda self, *a: asked.append(a[1:]) or original(self, *a))
    for query in ({}, {"rank": 16}, {"rank": 99}):
        at = page("en", **query)
        assert fine(at) and not any(any(more) for more in asked)
        assert "before_list" not in shown(at)["next"]
        assert words.say("en", "postal.shorten.whole", whole=16) in prose(at)
    page("en", rank=15)
    assert (Interventions(latent_rank=15),) in asked


@pytest.mark.parametrize("lang,rank", [("en", 4), ("zh", 1), ("zh", 15)])
def test_shorter_code(page, house, hospital_folder, lang, rank):
    at = page(lang, hospital_folder, rank=rank, token=7)
    old, new = house.trace(SENTENCE[lang]), house.trace(SENTENCE[lang], Interventions(latent_rank=rank))
    plate = shown(at)
    best = new.logits[7].softmax(-1).sort(descending=True)
    assert plate["next"]["values_list"] == pytest.approx(best.values[:5].tolist(), abs=1e-6)
    was = old.logits[7].softmax(-1)[best.indices[:5]].tolist()
    assert plate["next"]["before_list"] == pytest.approx(was, abs=1e-6)
    same = old.logits.argmax(1) == new.logits.argmax(1)
    for most in (best.values[0], old.logits[7].softmax(-1).max()):
        assert chapter.percent(float(most)) in prose(at)
    answers = plate["answers_of_all"]
    said = "postal.answers.stay" if same.all() else "postal.answers.note"  # of frames only where there is one
    assert answers["note"] == words.say(lang, said, same=int(same.sum()), all=len(same))
    assert torch.equal(mask(answers).view(2, -1)[1].bool(), ~same) and not mask(answers).view(2, -1)[0].any()
    assert torch.allclose(floats(answers["values"]).view(2, -1)[1], new.logits.softmax(-1).max(-1).values, atol=1e-6)
    assert len(answers["texts"]) == 2 * len(same)


def test_shortening_leaves_the_model_alone(page, clinic, clinic_folder):
    before = clinic.live.engine.forward(clinic.live.encode("Doctor"))[0]
    page("en", clinic_folder, rank=1)
    assert torch.equal(clinic.live.engine.forward(clinic.live.encode("Doctor"))[0], before)


def a_study():
    """As `load_study` would give it, with losses that are easy to recognise."""
    ranks = np.arange(1, 17)
    loss = 4.1 - 0.1 * ranks
    return SimpleNamespace(
        latent_rank=LatentRank(ranks, loss, loss - 0.05, loss + 0.05, 0.19 + 0.01 * ranks, 12_345, 67)
    )


def test_recorded_loss_is_shown_beside(page):
    at = page("en", study=a_study(), rank=3)
    plate = shown(at)["held_out"]
    assert floats(plate["series"][0]["values"]).tolist() == pytest.approx(a_study().latent_rank.loss.tolist())
    assert all(text in plate["note"] for text in ("12,345", "67", "3.800", "22.0%", "2.500"))
    assert plate["axes"][0]["name"] == "rank" and plate["axes"][0]["offset"] == 1
    assert "held_out" not in shown(page("en"))


def test_a_checkpoint_without_a_study_has_none(monkeypatch, clinic_folder):
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))
    assert service.study() is None


# -- small things ------------------------------------------------------------------------------------------------------


def test_small_numbers():
    assert (
        postal.tiny(2.96e-7) == "3.0\u00a0×\u00a010⁻⁷"
        and postal.tiny(0.0) == "0"
        and postal.tiny(12.0) == "1.2\u00a0×\u00a010¹"
    )
    assert postal.tex_tiny(2.96e-7) == r"3.0 \times 10^{-7}"


def test_the_head_is_in_the_link(page):
    at = page("en", head=3)
    part = next(screens.sent(c) for c in at.get("bidi_component") if b"step_head" in c.proto.bytes)
    assert part["picked"]["head"] == 3 and set(part["picks"]) >= {"head", "token", "floor"}
    assert at.query_params["head"] in ("3", ["3"])


def test_no_number_of_the_published_model_is_made_up():
    c = ModelConfig.preset("deepseek-v3")
    assert postal.sizes(c) == (32_768, 512, 64) and postal.sizes(c).code == 576
    for lang in LANGUAGES:
        said = words.say(lang, "postal.bend.number.true")
        assert "32,768" in said and "512 + 64" in said
        absorbed = 2 * c.kv_lora_rank + c.qk_rope_head_dim
        opened = c.qk_head_dim + c.v_head_dim
        assert f"{absorbed:,}" in words.say(lang, "postal.bend.speed.true") and str(opened) in words.say(
            lang, "postal.bend.speed.true"
        )
