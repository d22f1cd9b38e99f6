"""A lesson: choose how long, see what comes, begin, or go on where one left."""

from pages.kit.shell import require_shell

require_shell()

import streamlit as st  # noqa: E402

from pages.kit import chapter, lesson, library  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.words import t  # noqa: E402

KIT = "pages/kit/lesson.py"

visit = chapter.enter("lesson")
lesson.contents()
if door := library.door(["guide"]):
    with st.container(gap="xsmall"):
        st.markdown(t("lesson.plans.what"))
        st.page_link("pages/guide.py", label=door.label, icon=":material/auto_stories:")

running, left = lesson.here(), lesson.left()
told, at = running or left or (next(iter(lesson.lessons().values())), 0)
minutes = [stop.minutes[told.minutes] for stop in told.stops]
chapter.explain(
    "lesson.give",
    code=[library.entry("lessons", "stop", told.stops[at].key), source(KIT, "Stop"), source(KIT, "move")],
    tex={"count": len(minutes), "sum": " + ".join(map(str, minutes)), "minutes": told.minutes},
    drawn=False,
    count=len(minutes),
    minutes=told.minutes,
)
chapter.end(visit, "story", "goose")
