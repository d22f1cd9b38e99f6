"""Token Hospital: `streamlit run app.py`."""

if __name__ == "__main__":  # a visitor's turn: Streamlit runs this file under that name for each
    from pages.kit import shell
    from pages.kit.turns import turns

    with turns.taken():
        shell.run()
else:  # once, before the first visitor: `streamlit run` asks for what answers the network
    import streamlit as st

    from pages.kit import host

    host.few_arenas()
    host.keep_downloads()
    host.settings_once()
    app = st.App(__file__, middleware=host.MIDDLEWARE)
