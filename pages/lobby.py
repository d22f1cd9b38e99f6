"""The lobby: type a sentence, and see which rooms light up for each of its tokens."""

from pages.kit.shell import require_shell

require_shell()

import streamlit as st  # noqa: E402

from pages.kit import ask, shell, state  # noqa: E402
from pages.kit.words import t  # noqa: E402


@st.fragment
@shell.guarded
def picture(sentence: str) -> None:
    """The building for this sentence; after a mistake, the last good one under a sentence that explains."""
    drawn = st.session_state.get("lobby.drawn")
    try:
        with st.spinner(t("lobby.opening")):  # seen only where it takes long: by the first visitor
            from pages.kit import building, service  # brings torch in, which takes a second; the page stands by then

            house = service.hospital()
            trace = house.trace(sentence)
        token, floor = state.get("token"), state.get("floor")
        last, top = len(trace.ids) - 1, house.config.num_hidden_layers
        token = token if token is not None and token <= last else last
        floor = floor if floor is not None and floor <= top else top
        drawn = building.data(trace, house.tokenizer, token, floor)
        st.session_state["lobby.drawn"] = drawn
    except Exception as error:
        shell.complain(error)
        if drawn:
            st.caption(t("lobby.last_good"))
    state.publish()
    if drawn:
        building.mount(drawn, follow)


def follow(token: int, floor: int) -> None:
    state.put("token", token)
    state.put("floor", floor)


def story() -> None:
    with st.expander(t("story.title"), icon=":material/menu_book:"):
        for row in ("triage", "nurse", "early", "all"):
            said, true = st.columns(2, gap="large")
            said.markdown(f"**{t('story.said')}** {t(f'story.{row}.said')}")
            true.markdown(f"**{t('story.true')}** {t(f'story.{row}.true')}")
        st.markdown(t("story.grown"))
        st.caption(t("story.source"))


st.title(t("lobby.title"), anchor=False)
st.html(f'<p class="lead">{t("lobby.lead")}</p>')
picture(ask.sentence())
story()
