"""A class together: a teacher opens it and shows its code, students come in without a name and follow."""

from pages.kit.shell import require_shell

require_shell()

import streamlit as st  # noqa: E402

from pages.kit import chapter, classes, classroom, qr, shell, stores, teacher  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.figures import together as figures  # noqa: E402
from pages.kit.words import t  # noqa: E402

SECONDS = {"minute": 60, "hour": 3600}
TYPED = 24  # a code, with all the blanks that somebody may put between its signs


def outside() -> None:
    """The two doors. Students come in, most of them on a phone, where one stands above the other: theirs is first."""
    st.html(shell.ROOT / "assets" / "kit" / "classroom.css")
    come, start = st.columns(2, gap="large")
    with come:
        st.subheader(t("together.join.title"), anchor=False)
        st.markdown(t("together.join.what"))
        with st.form("class_join", border=False):
            st.text_input(t("together.join.code"), key="class_typed", max_chars=TYPED)
            st.form_submit_button(t("together.join.button"), icon=":material/login:", on_click=classroom.join_typed)
    with start:
        st.subheader(t("together.open.title"), anchor=False)
        st.markdown(t("together.open.what"))
        st.button(
            t("together.open.button"), icon=":material/co_present:", type="primary", key="class_open",
            on_click=classroom.tried, args=(classroom.open_class,),
        )  # fmt: skip


def teaching(seat: classroom.Seat) -> None:
    """What is projected while the class comes in, and the teacher's own link, folded away."""
    address = teacher.class_address("class")
    link = f"{address}together?class={seat.code}"
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader(t("together.code.title"), anchor=False)
        st.html(f'<p class="class-code">{seat.code}</p>')
        st.markdown(t("together.code.what", wing=t("nav.class"), page=t("nav.together")))
        st.code(link, language=None, wrap_lines=True)
        view = classroom.look()
        with st.container(horizontal=True, gap="small"):
            if view and view.board.page:
                to = t("together.go", page=classroom.page_name(view.board.page))
                if st.button(to, icon=":material/arrow_forward:", type="primary"):
                    classroom.go()
            # Projected, a page has no menu: the way to the lesson must stand on it.
            usual = "secondary" if view and view.board.page else "primary"
            if st.button(t("together.lesson"), icon=":material/co_present:", type=usual, key="class_lesson"):
                st.switch_page("pages/lesson.py")
            if not (view and view.board.page):
                first, name, _ = shell.PAGES[0]
                if st.button(t("together.begin", page=t(name)), icon=":material/arrow_forward:"):
                    st.switch_page(first)
        with st.popover(t("together.own.open"), icon=":material/key:"):
            st.markdown(t("together.own.what"))
            st.code(f"{link}&teach={seat.secret}", language=None, wrap_lines=True)
    with right:
        if not teacher.alone(address) and (drawn := qr.code(link)):  # one that leads nowhere is not projected
            qr.mount(drawn, link, t("together.code.qr"), key="class_qr", sign=seat.code)
    st.subheader(t("together.questions.title"), anchor=False)
    classroom.questions("page")


visit = chapter.enter("together")
if arrived := st.session_state.pop("arrived", None):
    code, secret = arrived
    classroom.tried(*((classroom.teach, code, secret) if secret else (classroom.join, code)))
    if classroom.FAILED not in st.session_state:
        st.rerun()  # with the bar, which takes a student to where the class is
if error := st.session_state.pop(classroom.FAILED, None):
    shell.complain(error)
seat = classroom.seat()
if seat is None:
    outside()
elif seat.teaches:
    teaching(seat)
else:
    st.subheader(t("together.in.title", code=seat.code), anchor=False)
    st.markdown(t("together.in.what"))

chapter.explain(
    "together.how",
    code=[source("pages/kit/classes.py", "Board"), source("pages/kit/stores.py", "Store.swap")],
    tex=figures.equations(),
    drawn=False,
    classes=stores.MOST_CLASSES,
    students=stores.MOST_STUDENTS,
    bits=classes.SECRET_BITS,
    idle=round(stores.IDLE / SECONDS["minute"]),
    longest=round(stores.LONGEST / SECONDS["hour"]),
    chars=classes.MOST_CHARS,
    each=classes.MOST_EACH,
    questions=classes.MOST_QUESTIONS,
)
chapter.end(visit, "discuss", "same")
