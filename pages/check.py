"""The self-check: what `python -m model verify` and the tests prove, run here and now on the model that is open."""

from pages.kit.shell import require_shell

require_shell()

import json  # noqa: E402

import streamlit as st  # noqa: E402

from model.verify import TOLERANCE  # noqa: E402
from pages.kit import chapter, check, plates, service, state  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.figures import check as figures  # noqa: E402
from pages.kit.figures.postal import tex_tiny  # noqa: E402
from pages.kit.words import t  # noqa: E402

VERIFY = "model/verify.py"

visit = chapter.enter("check")
c = service.hospital().config
chapter.explain(
    "check.how",
    code=[source(VERIFY, "steps"), source(VERIFY, "_gap"), source(VERIFY, "_choice")],
    tex={"tolerance": tex_tiny(TOLERANCE)},
    proofs=len(check.ALL),
    others=len(figures.PARTS["beside"]),
)


def draw(run: check.Run | None) -> None:
    """The claims, with what a run has found of them so far."""
    checks = list(run.checks) if run else []
    running = run is not None and not run.over
    if run and run.over and checks:
        kept = figures.report(
            checks, state=run.state, seconds=run.seconds, spoiled=run.spoiled, checkpoint=service.folder().name
        )
        st.download_button(
            t("check.json"), json.dumps(kept, ensure_ascii=False, indent=1), "self-check.json", "application/json",
            icon=":material/download:", key="check.json", on_click="ignore",
        )  # fmt: skip
    plates.mount("check.rows", [figures.rows(check.ALL, checks, running, state.get("depth"), c)], {})


check.panel(draw)
chapter.end(visit, "weights", "exact")
