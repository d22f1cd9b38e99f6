"""Token Hospital: `streamlit run app.py`."""

from pages.kit import shell

shell.run()
