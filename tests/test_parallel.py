"""Expert parallelism: as many processes as there are, the same logits; what is counted is what was sent; nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import SMALL, build, gap, one_sentence, some_ids

from model import checkpoint, crossings, parallel
from model.__main__ import main
from model.config import ModelConfig
from model.deepseek_v3 import MoE
from model.engine import Engine
from model.errors import UserError

V3 = ModelConfig.preset("deepseek-v3")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SENTENCES = [some_ids(SMALL, count, seed) for seed, count in enumerate((9, 1, 14))]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    checkpoint.save(build(SMALL), folder, fp8=False)
    return folder


@pytest.fixture(scope="module")
def engine(small) -> Engine:
    return Engine(checkpoint.load(small))


@pytest.fixture(scope="module")
def runs(small) -> list[parallel.Run]:
    """One run of groups of one to four; sixteen experts do not share out evenly in three."""
    return parallel.run(SENTENCES, [1, 2, 3, 4], small, rounds=2)


def others() -> list[str]:
    """Command lines of processes that take part in a run, and are no zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line, state = (folder / "cmdline").read_bytes(), (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if b"model.parallel" in line and state != "Z":
            found.append(folder.name)
    return found


def descendants(pid: int) -> set[int]:
    kids = {int(child) for task in Path(f"/proc/{pid}/task").glob("*") for child in (task / "children").read_text().split()}
    return kids.union(*map(descendants, kids)) if kids else kids


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def soon(true, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return bool(true())


# -- the same answer ----------------------------------------------------------------------------------------------------


def test_every_group_gives_the_logits_of_one_process(runs, engine):
    for run in runs:
        assert run.tokens == tuple(map(len, SENTENCES))
        assert parallel.largest_gap(run, runs[0]) < 1e-5 and parallel.other_calls(run, runs[0]) == 0
        for ids, logits, chosen in zip(SENTENCES, run.logits, run.chosen, strict=True):
            trace = engine.trace(ids)
            assert gap(logits, trace.logits) < 1e-5, "and of the engine, which walks them one by one"
            assert (chosen.sort(-1).values == trace.chosen.sort(-1).values).all()


def test_the_hospital_in_two_and_in_four(hospital_folder):
    ids = [some_ids(ModelConfig.preset("hospital"), n, n) for n in (6, 4)]
    one, two, four = parallel.run(ids, [1, 2, 4], hospital_folder, rounds=1)
    for run in (two, four):
        assert parallel.near(run, one) and parallel.other_calls(run, one) == 0
    held = [run.parts[0].weights for run in (one, two, four)]
    c = ModelConfig.from_json(hospital_folder / "config.json")
    expert = 3 * c.hidden_size * c.moe_intermediate_size * 4
    assert held[0] - held[1] == c.num_moe_layers * c.n_routed_experts // 2 * expert, "half of the experts are elsewhere"
    assert held[1] - held[2] == c.num_moe_layers * c.n_routed_experts // 4 * expert
    if sys.platform == "linux":
        assert all(0 < part.fair <= part.peak for run in (one, two, four) for part in run.parts)
        assert max(part.fair for part in four.parts) < one.parts[0].fair


def test_shares_need_not_be_even(runs):
    expert = 3 * SMALL.hidden_size * SMALL.moe_intermediate_size * 4 * SMALL.num_moe_layers
    held = [part.weights for part in runs[2].parts]
    assert held == [held[0], held[0], held[0] + expert], "5, 5 and 6 of 16"


def test_a_gap_and_another_choice_would_be_seen(runs):
    one = runs[0]
    logits = (one.logits[0] + 0.25, *one.logits[1:])
    chosen = one.chosen[0].clone()
    chosen[0, 0, 0] = (set(range(SMALL.n_routed_experts)) - set(chosen[0, 0].tolist())).pop()
    other = parallel.Run(2, one.tokens, 0.0, 0.0, 0.0, one.parts, logits, (chosen, *one.chosen[1:]))
    assert parallel.largest_gap(one, other) == pytest.approx(0.25) and parallel.other_calls(one, other) == 1
    assert parallel.near(one, one) and not parallel.near(one, other)
    little = replace(one, logits=(one.logits[0] + 2 * parallel.TOLERANCE * max(float(x.abs().max()) for x in one.logits), *one.logits[1:]))
    assert not parallel.near(one, little)


# -- what is counted is what was sent -----------------------------------------------------------------------------------


def counted(chosen: torch.Tensor, c: ModelConfig, buildings: int, home: int) -> int:
    """Pairs of a token and a building that is not its home, one by one."""
    limits = crossings.bounds(c.n_routed_experts, buildings)
    pairs = set()
    for layer, tokens in enumerate(chosen.tolist()):
        for token, experts in enumerate(tokens):
            for expert in experts:
                building = next(b for b in range(buildings) if limits[b] <= expert < limits[b + 1])
                if building != home:
                    pairs.add((layer, token, building))
    return len(pairs)


def test_bytes_sent_are_the_counted_crossings(runs, engine):
    freight = crossings.live_freight(SMALL)
    for run in runs:
        size = run.processes
        expected = 0
        for i, ids in enumerate(SENTENCES):
            chosen = engine.trace(ids).chosen
            mine = counted(chosen, SMALL, size, i % size)
            called = crossings.calls(chosen, SMALL.n_routed_experts, size)
            assert int(crossings.crossings(called, i % size).sum()) == mine
            expected += mine
        assert run.crossed == expected and (expected > 0) == (size > 1)
        assert sum(part.dispatched for part in run.parts) == expected * freight.dispatch
        assert sum(part.combined for part in run.parts) == expected * freight.combine
        assert run.sent == expected * freight.both
        assert all(part.announced == SMALL.num_moe_layers * (size - 1) * 8 for part in run.parts)


def test_time_is_shared_out_completely(runs):
    for run in runs:
        assert run.low <= run.seconds <= run.high
        assert max(part.computing + part.packing + part.sending for part in run.parts) == pytest.approx(run.seconds)
        assert all(part.computing > 0 and (part.sending > 0 or run.processes == 1) for part in run.parts)


def test_a_process_without_a_sentence_still_serves(runs):
    four = runs[3]
    assert four.parts[3].dispatched == 0 and four.parts[3].combined > 0, "three sentences, four processes"


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_sums_are_rounded_alike_however_they_are_shared_out(blocks):
    parts = torch.randn(500, blocks, 8, generator=torch.Generator().manual_seed(blocks))
    whole = parallel.add_up(parts)
    assert gap(whole, parts.sum(1)) < 1e-5
    if blocks == 4:
        halves = torch.stack([parallel.add_up(parts[:, :2]), parallel.add_up(parts[:, 2:])], 1)
        assert torch.equal(parallel.add_up(halves), whole), "bit for bit"
        assert not torch.equal(parts[:, 0] + parts[:, 1] + parts[:, 2] + parts[:, 3], whole), "the order matters"


# -- counting -----------------------------------------------------------------------------------------------------------


def test_buildings_are_corridors_where_there_are_as_many():
    where = crossings.building_of(V3.n_routed_experts, V3.n_group)
    assert where.tolist() == [e // 32 for e in range(256)]
    assert crossings.building_of(7, 3).tolist() == [0, 0, 1, 1, 2, 2, 2]
    for wrong in (0, 8):
        with pytest.raises(ValueError):
            crossings.bounds(7, wrong)


def test_who_drives_where_by_hand():
    chosen = torch.tensor([[[0, 1, 2, 9], [4, 5, 6, 7], [15, 3, 8, 12]]])  # 16 experts in 4 buildings
    called = crossings.calls(chosen, 16, 4)
    assert called.tolist() == [[[3, 0, 1, 0], [0, 4, 0, 0], [1, 0, 1, 2]]]
    assert crossings.crossings(called, 0).tolist() == [[1, 1, 2]]
    assert crossings.crossings(called, 1).tolist() == [[2, 0, 3]]
    assert crossings.crossings(called, torch.tensor([0, 1, 3])).tolist() == [[1, 0, 2]], "each from its own home"
    assert crossings.spread(called).tolist() == [0, 1, 1, 1, 0]
    assert crossings.parties(called, 4).tolist() == [6, 3, 1, 1, 1]


def test_the_rule_closes_buildings_and_nothing_else(engine):
    trace = engine.trace(SENTENCES[2])
    free = crossings.without_limit(trace.choice_scores, SMALL.num_experts_per_tok)
    order = trace.choice_scores.sort(-1, descending=True).indices[..., : SMALL.num_experts_per_tok]
    assert (free.sort(-1).values == order.sort(-1).values).all()
    kept = crossings.calls(trace.chosen, SMALL.n_routed_experts, SMALL.n_group) > 0
    assert int(kept.sum(-1).max()) <= SMALL.topk_group
    assert (crossings.calls(free, SMALL.n_routed_experts, SMALL.n_group) > 0).sum(-1).max() > SMALL.topk_group


def test_published_figures():
    assert crossings.v3_freight(V3) == (7168 + 4 * 56, 14336)
    assert crossings.experts_for_free() == pytest.approx(3.2)
    assert round(V3.topk_group * crossings.experts_for_free()) == 13
    assert crossings.exchange_seconds() * 1e6 == pytest.approx(120.96)
    assert crossings.token_seconds() * 1e3 == pytest.approx(14.76, abs=0.005)
    assert int(1 / crossings.token_seconds()) == 67
    assert crossings.live_freight(ModelConfig.preset("hospital")) == (4 * (64 + 16), 4 * 64)


# -- a share of a checkpoint --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["compact", "fp8", "published"])
def test_a_share_holds_its_experts_and_everything_else(tmp_path, layout):
    whole = build(SMALL)
    if layout == "published":
        checkpoint.export(whole, tmp_path)
    else:
        checkpoint.save(whole, tmp_path, fp8=layout == "fp8")
    whole, share = checkpoint.load(tmp_path), checkpoint.load_share(tmp_path, range(5, 9))
    expected = whole.state_dict()
    for name, tensor in share.state_dict().items():
        full = expected[name]
        if ".experts." in name:
            full = torch.cat([full[5:9], full[SMALL.n_routed_experts :]])
        assert torch.equal(tensor, full), name
    assert share.mtp is None and not any(p.requires_grad for p in share.parameters())
    assert all(len(layer.mlp.experts.down) == 5 for layer in share.layers if isinstance(layer.mlp, MoE))


# -- whatever happens, nothing is left ----------------------------------------------------------------------------------


def test_passes_are_told_one_by_one_and_a_pause_holds_them(small):
    """Every timed pass of every group, in order, as the median is taken of; none begins while the run is paused, and
    that time is not counted."""
    heard: dict[int, list[float]] = {1: [], 2: []}
    pause = {"until": 0.0, "had": 0}

    def passed(size: int, clocks: list[dict]) -> None:
        assert len(clocks) == size
        heard[size].append(max(one["computing"] + one["packing"] + one["sending"] for one in clocks))

    def paused() -> bool:
        now = time.monotonic()
        if heard[2] and not pause["until"]:
            pause["until"] = now + 1.5
        if pause["until"] - 0.7 < now < pause["until"]:  # what was under way has been heard of
            pause["had"] = pause["had"] or len(heard[2])
            assert len(heard[2]) == pause["had"], "it rests"
        return now < pause["until"]

    one, two = parallel.run(SENTENCES, [1, 2], small, rounds=10**6, enough=0.8, passed=passed, paused=paused, seconds=60)
    assert 0 < pause["had"] < len(heard[2])
    for run in (one, two):
        told = heard[run.processes]
        assert len(told) >= parallel.LEAST and sum(told) >= 0.5
        assert (min(told), max(told)) == (run.low, run.high) and sorted(told)[(len(told) - 1) // 2] == run.seconds


def test_too_long_is_ended(small):
    before = set(others())
    with pytest.raises(UserError) as error:
        parallel.run(SENTENCES, [2], small, rounds=100_000, seconds=0.3)
    assert error.value.key == "parallel_too_long" and one_sentence(error)
    assert soon(lambda: set(others()) <= before)


def listening(pids: set[int]) -> set[str]:
    """Local addresses on which these processes wait for connections."""
    inodes, found = set(), set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(os.readlink(fd).removeprefix("socket:[").rstrip("]"))
            except OSError:
                continue
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            row = line.split()
            if row[3] == "0A" and row[9] in inodes:
                found.add(row[1])
    return found


@linux
def test_stop_ends_it_and_only_the_loopback_address_was_listened_on(small):
    heard: set[str] = set()
    family: set[int] = set()

    def stop() -> bool:
        family.update(mine := descendants(os.getpid()) - before)
        heard.update(listening(mine))
        return len(heard) >= 2

    before = descendants(os.getpid())
    with pytest.raises(parallel.Stopped):
        parallel.run(SENTENCES, [2], small, rounds=100_000, stop=stop)
    assert {address.split(":")[0] for address in heard} <= {"0100007F", "0" * 24 + "01000000"}, "127.0.0.1, ::1"
    assert len(family) >= 3 and soon(lambda: not any(map(alive, family)))


@linux
@pytest.mark.parametrize("victim", ["first", "one of the group"])
def test_one_that_is_killed_takes_the_others_along(small, victim):
    """SIGKILL: nobody can tidy up after itself."""
    before, family = descendants(os.getpid()), set()

    def kill() -> bool:
        mine = descendants(os.getpid()) - before
        if len(mine) == 3 and not family:  # the first process, and two that it forked
            family.update(mine)
            first = next(pid for pid in mine if descendants(pid))
            os.kill(first if victim == "first" else max(mine - {first}), signal.SIGKILL)
        return False

    with pytest.raises(UserError) as error:
        parallel.run(SENTENCES, [2], small, rounds=100_000, stop=kill)
    assert error.value.key == "parallel_failed" and family and soon(lambda: not any(map(alive, family)))


@linux
def test_all_end_when_who_started_them_is_killed(small):
    code = f"from model import parallel; parallel.run({SENTENCES!r}, [2], {str(small)!r}, rounds=100_000)"
    starter = subprocess.Popen([sys.executable, "-c", code], cwd=parallel.ROOT, stderr=subprocess.DEVNULL)
    try:
        assert soon(lambda: len(descendants(starter.pid)) == 3, 120)
        family = descendants(starter.pid)
        starter.kill()
        assert soon(lambda: not any(map(alive, family)))
    finally:
        starter.kill()
        starter.wait()


@pytest.mark.parametrize("size,sentences,key", [
    (0, SENTENCES, "parallel_processes"), (5, SENTENCES, "parallel_processes"), (2, [], "empty_text"),
    (2, [[]], "empty_text"), (2, [[2] * 257], "too_long"),
])  # fmt: skip
def test_what_cannot_be_run_is_refused_before_anything_starts(small, size, sentences, key):
    with pytest.raises(UserError) as error:
        parallel.run(sentences, [size], small)
    assert error.value.key == key and one_sentence(error)


def test_no_checkpoint_is_said_before_anything_starts(tmp_path):
    with pytest.raises(UserError) as error:
        parallel.run(SENTENCES, [2], tmp_path / "nowhere")
    assert one_sentence(error)


def test_the_command(clinic_folder, capsys):
    assert main(["parallel", "明天见。", "Good morning.", "--processes", "2", "--rounds", "1", "--json",
                 "--checkpoint", str(clinic_folder)]) == 0  # fmt: skip
    said = json.loads(capsys.readouterr().out)
    assert said["passed"] and said["largest_gap"] < 1e-5 and [run["processes"] for run in said["runs"]] == [1, 2]
    assert said["runs"][1]["sent"] > said["runs"][0]["sent"] == 0
    assert main(["parallel", " ", "--processes", "2"]) == 2
    assert "empty" in capsys.readouterr().err
