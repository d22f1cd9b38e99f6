"""History: from one paper to everywhere, ever fewer who work, and what became of the families that the talk names."""

from pages.kit.shell import require_shell

require_shell()

from pages.kit import chapter, library, plates, state  # noqa: E402
from pages.kit.code import source  # noqa: E402
from pages.kit.controls import only  # noqa: E402
from pages.kit.figures import history  # noqa: E402
from pages.kit.words import t  # noqa: E402

MODEL, FIGURES = "model/deepseek_v3.py", "pages/kit/figures/history.py"

visit = chapter.enter("history")
config = library.published("deepseek-v3")
first, second, third = (history.year(history.event(key)) for key in ("mixtures1991", "shazeer", history.MODEL))
chapter.explain(
    "history.idea",
    code=[source(MODEL, "Router.forward"), source(MODEL, "MoE.forward")],
    tex={
        "first": first,
        "second": second,
        "third": third,
        "chosen": config["num_experts_per_tok"],
        "rooms": config["n_routed_experts"],
    },
    first=first,
    second=second,
)

# -- ever fewer who work

mixtral, words = history.event(history.FIRST), history.question()
chapter.explain(
    "history.share",
    code=[source("model/costs.py", "parameters")],
    tex={"active": f"{mixtral.active}", "total": f"{mixtral.total}", "share": mixtral.share or 0},
    first=words["first"],
    one=words["one"],
)
guessed = chapter.predict(visit, "history.less", history.choices(), right=history.right(), **words)
if guessed:
    plates.mount("history.share", [history.shares()], {})

# -- stations

kind = state.get("kind")
several = history.shown(kind)
chapter.explain(
    "history.time",
    code=[history.entry(several[-1]), source(FIGURES, "shown")],
    count=len(history.events()),
    shown=len(several),
    **history.around_the_talk(),
)
only("history", "kind", {one: f"{t(f'history.sign.{one}')} {t(f'history.kind.{one}')}" for one in history.KINDS})
plates.mount("history.time", [history.line(several, sizes=guessed)], {})

# -- the families of the talk

chapter.explain("history.families", code=[source(FIGURES, "agreement")], **history.agreement())
if families := history.table(kind):
    plates.mount("history.families", [families], {})

chapter.end(visit, "always", "december", "mini", "google")
