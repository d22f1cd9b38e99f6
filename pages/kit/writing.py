"""At the discharge desk: a text that is written token by token, how each token was drawn, and guessing ahead.

What takes a while does not run where it shows: the functions that draw give it back, and `fill` runs it at the end,
with the whole page standing. No fragments: what is clicked in one waits until a run is over, and Stop must not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from model.generate import SamplingSettings
from pages.kit import ask, chapter, plates, shell, state
from pages.kit.chapter import number, tex_text
from pages.kit.code import source
from pages.kit.figures import discharge
from pages.kit.figures.discharge import Desk, Written
from pages.kit.words import t

PATH, OLDER, AHEAD, MOVED, TROUBLE = (f"discharge.{what}" for what in ("path", "older", "ahead", "moved", "trouble"))
Work = Callable[[], None]


def fill(desk: Desk, sheet: DeltaGenerator, guessing: DeltaGenerator) -> None:
    """Draw in both places what there is, then do the first thing that is missing. Where that failed it is said."""
    where, trouble = st.session_state.pop(TROUBLE, (None, None))
    missing: dict[str, Work] = {}
    for name, area, draw in (("sheet", sheet, writing), ("guessing", guessing, ahead)):
        with area:
            if work := draw(desk):
                missing[name] = work
            if name == where:
                shell.complain(trouble)
    if missing:
        name, work = next(iter(missing.items()))
        try:
            work()
        except Exception as error:
            st.session_state[TROUBLE] = (name, error)
        st.rerun()


def kept(what: str, desk: Desk, nothing: Any) -> Any:
    """What this visit keeps about this sentence: values that nobody writes to, so that a run which is just being
    stopped cannot disturb the next one."""
    ids, value = st.session_state.get(what, (None, None))
    return value if ids == desk.start.ids else nothing


def keep(what: str, desk: Desk, value: object) -> None:
    """Keep it, as long as the sentence is the same."""
    st.session_state[what] = (desk.start.ids, value)


# -- writing -----------------------------------------------------------------------------------------------------------


def writing(desk: Desk) -> Work | None:
    """The text, what can be done with it, and how the looked-at token was drawn; then what writes the rest of it."""
    settings, forced = discharge.how(), discharge.taken()
    wanted, written = min(state.get("written"), desk.room), standing(desk)
    unfinished = len(written.draws) < wanted and not written.ended
    place = st.empty()
    place.html(paper(desk, written, unfinished))
    buttons(desk, written, unfinished)
    if written.draws:
        look(desk, written)
    how_drawn(desk, written, settings, forced)
    return partial(write_on, desk, len(written.draws), place, wanted) if unfinished else None


def write_on(desk: Desk, shown: int, place: DeltaGenerator, wanted: int) -> None:
    """The missing tokens, one after the other. Whatever the visitor does meanwhile ends this at the next token."""
    draws = []
    try:
        steps = desk.house.generate(desk.start, kept(PATH, desk, ()), discharge.how(), discharge.taken(), wanted)
        for result, walked in steps:
            draws.append(result)
            if len(draws) > shown:
                keep(PATH, desk, walked)
                place.html(paper(desk, Written(tuple(draws), None, walked, False), True))
    except Exception:  # the house is full, say: what stands there stays, and the rest is not asked for by itself
        state.put("written", max(len(draws), shown))
        raise
    state.put("written", len(draws))


def paper(desk: Desk, written: Written, running: bool) -> str:
    """The sheet with the text, what it was before a change, and a line on how it is going."""
    older, ids = kept(OLDER, desk, ()), written.ids
    how = "ended" if written.ended else "still" if ids or running else "empty" if desk.room else "full"
    status = t(f"discharge.paper.{how}", tokens=len(ids) - written.ended, most=desk.room)
    if written.pace:
        status = t("discharge.paper.pace", status=status, pace=number(written.pace, digits=1))
    return discharge.paper(
        desk, ids, status, older=older if ids and ids[: len(older)] != older else (), running=running
    )


def buttons(desk: Desk, written: Written, unfinished: bool) -> None:
    """Write, stop, one more, begin again."""
    count = len(written.draws)
    with st.container(horizontal=True, gap="small", key="writing_buttons"):
        if unfinished:
            st.button(t("discharge.stop"), on_click=_stop, type="primary", icon=":material/stop:", key="discharge_stop")
            st.empty()  # in the places of two that stood there: a browser keeps them until all is written
            st.empty()
            return
        done = written.ended or count >= desk.room
        st.button(
            t("discharge.go_on" if count else "discharge.write"),
            on_click=state.put,
            args=("written", desk.room),
            type="primary",
            icon=":material/play_arrow:",
            disabled=done,
            key="discharge_write",
        )
        st.button(
            t("discharge.one"),
            on_click=state.put,
            args=("written", count + 1),
            icon=":material/skip_next:",
            disabled=done,
            key="discharge_one",
        )
        if count or state.get("branch"):
            st.button(t("discharge.clear"), on_click=_clear, type="tertiary", key="discharge_clear")


def _stop() -> None:
    state.put("written", len(standing(discharge.at_hand()).draws))


def _clear() -> None:
    remember(discharge.at_hand())
    state.reset("written", "branch", "step")


def standing(desk: Desk) -> Written:
    """What stands on the sheet at this moment, as far as the kept steps reach."""
    wanted = min(state.get("written"), desk.room)
    return discharge.so_far(desk, kept(PATH, desk, ()), discharge.how(), discharge.taken(), wanted)


def remember(desk: Desk) -> int:
    """What stands there now is what will have been before; how many tokens it has. More than was drawn, where it was
    still being written."""
    if ids := standing(desk).ids:
        keep(OLDER, desk, ids)
    return len(ids)


def look(desk: Desk, written: Written) -> None:
    """The new tokens, and the way from each of them to all other pages."""
    first, (step, _) = len(desk.start.ids), written.drawn(min(state.get("step"), len(written.draws) - 1))
    plates.mount(
        "discharge.written",
        [discharge.new_tokens(desk, written), discharge.sure(desk, written)],
        {"step": first + step},
        on_pick=partial(_pick, first),
    )
    name = chapter.bare(desk.chips(written.ids)[step]["text"])
    if state.hidden("sentence"):
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key="follow_row"):
        if written.ids[step] == desk.house.config.eos_token_id:
            st.caption(t("discharge.follow.end"))
            return
        way = discharge.reread(desk, written.ids, step)
        st.button(
            t("discharge.follow.button", token=shell.plain(name)),
            icon=":material/directions_walk:",
            disabled=not way.fits or state.locked("sentence") or state.locked("token"),
            on_click=_follow,
            args=(way.text, way.token, name),
            key="discharge_follow",
        )
        how = "long" if not way.fits else "same" if way.same else "cut"
        st.caption(t(f"discharge.follow.{how}", tokens=way.tokens, written=first + len(written.ids) - 1, at=way.token))


def _pick(first: int, values: dict[str, int]) -> None:
    state.put("step", max(values.get("step", first) - first, 0))


def _follow(text: str, token: int, name: str) -> None:
    ask.admit(text)
    state.put("token", token)
    st.session_state[MOVED] = name


def how_drawn(desk: Desk, written: Written, settings: SamplingSettings, forced: dict[int, int]) -> None:
    """The stages of one draw, and what can be set about them."""
    step, result = written.drawn(state.get("step"))
    made = discharge.stages(result, settings)
    token, own = desk.word(made.id), float(made.own[made.id])
    chapter.explain(
        "discharge.draw",
        code=[source("model/generate.py", "draw"), source("model/generate.py", "retrace")],
        tex={
            "token": tex_text(token),
            "logit": float(result.logits[made.id]),
            "temperature": settings.temperature if settings.temperature else "0^{+}",
            "tempered": float(made.tempered[made.id]),
            "mass": made.mass,
            "final": float(made.after_top_p[made.id]),
        },
        nth=step + 1,
        number=len(desk.start.ids) + step,
        token=token,
        own=discharge.fine(own),
        final=discharge.fine(float(made.after_top_p[made.id])),
        vocabulary=f"{desk.vocabulary:,}",
    )
    coming = step == len(written.draws)
    if coming:
        st.caption(t("discharge.draw.coming"))
    plates.mount("discharge.controls", *discharge.controls(), on_pick=_turn)
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key="dice_row"):
        if not state.hidden("seed"):
            st.button(
                t("discharge.roll"),
                on_click=_roll,
                icon=":material/casino:",
                disabled=settings.temperature == 0 or state.locked("seed"),
                key="discharge_roll",
            )
        st.caption(t("discharge.seed", seed=settings.seed))
    plates.mount(
        "discharge.chain",
        discharge.chain(desk, result, settings, forced.get(step) == result.id, coming),
        {"candidate": made.id},
        on_pick=partial(_take, step, made.id),
    )


def _change(values: dict[str, int | None]) -> None:
    """As much of the text stays as the kept scores give without another step of the model."""
    desk = discharge.at_hand()
    state.put("written", remember(desk))
    for name, value in values.items():
        state.put(name, value)
    state.put("written", len(standing(desk).draws))


def _turn(values: dict[str, int]) -> None:
    top_k = values.get("top_k")
    _change({**values, "top_k": None if top_k is None or top_k > state.MOST_TOP_K else top_k})


def _roll() -> None:
    _change({"seed": state.get("seed") + 1})


def _take(step: int, drawn: int, values: dict[str, int]) -> None:
    if values.get("candidate", drawn) == drawn:
        return
    desk = discharge.at_hand()
    remember(desk)
    before = {at: id for at, id in discharge.taken().items() if at < step}
    state.put("branch", discharge.as_branch({**before, step: values["candidate"]}))
    state.put("written", desk.room)


# -- guessing ahead ----------------------------------------------------------------------------------------------------


def ahead(desk: Desk) -> Work | None:
    """Speculative decoding, if it was done; what does it, if it was asked for."""
    if not desk.house.config.num_nextn_predict_layers:
        st.caption(t("discharge.ahead.none"))
        return None
    if not desk.room:
        st.caption(t("discharge.paper.full"))
        return None
    run, asked = kept(AHEAD, desk, None), state.get("ahead")
    place = st.empty()
    if not asked:
        place.button(
            t("discharge.ahead.button"),
            on_click=state.put,
            args=("ahead", 1),
            type="primary",
            icon=":material/fast_forward:",
            key="discharge_ahead",
        )
    elif run:
        place.html(discharge.paper(desk, run.ids, t("discharge.ahead.done", passes=run.passes, tokens=len(run.ids))))
        plates.mount("discharge.ahead", [discharge.guesses(desk, run), discharge.savings(run)], {})
    else:
        return partial(run_ahead, desk, place)
    return None


def run_ahead(desk: Desk, place: DeltaGenerator) -> None:
    """The run, pass by pass."""
    try:
        for so_far in desk.house.speculate(desk.start, desk.room):
            run = discharge.settled(so_far)
            status = t("discharge.ahead.running", passes=run.passes, tokens=len(run.ids))
            place.html(discharge.paper(desk, run.ids, status, running=True))
    except Exception:
        state.put("ahead", None)
        raise
    keep(AHEAD, desk, run)
