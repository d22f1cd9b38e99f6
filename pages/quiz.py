"""The quiz: questions made from this very sentence's pass, other ones every time, answered one at a time."""

from pages.kit.shell import require_shell

require_shell()

import datetime  # noqa: E402
import json  # noqa: E402

import streamlit as st  # noqa: E402

from pages.kit import ask, chapter, plates, quiz, shell, state  # noqa: E402
from pages.kit.chapter import number  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import control  # noqa: E402
from pages.kit.figures import quiz as figures  # noqa: E402
from pages.kit.words import current, t  # noqa: E402

st.title(t("quiz.title"), anchor=False)
st.html(f'<p class="lead">{t("quiz.lead")}</p>')
visit = chapter.look("quiz", ask.sentence())
if state.get("quiz") is None:
    state.place("quiz", quiz.fresh())
lang, depth, seed = current(), state.get("depth"), state.get("quiz")
key = (visit.stamp(False, False), seed, depth)
if st.session_state.get("quiz.paper", (None,))[0] != key:
    st.session_state["quiz.paper"] = (key, quiz.deal(visit, seed, depth))
asked: tuple[figures.Question, ...] = st.session_state["quiz.paper"][1]
answers: dict[int, int] = st.session_state.setdefault("quiz.answers", {}).setdefault(key, {})
at = min(state.get("question"), len(asked)) - 1
one, said = asked[at], answers.get(at)


def sign(index: int) -> str:
    """A question's number, and how it went."""
    marks = {asked[index].right: " ✓", quiz.SKIPPED: " –"}  # who had it shown has not got it wrong
    mark = marks.get(answers[index], " ✗") if index in answers else ""
    return f"{index + 1}{mark}"


# -- one question at a time: what a later one tells would give an earlier one away

control(
    st.pills, "question", at + 1, t("quiz.numbers"), {i + 1: sign(i) for i in range(len(asked))}, key="quiz.at",
    required=True, wrap=True, label_visibility="collapsed",
)  # fmt: skip
with st.container(border=True, key="quiz card"):
    st.caption(t("quiz.of", number=at + 1, count=len(asked), topic=t(f"quiz.topic.{one.topic}")))
    st.markdown(one.ask(lang, depth, markup=True))
    with st.container(gap="xsmall", key="quiz options"):
        for i, option in enumerate(one.options):
            text = shell.plain(option.said(lang))
            if said is None:
                st.button(
                    text, key=f"quiz.{seed}.{at}.{i}", width="stretch", shortcut=str(i + 1),
                    on_click=answers.setdefault, args=(at, i),
                )  # fmt: skip
            else:
                how = "right" if i == one.right else "wrong" if i == said else "left"
                st.markdown(t(f"quiz.mark.{how}", option=text, yours=t("quiz.yours") if i == said else ""))
    if said is None and not state.hidden("answers"):
        st.button(
            t("chapter.show_me"), key=f"quiz.{seed}.{at}.skip", type="tertiary",
            on_click=answers.setdefault, args=(at, quiz.SKIPPED),
        )  # fmt: skip
    if said is None:
        with st.container(key="quiz-keys"):  # away where there is no mouse: most often no keyboard either
            st.caption(t("quiz.keys", options=len(one.options)))
    else:
        how = "right" if said == one.right else "wrong"
        why = one.why(lang, markup=True)
        st.markdown(why if said == quiz.SKIPPED else chapter.sentences(t(f"quiz.verdict.{how}"), why))
        if depth == "code":
            lines = figures.KINDS[one.kind].source()
            st.caption(chapter.lines(lines))
            st.code(lines.text, language="python")
        open_now = [i for i in [*range(at + 1, len(asked)), *range(at)] if i not in answers]
        with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
            if open_now:
                st.button(
                    t("quiz.next"), key="quiz.next", type="primary", icon=":material/arrow_forward:", shortcut="N",
                    on_click=state.put, args=("question", open_now[0] + 1),
                )  # fmt: skip
            here = {row.name: state.get(row.name) for row in state.SETTINGS} | dict(one.door.settings)
            if not state.hidden("pages"):
                st.page_link(
                    f"pages/{one.door.page}.py", label=t("quiz.see", page=t(f"nav.{one.door.page}")),
                    icon=":material/visibility:", query_params=state.to_link(here),
                )  # fmt: skip
about_one = one.about_one(depth)
picked = {"token": one.token if about_one else None, "floor": one.floor}
whom = t("quiz.patients" if about_one else "quiz.everybody")
plates.mount("quiz.who", [plates.tokens(visit.chips, title=whom, level=2)], picked, picks=())

# -- what came out

if len(answers) == len(asked):
    right = sum(answers[i] == each.right for i, each in enumerate(asked))
    st.subheader(t("quiz.result.title"), anchor=False)
    guessing = number(quiz.by_guessing(asked), digits=1)
    st.markdown(t("quiz.result.score", right=right, asked=len(asked), guessing=guessing))
    plates.mount("quiz.result", [figures.topics(asked, answers)], {})
    today = datetime.date.today().isoformat()
    kept = quiz.record(
        asked, answers, lang=lang, depth=depth, seed=seed, sentence=visit.sentence, date=today
    )  # fmt: skip
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.button(
            t("quiz.again"), key="quiz.again", type="primary", icon=":material/refresh:", on_click=quiz.again,
            args=(seed,),
        )  # fmt: skip
        st.download_button(
            t("quiz.csv"), quiz.as_csv(kept), f"quiz-{seed}.csv", "text/csv", icon=":material/download:",
            on_click="ignore",
        )  # fmt: skip
        st.download_button(
            t("quiz.json"), json.dumps(kept, ensure_ascii=False, indent=1), f"quiz-{seed}.json", "application/json",
            icon=":material/download:", on_click="ignore",
        )  # fmt: skip
    st.caption(t("quiz.result.kept"))

chapter.explain(
    "quiz.made",
    code=[source("pages/kit/quiz.py", "deal"), source("pages/kit/figures/quiz.py", "fair")],
    tex={
        "terms": figures.blind(asked),
        "guessing": quiz.by_guessing(asked), "count": len(asked),
    },
    drawn=False, count=len(asked), kinds=len(figures.KINDS), seed=seed,
)  # fmt: skip
chapter.end(visit, "ranking")
