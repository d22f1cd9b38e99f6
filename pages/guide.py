"""The teacher's guide: before class, lesson plans, page by page, and a worksheet made from the visitor's sentence."""

from pages.kit.shell import require_shell

require_shell()

from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

import streamlit as st  # noqa: E402

from pages.kit import ask, chapter, library, plates, shell, state, words  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import control, or_none, search  # noqa: E402
from pages.kit.figures import guide  # noqa: E402
from pages.kit.words import t  # noqa: E402

FIGURES = "pages/kit/figures/guide.py"
PREVIEW = 720  # pixels
SPLIT = (1, 4)  # of a plan's line: the page, and what to do there

visit = chapter.enter("guide")
files = {Path(path).stem: (path, icon) for path, _, icon in shell.PAGES}
told = not state.hidden("answers")  # a teacher's link may leave them out
st.html(shell.ROOT / "assets" / "guide" / "guide.css")
with st.container(horizontal=True, gap="small", key="guide_print"):
    st.download_button(
        t("guide.print"),
        data=partial(guide.printed, words.current()),
        file_name=f"{t('guide.print_name')}.html",
        mime="text/html",
        on_click="ignore",
        icon=":material/print:",
        key="guide_all",
        disabled=not told,
    )

# -- before class

chapter.explain("guide.before", code=[source(FIGURES, "numbers"), source(FIGURES, "config")])
st.html(guide.checklist())

# -- lesson plans

plans = guide.plans()
chapter.explain("guide.plan", code=[library.entry("guide", "plan", "short"), source(FIGURES, "link")])
plan = plans[state.get("plan_for") if state.get("plan_for") in plans else next(iter(plans))]
lessons = {name: guide.plan_name(one) for name, one in plans.items()}
control(
    st.segmented_control, "plan_for", plan.name, t("guide.plan.choose"), lessons, key="guide.plan", required=True
)
st.markdown(guide.about(plan))
with st.container(key="plan_rows"):
    for step, path, name in guide.steps_of(plan):
        left, right = st.columns(SPLIT, gap="small", vertical_alignment="center")
        label = t("guide.plan.row", minutes=step.minutes, page=name)
        left.page_link(path, label=label, icon=files[step.page][1], query_params=guide.link(step.page))
        right.html(f"<p class='guide'>{guide.step(plan, step)}</p>")
st.caption(t("guide.plan.total", minutes=plan.minutes))
if door := library.door(["lesson"]):
    st.markdown(t("guide.plan.guided"))
    st.page_link("pages/lesson.py", label=door.label, icon=":material/co_present:")

# -- page by page

entries = guide.entries()
page, who = state.get("guide_page"), state.get("guide_for")
several = guide.shown(state.get("guide_find"), page, who)
chapter.explain(
    "guide.pages",
    code=[library.entry("guide", "page", "department"), source(FIGURES, "shown"), source(FIGURES, "values")],
    shown=len(several),
    count=len(entries),
)
names = {"": t("guide.everything"), **{one.page: one.name for one in entries.values()}}
people = {"": t("guide.anybody"), **{one: t(f"guide.for.{one}") for one in guide.FOR}}
page, who = page if page in entries else "", who if who in guide.FOR else ""
with st.container(horizontal=True, gap="medium", vertical_alignment="top", key="library_row"):
    control(st.selectbox, "guide_page", page, t("guide.page"), names, key="guide.page", read=or_none)
    search("guide", "guide_find")
    control(
        st.pills, "guide_for", who, t("guide.who"), people, key="guide.for", read=or_none, required=True, wrap=True
    )  # fmt: skip
with st.container(gap="xsmall", key="guide_entries"):
    for one in several:
        path, icon = files[one.page]
        label = f"**{shell.plain(one.name)}** · {shell.plain(guide.meta(one))}"
        alone = len(several) == 1
        # What was measured is read from files with code that takes a second to bring in: only for what is looked at.
        fold = st.expander(label, expanded=alone, icon=icon, key=f"guide {one.page} {alone}", on_change="rerun")
        if fold.open:
            go = t("guide.go", page=one.name)
            fold.page_link(path, label=go, icon=":material/open_in_new:", query_params=guide.link(one.page))
            fold.html(guide.entry(one, answers=told))
if not several:
    st.info(t("guide.nothing", all=t("guide.everything")), icon=":material/search_off:")

place = st.container(key="sheet_place")  # filled last: what looks at a sentence brings torch in, which takes a second
chapter.end(visit, "accurate", "people")

# -- the worksheet

with place:
    chapter.explain(
        "guide.sheet",
        code=[source("pages/kit/worksheet.py", "document"), source("pages/kit/exercises.py", "by_rule")],
    )
    sentence = ask.sentence()
    with st.spinner(t("lobby.opening")):
        from pages.kit import worksheet

        seen = chapter.look("guide", sentence, floors="departments")
    c, lang, depth = seen.trace.config, words.current(), state.get("depth")
    floor = plates.axis("floor", c.num_hidden_layers, offset=1)
    plates.mount(
        "guide.who",
        [
            plates.tokens(seen.chips, title=t("chapter.patients")),
            plates.stepper(floor, title=t("chapter.floor"), low=c.first_k_dense_replace),
        ],
        {"token": seen.token, "floor": seen.floor},
    )
    parts = worksheet.PARTS if told else worksheet.PARTS[:1]
    with st.container(horizontal=True, gap="small", key="sheet_files"):
        for part in parts:
            st.download_button(
                t(f"guide.sheet.download_{part}"),
                data=partial(worksheet.document, seen, lang, depth, part),
                file_name=f"{t(f'guide.sheet.name_{part}')}.html",
                mime="text/html",
                on_click="ignore",
                icon=":material/download:",
                type="primary" if part == parts[0] else "secondary",
                key=f"sheet {part}",
            )
    st.caption(t("guide.sheet.how"))
    views = {part: t(f"guide.sheet.{part}") for part in parts}
    shown = st.segmented_control(
        t("guide.sheet.view"),
        parts,
        default=parts[0],
        format_func=views.__getitem__,
        key="sheet_view",
        required=True,
    )
    st.iframe(
        worksheet.document(seen, lang, depth, shown or parts[0]),
        height=PREVIEW,
        tab_index=0,
        alt=t("guide.sheet.preview"),
    )
