"""The self-check's rows: every claim, what was measured, and whether it holds; and the run as it is saved."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import torch

from model.config import ModelConfig
from model.verify import Check, Proof
from pages.kit import plates, words
from pages.kit.figures.postal import tiny
from pages.kit.words import t

PARTS = {  # which proofs stand together
    "file": ("digest", "parameters", "mtp", "v3_total", "v3_active", "tokenizer", "cache"),
    "gate": ("experts", "corridors", "sums", "bias", "choice", "constant", "opinions"),
    "ways": ("readable", "decode", "plain", "traced", "causality", "speculative", "reach", "base"),
    "beside": ("parity", "speed"),
}
LOOKS = {"passed": "", "failed": "solid", "missing": "dotted", "running": "round", "waiting": "dotted"}
ROLES = {"passed": "nurse", "failed": "crowding"}
DIGEST = 12  # signs of a hash that are shown
OF_LOGIT = ("readable", "decode", "plain", "causality", "parity")


def state_of(check: Check | None, running: bool) -> str:
    """One of LOOKS."""
    if check is None:
        return "running" if running else "waiting"
    return "missing" if check.missing else "passed" if check.passed else "failed"


def shown(key: str, value: float | str) -> str:
    """A measured or an expected value as it is read."""
    if isinstance(value, str):
        return f"{value[:DIGEST]}…" if key == "digest" and len(value) > DIGEST else value
    if key == "speed":
        return f"{value:.2f}"
    return tiny(value) if isinstance(value, float) else f"{value:,}"


def found(check: Check) -> list[str]:
    """What stands under a claim: what was measured, what is allowed, how long it took."""
    if check.missing:
        return [t(f"check.missing.{check.missing}")]
    measured = shown(check.key, check.measured)
    if isinstance(check.measured, float) and check.key != "speed":
        of = "of_logit" if check.key in OF_LOGIT else "of_one"
        allowed = [t("check.difference", value=measured), t(f"check.{of}", value=tiny(check.tolerance))]
    elif check.key.startswith("v3_"):
        allowed = [t("check.measured", value=measured), t("check.published", value=shown(check.key, check.expected),
                                                        within=f"{check.tolerance:,.0f}")]  # fmt: skip
    elif check.key == "speed":
        allowed = [t("check.times", value=measured), t("check.faster")]
    elif check.key == "corridors":
        allowed = [t("check.measured", value=measured), t("check.most", value=str(check.expected).split()[-1])]
    else:
        allowed = [t("check.measured", value=measured), t("check.expected", value=shown(check.key, check.expected))]
    return [*allowed, t("check.took", seconds=check.seconds)]


def rows(proofs: Sequence[Proof], checks: Sequence[Check], running: bool, depth: str, c: ModelConfig) -> plates.Plate:
    """Every claim as an entry to read, in the words of the depth."""
    done = {check.key: check for check in checks}
    next_one = next((proof.key for proof in proofs if proof.key not in done), None) if running else None
    entries: list[Mapping[str, Any]] = []
    for part, keys in PARTS.items():
        own = [proof.key for proof in proofs if proof.key in keys]
        for i, key in enumerate(own):
            check = done.get(key)
            how = state_of(check, key == next_one)
            badge = {"sign": t(f"check.sign.{how}"), "text": t(f"check.state.{how}"), "look": LOOKS[how]}
            entries.append({
                "head": t(f"check.proof.{key}.title"),
                "badge": {**badge, **({"role": ROLES[how]} if how in ROLES else {})},
                "parts": [
                    {"text": t(f"check.proof.{key}.{depth}", **sizes(c))},
                    *([{"text": " · ".join(found(check)), "soft": True}] if check else []),
                ],
                **({"group": t(f"check.part.{part}")} if not i else {}),
            })  # fmt: skip
    return plates.cards("rows", entries, title=t("check.rows"))


def sizes(c: ModelConfig) -> dict[str, int | str]:
    """What claims say of the open model's shape."""
    return {
        "rooms": c.n_routed_experts, "k": c.num_experts_per_tok, "corridors": c.n_group, "kept": c.topk_group,
        "departments": c.num_moe_layers, "floors": c.num_hidden_layers, "nurses": c.n_shared_experts,
        "scale": f"{c.routed_scaling_factor:g}", "latent": c.kv_lora_rank, "rope": c.qk_rope_head_dim,
    }  # fmt: skip


def report(checks: Sequence[Check], *, state: str, seconds: float, spoiled: bool, checkpoint: str) -> dict[str, Any]:
    """A run as it is saved: every claim in English with its numbers, and on what they were measured."""
    try:
        other: str | None = metadata.version("transformers")
    except metadata.PackageNotFoundError:
        other = None
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "checkpoint": checkpoint,
        "spoiled_on_purpose": spoiled, "state": state, "seconds": seconds,
        "passed": state == "done" and all(check.passed for check in checks if not check.missing),
        "torch": torch.__version__, "transformers": other, "threads": torch.get_num_threads(),
        "checks": [
            {"claim": words.say(words.FALLBACK, f"check.proof.{check.key}.title"), **check._asdict()}
            for check in checks
        ],
    }  # fmt: skip
