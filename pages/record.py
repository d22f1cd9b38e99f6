"""The patient's file: the walk to take home, as a file to open anywhere, as numbers, and as a notebook."""

from pages.kit.shell import require_shell

require_shell()

from collections.abc import Callable  # noqa: E402

import streamlit as st  # noqa: E402

from pages.kit import chapter, notebook, plates, record, service, shell, state, tables, walkfile  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.figures import record as figures  # noqa: E402
from pages.kit.words import t  # noqa: E402


def take(key: str, ending: str, kind: str, make: Callable[[record.Walk], bytes], icon: str, **look: str) -> None:
    """A button that makes its file only when it is pressed."""
    st.download_button(
        t(f"record.take.{key}"),
        data=one.when_asked(make),
        file_name=one.file(ending),
        mime=kind,
        on_click="ignore",
        key=f"take {key}",
        icon=icon,
        **look,
    )


visit = chapter.begin("record", floors="all")
one = record.walk(visit)
trace, c = visit.house.trace(visit.sentence, one.changes or None), visit.trace.config
here = {"token": visit.name(), "floor": visit.floor}

# -- the walk as one file

positions = walkfile.followable(len(visit.pieces), visit.token)
chapter.explain(
    "record.file",
    code=[source("pages/kit/walkfile.py", "script"), source("pages/kit/record.py", "Walk.when_asked")],
    tex={"tokens": len(positions), "all": len(visit.pieces), "size": figures.size(len(visit.pieces), visit.token)},
    tokens=len(positions),
    **here,
)
plates.mount("record.file", [figures.in_file(visit)], {})
with st.container(horizontal=True, gap="small", key="take_file"):
    take("file", ".html", "text/html", walkfile.page, ":material/download:", type="primary")
    if one.changes:
        st.button(
            t("record.undo"), on_click=state.reset, args=("change", "rank"), icon=":material/undo:", type="tertiary",
            key="record_undo",
        )  # fmt: skip
if one.changes:
    chapter.say("record.with_changes", changed=record.said(one.changes, c))

# -- the trace as tables

counts = tables.counts(visit, trace)
layers, tokens, k = trace.chosen.shape
chapter.explain(
    "record.trace",
    code=[source("pages/kit/tables.py", "_calls"), source("pages/kit/tables.py", "as_json")],
    tex={"tokens": tokens, "departments": layers, "k": k, "calls": counts.calls},
    tokens=tokens,
    departments=layers,
    k=k,
    calls=f"{counts.calls:,}",
    **here,
)
plates.mount("record.trace", [figures.contents(visit, trace)], {})
with st.container(horizontal=True, gap="small", key="take_trace"):
    take("csv", "-csv.zip", "application/zip", tables.as_csv, ":material/table:")
    take("parquet", "-parquet.zip", "application/zip", tables.as_parquet, ":material/view_column:")
    take("json", ".json", "application/json", tables.as_json, ":material/data_object:")
with st.expander(t("record.columns.title"), icon=":material/menu_book:"):
    plates.mount("record.columns", [figures.columns(visit)], {})

# -- the notebook

again = [source("model/live.py", "LiveModel.trace"), source("model/checkpoint.py", "digest")]
chapter.explain("record.notebook", code=again, **here)
take("notebook", ".ipynb", "application/x-ipynb+json", notebook.notebook, ":material/note_stack:")

# -- a single picture

chapter.explain("record.picture", code=[source("pages/kit/plates.py", "rank")], **here)
plates.mount("record.picture", [figures.example(visit, trace)], {})
st.caption(t("record.model", name=shell.plain(service.folder().name)))

chapter.end(visit, "whole", "same")
