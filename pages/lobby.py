"""The lobby: type a sentence, watch its tokens climb, and see which rooms light up for each of them."""

from pages.kit.shell import require_shell

require_shell()

import time  # noqa: E402
from contextlib import nullcontext  # noqa: E402

import streamlit as st  # noqa: E402

from pages.kit import ask, building, opening, shell, state  # noqa: E402
from pages.kit.turns import turns  # noqa: E402
from pages.kit.words import t  # noqa: E402

HEAD_START = 0.5  # seconds in which the browser fetches what draws; nobody is served while torch is brought in


@st.fragment
@shell.guarded
def house(sentence: str) -> None:
    """The building for this sentence, and what its numbers mean. A choice in the building reruns only this."""
    if st.session_state.pop("lobby.go", False):
        st.switch_page("pages/department.py")
    if "class" in st.session_state:
        from pages.kit import classroom

        classroom.lead()
    if picture := opening.picture(sentence):
        building.mount(picture, building.chosen)
        with st.spinner(t("lobby.opening")):
            with turns.given_up():
                time.sleep(HEAD_START)
            opening.load()
        st.rerun()
    with nullcontext() if opening.done() else st.spinner(t("lobby.opening")):
        from pages.kit import chapter  # brings torch in, which takes a second
        from pages.kit.figures import lobby

        visit = chapter.look("lobby", sentence, usual="top")
        told = lobby.told(visit)
    building.mount(
        building.data(
            visit.trace, visit.house.tokenizer, visit.token, visit.floor, follow=state.get("follow"), told=told
        ),
        building.chosen,
    )
    sections(visit)


def sections(visit) -> None:
    """Under the building: one patient's experts, the sentence's, what a changed word changes, where the story bends."""
    from pages.kit import chapter, plates
    from pages.kit.code import source
    from pages.kit.figures import lobby

    team, crowd, before = lobby.team(visit), lobby.crowd(visit), earlier(visit.sentence)
    chapter.explain(
        "lobby.count",
        code=[source("model/deepseek_v3.py", "MoE.forward"), source("model/trace.py", "Trace.experts_per_token")],
        tex=lobby.tex(team),
        drawn=False,
        **lobby.said(team),
    )
    chapter.explain(
        "lobby.whole",
        code=[
            source("model/trace.py", "Trace.experts_touched_per_layer"),
            source("model/trace.py", "Trace.experts_touched"),
        ],
        tex=lobby.tex(crowd),
        **lobby.said(crowd),
    )
    ranges = lobby.ranges(crowd)
    if not ranges or chapter.predict(
        visit,
        lobby.QUESTION,
        [t("lobby.woken.range", low=f"{low:,}", high=f"{high:,}") for low, high in ranges],
        right=next(i for i, (_, high) in enumerate(ranges) if lobby.touched(visit) <= high),
        **lobby.ONCE,
        **lobby.said(crowd),
        touched=f"{lobby.touched(visit):,}",
    ):
        plates.mount("lobby.whole", [lobby.growth(visit, crowd)], {"token": visit.token})
        touch(visit, before)
    elif before is not None:
        st.caption(t("lobby.touch.wait"))
    chapter.end(visit, "all", "nurse", "triage", "early")


def touch(visit, before: str | None) -> None:
    """The sentence before this one and this one, once the visitor has changed something."""
    from pages.kit import chapter, plates
    from pages.kit.code import source
    from pages.kit.figures import lobby

    if before is None:
        st.subheader(t("lobby.touch.title"), anchor=False)
        st.markdown(t("lobby.touch.first"))
        return
    change = lobby.change(visit, visit.house.trace(before))
    chapter.explain(
        "lobby.touch",
        code=[source("model/trace.py", "Trace.woken")],
        tex=lobby.tex(change),
        **lobby.said(change),
    )
    plates.mount("lobby.touch", [lobby.woken(change)], {})


def earlier(sentence: str) -> str | None:
    """The sentence that was looked at before this one."""
    if st.session_state.get("lobby.now") != sentence:
        st.session_state["lobby.before"] = st.session_state.get("lobby.now")
        st.session_state["lobby.now"] = sentence
    return st.session_state["lobby.before"]


st.title(t("lobby.title"), anchor=False)
st.html(f'<p class="lead">{t("lobby.lead")}</p>')
house(ask.sentence())
