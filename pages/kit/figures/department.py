"""The department's pictures: every step of the receptionist, what is said in the consultation, and what changes do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from model import Interventions, Trace
from model.deepseek_v3 import choose
from pages.kit import plates, state
from pages.kit.building import letter
from pages.kit.chapter import Visit, equals, number, percent, sentences
from pages.kit.figures import common
from pages.kit.words import t

if TYPE_CHECKING:
    from model.study import InternRecord, SubjectTaste

ELSEWHERE = ("silence_heads", "close_records")  # what the heads and the triage desk have on their own pages
OFFERED = tuple(change for change in state.CHANGES if change not in ELSEWHERE)
OF_A_ROOM = ("dismiss", "force")
K = "num_experts_per_tok"


# -- the receptionist --------------------------------------------------------------------------------------------------


class Desk(NamedTuple):
    """What the receptionist of the followed floor did for the followed token. E rooms, G corridors, k called."""

    room: int  # the intern who is looked at: chosen by the visitor, else the one whose opinion counts most
    logits: Tensor  # (E,)
    scores: Tensor  # (E,)
    board: Tensor  # (E,) the selection bias
    choice: Tensor  # (E,) scores + board
    corridors: Tensor  # (G,) sum of the best two of each
    open: list[int]  # corridors, from the first one on
    called: list[int]  # rooms, best first
    raw: list[float]  # their scores
    weights: list[float]  # what their opinions are multiplied by


def desk(visit: Visit, room: int | None = None, trace: Trace | None = None) -> Desk:
    """The desk in the visit's trace, or in a changed one. `room`: who is looked at, where there is such a room."""
    trace, at = trace or visit.trace, (visit.department, visit.token)
    called, weights = trace.chosen[at].tolist(), trace.weights[at].tolist()
    known = room is not None and room < trace.config.n_routed_experts
    scores, choice = trace.scores[at], trace.choice_of(visit.token)[visit.department]
    return Desk(
        room if known else called[weights.index(max(weights))],
        trace.router_logits[at],
        scores,
        choice - scores,
        choice,
        trace.group_scores[at],
        sorted(trace.kept_groups[at].tolist()),
        called,
        trace.raw_weights[at].tolist(),
        weights,
    )


def runner_up(desk: Desk) -> int:
    """The best of those who were not called, whatever corridor the room lies in."""
    choice = desk.choice.clone()
    choice[desk.called] = -torch.inf
    return int(choice.argmax())


def told(desk: Desk) -> Callable[[str, Any], None]:
    """`tell` of the change's control. Who is called in is somebody who was not called already."""
    return partial(_told, runner_up(desk) if desk.room in desk.called else None)


def _told(other: int | None, name: str, change: str | None) -> None:
    state.put(name, change)
    if state.get(name) == "force" and other is not None:
        state.put("room", other)


class Unboarded(NamedTuple):
    """The choice that the same scores would have made with every crowding board at 0."""

    open: list[int]
    called: list[int]
    stay: list[int]  # called with and without the boards, in the order of the real choice
    gone: list[int]  # called only because of the boards
    instead: list[int]  # called only without them
    everywhere: int  # who would stay, over all departments, for the followed token
    of: int


def unboarded(visit: Visit, real: Desk) -> Unboarded:
    """Scores of this very pass, chosen from again without the boards (each department by itself)."""
    c, trace = visit.trace.config, visit.trace
    _, kept, called = choose(trace.scores[:, visit.token], c.n_group, c.topk_group, trace.chosen.shape[2])
    both = called.unsqueeze(2) == trace.chosen[:, visit.token].unsqueeze(1)  # (M, k, k)
    here = called[visit.department].tolist()
    return Unboarded(
        sorted(kept[visit.department].tolist()),
        here,
        [room for room in real.called if room in here],
        [room for room in real.called if room not in here],
        [room for room in here if room not in real.called],
        int(both.sum()),
        called.numel(),
    )


def listed(items: Iterable[object]) -> str:
    """Rooms or corridors in a sentence."""
    return t("department.comma").join(map(str, items)) or t("department.nobody")


def met(rooms: Sequence[int]) -> str:
    """How many rooms two patients share, and which."""
    return t("department.pair.met" if rooms else "department.pair.none", shared=len(rooms), rooms=listed(rooms))


def _size(visit: Visit) -> int:
    c = visit.trace.config
    return c.n_routed_experts // c.n_group


def _mask(visit: Visit, lit: Iterable[int], open: Iterable[int] | None = None) -> Tensor:
    """(E,) bits: who is lit, and, where corridors are told apart, who lies in a closed one."""
    c = visit.trace.config
    bits = torch.zeros(c.n_routed_experts, dtype=torch.uint8)
    if open is not None:
        closed = [g for g in range(c.n_group) if g not in set(open)]
        bits.view(c.n_group, -1)[closed] = plates.CLOSED
    bits[list(lit)] |= plates.LIT
    return bits


def _all(
    visit: Visit,
    name: str,
    values: Tensor,
    *,
    said: Mapping[str, object],
    leads: bool = False,
    height: int = 104,
    role: str = "intern",
    **more: object,
) -> plates.Plate:
    """A picture of all rooms. Words: `department.<name>.title`, `.alt`, `.note`, and `.from` where something leads to
    it; `said` are the values in them."""
    words = {"token": visit.name(), "floor": visit.floor, **said}
    return plates.bars(
        name,
        plates.rooms(visit.trace.config),
        values,
        title=t(f"department.{name}.title", **words),
        alt=t(f"department.{name}.alt", **words),
        note=t(f"department.{name}.note", **words),
        **({"from": t(f"department.{name}.from", **words)} if leads else {}),
        height=height,
        role=role,
        **more,
    )


def logits(visit: Visit, d: Desk) -> plates.Plate:
    """How well the record and each room's row agree."""
    value = number(float(d.logits[d.room]))
    return _all(visit, "logits", d.logits, said={"room": d.room, "logit": value})


def scores(visit: Visit, d: Desk) -> plates.Plate:
    """Sigmoid of each, by itself."""
    half = torch.sigmoid(torch.zeros(1))
    said = {
        "room": d.room,
        "score": number(float(d.scores[d.room])),
        "above": int((d.scores > half).sum()),
        "rooms": len(d.scores),
        "sum": number(float(d.scores.sum()), digits=1),
    }
    return _all(visit, "scores", d.scores, leads=True, domain=[0, 1], said=said)


def board(visit: Visit, d: Desk) -> plates.Plate:
    """The crowding boards of the floor."""
    said = {
        "room": d.room,
        "board": number(float(d.board[d.room])),
        "up": int((d.board > 0).sum()),
        "down": int((d.board < 0).sum()),
    }
    return _all(visit, "board", d.board, role="crowding", said=said)


def choice(visit: Visit, d: Desk) -> plates.Plate:
    """Score + board of all rooms."""
    said = {
        "room": d.room,
        "score": number(float(d.scores[d.room])),
        "board": number(float(d.board[d.room])),
        "choice": number(float(d.choice[d.room])),
    }
    return _all(visit, "choice", d.choice, leads=True, said=said)


def without(visit: Visit, d: Desk, u: Unboarded) -> plates.Plate:
    """Who the scores alone would have called."""
    roles = ["crowding" if room in u.instead else "intern" for room in range(len(d.scores))]
    key = [
        {"role": "intern", "text": t("department.without.stay")},
        {"role": "crowding", "text": t("department.without.instead")},
    ]
    said = {
        "same": len(u.stay),
        "k": len(d.called),
        "gone": listed(sorted(u.gone)),
        "instead": listed(sorted(u.instead)),
        "open": listed(map(letter, u.open)),
        "everywhere": u.everywhere,
        "of": u.of,
    }
    return _all(
        visit, "without", d.scores, mask=_mask(visit, u.called, u.open), roles=roles, key=key, domain=[0, 1], said=said
    )


def best_two(visit: Visit, d: Desk) -> list[list[int]]:
    """Rooms of the best two of every corridor (one, where a corridor has one room)."""
    size = _size(visit)
    places = d.choice.view(-1, size).topk(min(2, size), -1).indices
    return (places + torch.arange(0, len(d.choice), size)[:, None]).tolist()


def pairs(visit: Visit, d: Desk) -> plates.Plate:
    """Score + board of all rooms, the best two of every corridor lit."""
    pair = best_two(visit, d)
    lit = [room for two in pair for room in two]
    first = max(range(len(pair)), key=lambda g: float(d.corridors[g]))
    said = {
        "corridor": letter(first),
        "rooms": listed(pair[first]),
        "parts": " + ".join(number(float(d.choice[room])) for room in pair[first]),
        "equals": equals((float(d.choice[room]) for room in pair[first]), float(d.corridors[first])),
        "sum": number(float(d.corridors[first])),
    }
    return _all(visit, "pairs", d.choice, mask=_mask(visit, lit), lit=t("department.pairs.lit"), said=said)


def corridors(visit: Visit, d: Desk) -> plates.Plate:
    """Corridor scores; those that stay open are lit."""
    c = visit.trace.config
    bits = [plates.LIT if g in d.open else plates.CLOSED for g in range(c.n_group)]
    names = [letter(g) for g in range(c.n_group)]
    words = {"open": listed(map(letter, d.open)), "kept": c.topk_group, "corridors": c.n_group}
    return plates.bars(
        "corridors",
        plates.axis("corridor", c.n_group, names),
        d.corridors,
        mask=bits,
        lit=t("department.corridors.lit"),
        role="intern",
        height=120,
        title=t("department.corridors.title"),
        alt=t("department.corridors.alt", **words),
        note=t("department.corridors.note", **words),
        **{"from": t("department.corridors.from")},
    )


def missed(visit: Visit, d: Desk) -> int | None:
    """The best room behind a closed door; None where no corridor is closed."""
    closed = (_mask(visit, [], d.open) & plates.CLOSED).bool()
    return int(torch.where(closed, d.choice, -torch.inf).argmax()) if bool(closed.any()) else None


def rooms(visit: Visit, d: Desk) -> plates.Plate:
    """The choice: closed corridors at minus infinity, the best k called."""
    shut, last = missed(visit, d), d.called[-1]
    said = {"k": len(d.called), "called": listed(sorted(d.called))}
    plate = _all(visit, "rooms", d.choice, leads=True, mask=_mask(visit, d.called, d.open), said=said)
    if shut is not None:
        key = "better" if float(d.choice[shut]) > float(d.choice[last]) else "worse"
        behind = t(f"department.rooms.{key}", room=shut, choice=number(float(d.choice[shut])), last=last)
        plate["note"] = sentences(plate["note"], behind)
    return plate


def weights(visit: Visit, d: Desk) -> plates.Plate:
    """What each opinion is multiplied by; 0 for all who were not called."""
    all_rooms = torch.zeros(len(d.scores)).scatter_(0, torch.tensor(d.called), torch.tensor(d.weights))
    said = {
        "k": len(d.called),
        "total": number(sum(d.raw)),
        "scale": number(visit.trace.config.routed_scaling_factor, digits=1),
        "sum": number(sum(d.weights)),
    }
    return _all(visit, "weights", all_rooms, leads=True, mask=_mask(visit, d.called, d.open), said=said)


def called(visit: Visit, d: Desk) -> plates.Plate:
    """Those who were called, with every number that led there."""
    total = sum(d.raw)
    columns = ("corridor", "logit", "score", "board", "choice", "share", "weight")
    cells = [
        [
            letter(room // _size(visit)),
            float(d.logits[room]),
            float(d.scores[room]),
            float(d.board[room]),
            float(d.choice[room]),
            raw / total,
            weight,
        ]
        for room, raw, weight in zip(d.called, d.raw, d.weights, strict=True)
    ]
    return plates.table(
        "called",
        [t("department.room", room=room) for room in d.called],
        [{"label": t(f"department.called.{name}"), "percent": name == "share"} for name in columns],
        cells,
        axis={**plates.axis("room", len(d.called)), "indices": d.called},
        title=t("department.called.title"),
        note=t("department.called.note"),
    )


# -- the consultation --------------------------------------------------------------------------------------------------


class Consultation(NamedTuple):
    """What leaves the floor, in parts; each opinion with its weight already in it."""

    each: Tensor  # (k + S, d) the called, best first, then the nurse
    sum: Tensor  # (d,) what the trace says the floor added
    lengths: list[float]  # of each
    pulls: list[float]  # how far each goes in the direction of the sum, as a share of it; adds up to 1


def consultation(visit: Visit, each: Tensor) -> Consultation:
    """`each`: `Engine.opinions` of the followed floor and token."""
    total = visit.trace.ffn_output[visit.layer, visit.token]
    return Consultation(each, total, each.norm(dim=-1).tolist(), (each @ total / (total @ total)).tolist())


def speakers(visit: Visit, d: Desk) -> list[str]:
    """Who speaks in the consultation, in the order of `Consultation.each`."""
    shared = visit.trace.config.n_shared_experts
    nurses = [t("department.nurse")] if shared == 1 else [f"{t('department.nurse')} {i + 1}" for i in range(shared)]
    return [*(t("department.room", room=room) for room in d.called), *nurses]


def opinions(visit: Visit, d: Desk, con: Consultation) -> plates.Plate:
    """Every number of every opinion, and their sum."""
    names = [*speakers(visit, d), t("department.opinions.sum")]
    values = torch.cat([con.each, con.sum[None]])
    roles = ["intern"] * len(d.called) + ["nurse"] * visit.trace.config.n_shared_experts + ["patient"]
    words = {"token": visit.name(), "floor": visit.floor, "dims": len(con.sum)}
    return plates.grid(
        "opinions",
        plates.axis("part", len(names), names),
        plates.axis("dim", len(con.sum), offset=1),
        values,
        roles=roles,
        cell=22,
        left=92,
        title=t("department.opinions.title", **words),
        alt=t("department.opinions.alt", **words),
        note=t("department.opinions.note", **words),
    )


def _voices(visit: Visit, d: Desk, key: str, values: Sequence[float], **more: object) -> plates.Plate:
    """A list of those who speak; a row of an intern is his room."""
    shared = visit.trace.config.n_shared_experts
    indices = [*d.called, *[-1] * shared]
    return plates.rank(
        key,
        speakers(visit, d),
        values,
        axis={**plates.axis("room", len(indices)), "indices": indices},
        roles=["intern"] * len(d.called) + ["nurse"] * shared,
        width="half",
        title=t(f"department.{key}.title"),
        **more,
    )


def lengths(visit: Visit, d: Desk, con: Consultation) -> plates.Plate:
    """How long each opinion is."""
    note = t("department.lengths.note", all=number(sum(con.lengths)), sum=number(float(con.sum.norm())))
    return _voices(visit, d, "lengths", con.lengths, note=note)


def pulls(visit: Visit, d: Desk, con: Consultation) -> plates.Plate:
    """How much of what leaves each opinion made."""
    k = len(d.called)
    note = t("department.pulls.note", interns=percent(sum(con.pulls[:k])), nurse=percent(sum(con.pulls[k:])))
    return _voices(visit, d, "pulls", con.pulls, percent=True, note=note)


# -- what a change does ------------------------------------------------------------------------------------------------


def intervention(visit: Visit, change: str, room: int, k: int) -> Interventions:
    """The change as data. `room` is meant by dismiss and force, `k` by the number of the called."""
    here, spot = frozenset({visit.layer}), frozenset({(visit.layer, room)})
    if change == "dismiss":
        return Interventions(dismiss=spot)
    if change == "force":
        return Interventions(force=spot)
    if change == "silence_shared":
        return Interventions(silence_shared=here)
    if change == "silence_routed":
        return Interventions(silence_routed=here)
    if change == K:
        return Interventions(num_experts_per_tok=k)
    return Interventions(gate=change)


def twin(visit: Visit, d: Desk) -> int | None:
    """A room to do the same to: drawn from all that are in the same position (called, or not called, for the followed
    token on this floor). Always the same one for the same question; None where there is no other."""
    was_called = d.room in d.called
    pool = [r for r in range(len(d.scores)) if (r in d.called) == was_called and r != d.room]
    return min(pool, key=lambda r: hashlib.sha256(f"{visit.stamp()}.{d.room}.{r}".encode()).digest(), default=None)


class Case(NamedTuple):
    """A changed pass with its name."""

    name: str
    trace: Trace
    room: int | None = None  # whom it was done to, where it is done to one


def cases(visit: Visit, d: Desk, change: str, k: int) -> list[Case]:
    """The change, and where it is done to one intern, the same done to a random one. UserError for what cannot be."""

    both = [(d.room, change)]
    if change in OF_A_ROOM and (other := twin(visit, d)) is not None:
        both.append((other, f"{change}_random"))
    traces = visit.changed_each([intervention(visit, change, room, k) for room, _ in both])
    return [
        Case(t(f"department.case.{name}", room=room, k=k), trace, room if change in OF_A_ROOM else None)
        for (room, name), trace in zip(both, traces, strict=True)
    ]


def found(visit: Visit, d: Desk, change: str, done: Sequence[Case]) -> list[tuple[str, dict[str, object]]]:
    """What to say about it: words of `department.<...>` and the values in them."""
    c, first, new = visit.trace.config, outcome(visit, done[0].trace), desk(visit, d.room, done[0].trace)
    callers = int((visit.trace.chosen[visit.department] == d.room).any(-1).sum())
    position = t(f"department.position.{'called' if d.room in d.called else 'not_called'}", token=visit.name())

    def result(one: Outcome) -> dict[str, object]:
        return {
            "token": visit.name(),
            "same": one.same,
            "k": len(d.called),
            "moved": percent(one.moved),
            "word": one.word,
            "now": percent(one.probability),
            "word_was": one.word_was,
            "was": percent(one.was),
        }

    said: list[tuple[str, dict[str, object]]] = [
        (
            f"what.{'usual' if change == K and first.k == c.num_experts_per_tok else change}",
            {
                "room": d.room,
                "floor": visit.floor,
                "k": first.k,
                "departments": c.num_moe_layers,
                "callers": callers,
                "patients": len(visit.pieces),
            },
        ),  # fmt: skip
        ("done.yours", result(first)),
    ]
    if len(done) > 1:
        said.append(
            ("done.twin", {**result(outcome(visit, done[1].trace)), "room": done[1].room, "position": position})
        )
    elif change in OF_A_ROOM:
        said.append(("done.alone", {"position": position}))
    else:
        said.append((f"done.no_twin_{'nurse' if change == 'silence_shared' else 'all'}", {}))
    if change == "mask_with_zero":
        z = zeros(visit, d, done[0].trace)
        values = {"token": visit.name(), "floor": visit.floor, "open": z.open, "negative": z.negative,
                  "enough": z.open - z.negative, "k": len(d.called), "changed": f"{z.changed:,}",
                  "choices": f"{z.choices:,}"}  # fmt: skip
        said.append((f"zeros.{'some' if z.changed else 'none'}", values))
    elif change == "softmax":
        _, _, by_board = choose(d.board[None], c.n_group, c.topk_group, first.k)
        values = {"mean": number(float(new.scores.mean())), "low": number(float(d.board.min())),
                  "high": number(float(d.board.max())), "patients": len(visit.pieces), "floor": visit.floor,
                  "before": outcome(visit, visit.trace).woken, "now": first.woken, "token": visit.name(), "k": first.k,
                  "alone": len(set(by_board[0].tolist()) & set(new.called))}  # fmt: skip
        said.append(("crowd", values))
    elif change == "bias_in_weights" and (most := leak(d, new)):
        said.append(("leak", {"room": most.room, "was": number(most.was), "now": number(most.now),
                              "board": number(float(new.board[most.room]))}))  # fmt: skip
    return said


class Outcome(NamedTuple):
    """What a change did to the followed token, on the followed floor and at the end."""

    same: int  # of those called before, still called
    k: int  # called now
    moved: float  # distance of what the floor adds, over its length before
    top: float  # distance of the state after the last floor, over its length before
    woken: int  # different interns of this floor that the whole sentence calls now
    word: str  # the likeliest next token now
    probability: float
    word_was: str
    was: float  # its probability before


def outcome(visit: Visit, changed: Trace) -> Outcome:
    """The changed pass beside the untouched one."""
    trace, m, at, token = visit.trace, visit.department, visit.layer, visit.token
    added = trace.ffn_output[at, token]
    before, now = set(trace.chosen[m, token].tolist()), set(changed.chosen[m, token].tolist())
    found = common.answers(visit, changed)
    return Outcome(
        len(before & now),
        len(now),
        float((changed.ffn_output[at, token] - added).norm() / added.norm()),
        float(common.gaps(visit, changed)[-1]),
        int(changed.experts_touched_per_layer()[m]),
        found.after,
        found.now,
        found.before,
        found.was,
    )


def beside(visit: Visit, done: Sequence[Case]) -> plates.Plate:
    """The untouched pass, the changed one, and the same done to a random intern where that can be."""
    columns = ("same", "k", "woken", "moved", "top", "word", "probability")
    shares = ("moved", "top", "probability")
    rows = [Case(t("department.beside.untouched"), visit.trace), *done]
    return plates.table(
        "beside",
        [one.name for one in rows],
        [{"label": t(f"department.beside.{name}"), "percent": name in shares, "digits": 0} for name in columns],
        [[getattr(one, name) for name in columns] for one in (outcome(visit, case.trace) for case in rows)],
        title=t("department.beside.title", token=visit.name(), floor=visit.floor),
        note=t("department.beside.note", token=visit.name()),
    )


def now(visit: Visit, d: Desk, changed: Trace) -> plates.Plate:
    """Weights of all rooms after the change; before it, as a line."""
    new = desk(visit, d.room, changed)

    def spread(one: Desk) -> Tensor:
        return torch.zeros(len(d.scores)).scatter_(0, torch.tensor(one.called), torch.tensor(one.weights))

    said = {
        "came": listed(sorted(set(new.called) - set(d.called))),
        "left": listed(sorted(set(d.called) - set(new.called))),
        "open": listed(map(letter, new.open)),
    }
    key = [
        {"role": "intern", "text": t("department.now.after")},
        {"role": "ink", "mark": "line", "text": t("department.now.before")},
    ]
    plate = _all(
        visit, "now", spread(new), before=spread(d), mask=_mask(visit, new.called, new.open), key=key, said=said
    )
    if visit.layer in changed.interventions.silence_shared:  # whom the picture of the rooms cannot show
        plate["note"] = t("department.now.silent", note=plate["note"])
    return plate


def drift(visit: Visit, done: Sequence[Case]) -> plates.Plate:
    """How far the change travels, for each case."""
    gaps = [common.gaps(visit, case.trace) for case in done]
    here, top = (percent(float(gaps[0][layer])) for layer in (visit.layer, -1))
    return common.drift(
        visit,
        [(case.name, gap) for case, gap in zip(done, gaps, strict=True)],
        width="half",
        alt=t("department.drift.alt", top=top),
        note=t("department.drift.note", token=visit.name(), here=here, top=top),
    )


class Zeros(NamedTuple):
    """Whether a closed door at 0 instead of minus infinity can matter."""

    open: int  # rooms behind open doors, for the followed token on the followed floor
    negative: int  # of them, score + board below 0: a closed room at 0 would come before these
    changed: int  # choices of the whole sentence that the mistake changed: (floor, token) pairs
    choices: int


def zeros(visit: Visit, d: Desk, changed: Trace) -> Zeros:
    """What was found with the mistake `mask_with_zero`."""
    is_open = ~(_mask(visit, [], d.open) & plates.CLOSED).bool()
    before, after = visit.trace.chosen.sort(-1).values, changed.chosen.sort(-1).values
    differ = (before != after).any(-1)
    return Zeros(int(is_open.sum()), int((is_open & (d.choice < 0)).sum()), int(differ.sum()), differ.numel())


class Leak(NamedTuple):
    """The intern of this floor whose weight a leaking board changed most, of those called both times."""

    room: int
    was: float
    now: float


def leak(d: Desk, new: Desk) -> Leak | None:
    """What was found with the mistake `bias_in_weights`; None where nobody was called both times."""
    before, after = dict(zip(d.called, d.weights, strict=True)), dict(zip(new.called, new.weights, strict=True))
    both = [room for room in d.called if room in after]
    if not both:
        return None
    most = max(both, key=lambda room: abs(after[room] - before[room]))
    return Leak(most, before[most], after[most])


# -- two tokens --------------------------------------------------------------------------------------------------------


class Shared(NamedTuple):
    """Rooms that both of two tokens call."""

    here: list[int]  # on this floor
    everywhere: int  # over all departments
    of: int
    chance: float  # how many of k two blind draws of k from E would share on one floor


def other_token(visit: Visit, wanted: int | None) -> int:
    """The second token: the wanted one, else a neighbour of the followed one."""
    if wanted is not None and wanted < len(visit.pieces):
        return wanted
    return visit.token - 1 if visit.token else 1


def shared(visit: Visit, other: int) -> Shared:
    """Compared on every floor."""
    chosen = visit.trace.chosen
    both = chosen[:, visit.token].unsqueeze(2) == chosen[:, other].unsqueeze(1)  # (M, k, k)
    k = chosen.shape[2]
    mine = chosen[visit.department, visit.token].tolist()
    here = [room for room, hit in zip(mine, both[visit.department].any(1).tolist(), strict=True) if hit]
    return Shared(sorted(here), int(both.sum()), both.shape[0] * k, k * k / visit.trace.config.n_routed_experts)


def side(visit: Visit, token: int, common_rooms: Sequence[int], id: str) -> plates.Plate:
    """One token's rooms on this floor; those that the other calls too are marked."""
    at = (visit.department, token)
    rooms, weighed = visit.trace.chosen[at], visit.trace.weights[at]
    spread = torch.zeros(visit.trace.config.n_routed_experts).scatter_(0, rooms, weighed)
    words = {"token": visit.name(token), "floor": visit.floor, "rooms": listed(sorted(rooms.tolist()))}
    return plates.bars(
        id,
        plates.rooms(visit.trace.config),
        spread,
        mask=_mask(visit, rooms.tolist(), visit.trace.kept_groups[at].tolist()),
        roles=["patient" if room in common_rooms else "intern" for room in range(len(spread))],
        key=[
            {"role": "patient", "text": t("department.side.both")},
            {"role": "intern", "text": t("department.side.one")},
        ],
        height=90,
        title=t("department.side.title", **words),
        alt=t("department.side.alt", **words),
        note=t("department.side.note", **words),
    )


# -- what an intern likes ----------------------------------------------------------------------------------------------


def subject(name: str) -> str:
    """What a subject of the study is called; its own name where it has no words."""
    try:
        return t(f"department.subject.{name.replace(' ', '_')}")
    except KeyError:
        return name


def nearest(record: InternRecord) -> SubjectTaste | None:
    """The speciality, or else the subject that comes nearest to being one; None where no text called this intern."""
    if record.speciality is not None:
        return next(taste for taste in record.subjects if taste.name == record.speciality)
    return max(record.subjects, key=_above_chance, default=None)


def _above_chance(taste: SubjectTaste) -> float:
    return taste.share / taste.shuffled_high if taste.shuffled_high else taste.share


def against_chance(record: InternRecord) -> dict[str, float] | None:
    """The numbers of its equation; None where no text called this intern."""
    taste = nearest(record)
    if taste is None:
        return None
    return {
        "hits": taste.calls,
        "calls": record.calls - record.door_calls,
        "share": taste.share,
        "low": taste.low,
        "high": taste.high,
        "expected": taste.expected,
        "bound": taste.shuffled_high,
    }


def liking(record: InternRecord) -> tuple[str, dict[str, object]]:
    """The sentence that says it: words of `department.liking.<...>` and the values in them."""
    taste = nearest(record)
    if taste is None:
        return "nobody", {"door": f"{record.door_calls:,}"}
    return "found" if record.speciality else "none", {
        "subject": subject(taste.name),
        "share": percent(taste.share),
        "low": percent(taste.low),
        "high": percent(taste.high),
        "expected": percent(taste.expected),
        "bound": percent(taste.shuffled_high),
        "times": number(taste.share / taste.expected, digits=1),
    }


def subjects(record: InternRecord, n: int = 8) -> plates.Plate:
    """The subjects that stand out most, each beside what chance can reach."""
    first = sorted(record.subjects, key=_above_chance, reverse=True)[:n]
    return plates.rank(
        "subjects",
        [t("department.subjects.row", subject=subject(one.name), calls=f"{one.calls:,}") for one in first],
        [one.share for one in first],
        before=[one.shuffled_high for one in first],
        before_words="chance",
        low=[one.low for one in first],
        high=[one.high for one in first],
        domain=[0, max(max(one.high, one.shuffled_high) for one in first)],
        hints=[t("department.subjects.hint", expected=percent(one.expected)) for one in first],
        percent=True,
        role="intern",
        width="half",
        title=t("department.subjects.title"),
        note=t("department.subjects.note"),
    )


def favourites(visit: Visit, record: InternRecord) -> plates.Plate:
    """The tokens for which this intern is called most regularly."""
    return plates.rank(
        "favourites",
        [
            t("department.favourites.row", token=common.said(visit, one.id), calls=one.calls, seen=one.occurrences)
            for one in record.tokens
        ],
        [one.calls / one.occurrences for one in record.tokens],
        percent=True,
        role="patient",
        width="half",
        title=t("department.favourites.title"),
        note=t("department.favourites.note"),
    )
