"""What a trained model can do, as numbers: one dict that the model card, the screens and the tests read.

Everything is measured on `corpus.heldout`: texts that training never saw. Losses are in nats per token.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model import checkpoint
from model.baselines import KneserNey, rows_seen
from model.config import ModelConfig
from model.corpus import EXAMPLES, Document, heldout
from model.corpus.real import ASSETS
from model.corpus.split import HELDOUT_ONE_IN
from model.costs import cache_bytes, parameters
from model.deepseek_v3 import DeepseekV3
from model.engine import Engine
from model.generate import generate, generate_speculative
from model.live import SHIPPED, LiveModel
from model.tokenizer import PATH, Tokenizer
from model.train import Run, read_model

TARGET_TOP1, TARGET_TOP5 = 0.65, 0.90  # what the project asks of the model on its own corpus
_MISS = 5  # "place" of a token that is not among the five likeliest
_BATCH = 4096  # tokens of one forward pass: enough to keep the experts busy, small enough for the cache

# -- models and texts ----------------------------------------------------------------------------------------


def load_for_evaluation(path: str | Path) -> DeepseekV3:
    """The model in a checkpoint folder, or the latest state of a training run's folder, fp32."""
    path = Path(path)
    if not (path / "state.safetensors").is_file():
        return checkpoint.load(path)
    return read_model(path).eval().requires_grad_(False)


def encode(tokenizer: Tokenizer, documents: Sequence[Document], limit: int) -> list[list[int]]:
    """`bos text eos` of every document, cut to `limit` ids."""
    eos = [tokenizer.eos_id] if tokenizer.eos_id is not None else []
    return [[*ids, *eos][:limit] for ids in tokenizer.encode_all([d.text for d in documents])]


# -- one pass over the texts ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """How well N tokens were predicted, each from all that stands before it in its document."""

    document: np.ndarray  # (N,) number of the document
    loss: np.ndarray  # (N,) -log P(token), nats
    place: np.ndarray  # (N,) 0 = the likeliest token ... 4 = the fifth; 5 = none of these

    def figures(self, documents: np.ndarray | None = None) -> dict[str, Any]:
        """Tokens, loss, perplexity, top-1 and top-5 accuracy; of some documents only, given as (D,) bool."""
        keep = np.ones(len(self.loss), dtype=bool) if documents is None else documents[self.document]
        count = int(keep.sum())
        if not count:
            return {"tokens": 0, "loss": None, "perplexity": None, "top1": None, "top5": None}
        loss, place = float(self.loss[keep].mean(dtype=np.float64)), self.place[keep]
        return {
            "tokens": count,
            "loss": loss,
            "perplexity": math.exp(loss),
            "top1": float((place == 0).mean()),
            "top5": float((place < _MISS).mean()),
        }


@dataclass(frozen=True)
class Reading:
    """What the model did with D documents."""

    scores: Scores  # every token after bos, the final eos included
    mtp: Scores | None  # the MTP module's guesses: every token but the first two
    chosen: Tensor  # (D, M, E) int32: how often each expert was chosen, over all tokens but the last


def batches(texts: Sequence[Sequence[int]], tokens: int = _BATCH) -> Iterator[list[int]]:
    """Numbers of the texts that share a forward pass: of similar length, about `tokens` ids together."""
    order = sorted(
        (i for i in range(len(texts)) if len(texts[i]) > 1), key=lambda i: len(texts[i]), reverse=True
    )
    while order:
        count = max(1, tokens // len(texts[order[0]]))
        yield order[:count]
        order = order[count:]


def _predicted(states: Tensor, head: Tensor, targets: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Loss and place of each target (N,) from states (N, d)."""
    losses, places = [], []
    for h, target in zip(states.split(512), targets.split(512), strict=True):
        logits = h @ head.t()
        losses.append(logits.logsumexp(-1) - logits.gather(1, target[:, None])[:, 0])
        hit = logits.topk(_MISS, -1).indices == target[:, None]
        places.append(torch.where(hit.any(1), hit.to(torch.int8).argmax(1), _MISS))
    return torch.cat(losses).numpy(), torch.cat(places).numpy()


@torch.inference_mode()
def read(model: DeepseekV3, texts: Sequence[Sequence[int]], tokens: int = _BATCH) -> Reading:
    """Batched forward passes over texts of ids. They are padded on the right, which no earlier token can see;
    padding is counted nowhere. The last id of a text is only predicted, never read."""
    c, head = model.c, model.lm_head.weight
    chosen = torch.zeros(len(texts), c.num_moe_layers, c.n_routed_experts, dtype=torch.int32)
    main: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    further: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for numbers in batches(texts, tokens):
        rows = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(texts[i]) for i in numbers], True, c.eos_token_id
        )
        lengths = torch.tensor([len(texts[i]) for i in numbers])
        inside = torch.arange(rows.shape[1])[None] < lengths[:, None]  # (B, T)
        document = torch.tensor(numbers)[:, None].expand(rows.shape)
        states, guess, routings = model(rows[:, :-1])
        real = inside[:, 1:]
        main.append((document[:, 1:][real].numpy(), *_predicted(states[real], head, rows[:, 1:][real])))
        if guess is not None and guess.shape[1]:
            real = inside[:, 2:]
            further.append((document[:, 2:][real].numpy(), *_predicted(guess[real], head, rows[:, 2:][real])))
        real = inside[:, 1:]  # as many tokens are read as are predicted
        offset = torch.arange(len(numbers))[:, None].expand(real.shape)[real] * c.n_routed_experts
        for m, routed in enumerate(routings[: c.num_moe_layers]):
            experts = routed.chosen.view(len(numbers), -1, c.num_experts_per_tok)[real]
            flat = (offset[:, None] + experts).view(-1)
            counts = torch.bincount(flat, minlength=len(numbers) * c.n_routed_experts)
            chosen[torch.tensor(numbers), m] = counts.view(len(numbers), -1).to(torch.int32)
    return Reading(_scores(main), _scores(further) if further else None, chosen)


def _scores(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Scores:
    if not parts:
        return Scores(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))
    document, loss, place = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Scores(document, loss, place)


def read_kneser_ney(kneser_ney: KneserNey, texts: Sequence[Sequence[int]]) -> Scores:
    """The same places scored by the 5-gram model."""
    parts = []
    for number, ids in enumerate(texts):
        hit = kneser_ney.top(ids, _MISS) == np.asarray(ids[1:])[:, None]
        place = np.where(hit.any(1), hit.argmax(1), _MISS)
        parts.append((np.full(len(ids) - 1, number), -kneser_ney.log_probabilities(ids), place))
    return _scores(parts)


# -- figures -------------------------------------------------------------------------------------------------


def by_domain(scores: Scores, documents: Sequence[Document]) -> dict[str, Any]:
    """Figures of all texts, per source, per language, and of the project's own texts per subject and
    language."""

    source, subject, language = (
        np.array([getattr(d, field) for d in documents]) for field in ("source", "subject", "language")
    )
    own, languages = source == "own", list(dict.fromkeys(language.tolist()))
    return {
        "all": scores.figures(),
        "by_source": {s: scores.figures(source == s) for s in dict.fromkeys(source.tolist())},
        "by_language": {s: scores.figures(language == s) for s in languages},
        "own_by_language": {s: scores.figures(own & (language == s)) for s in languages},
        "own_by_subject": {
            topic: {s: scores.figures(own & (subject == topic) & (language == s)) for s in languages}
            for topic in dict.fromkeys(subject[own].tolist())
        },
    }


def entropy(counts: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Entropy in nats of the distributions that `counts` are proportional to."""
    p = counts / np.maximum(counts.sum(axis, keepdims=True), 1)
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis)


def normalised_mutual_information(joint: np.ndarray) -> np.ndarray:
    """I(E; S) / sqrt(H(E) H(S)) from counts (..., S, E): 0 = independent, 1 = each tells the other. 0 if
    either is always the same."""
    h_e, h_s = entropy(joint.sum(-2), -1), entropy(joint.sum(-1), -1)
    shared = h_e + h_s - entropy(joint, (-2, -1))
    size = np.sqrt(h_e * h_s)
    return np.where(size > 1e-12, shared / np.where(size > 1e-12, size, 1.0), 0.0)


def taste(chosen: Tensor, labels: Sequence[str], shuffles: int = 5, seed: int = 0) -> dict[str, Any]:
    """How much the chosen expert tells about the label of a document, per MoE layer.

    chosen (D, M, E). The joint distribution counts assignments (token x chosen expert). Chance alone gives
    more than 0, the more so the fewer the tokens; `shuffled` is what is left when the labels change places
    among the documents.
    """
    names = list(dict.fromkeys(labels))
    number = np.array([names.index(label) for label in labels])
    counts = chosen.flatten(1).float()

    def nmi(order: np.ndarray) -> np.ndarray:
        one_hot = torch.from_numpy(np.eye(len(names), dtype=np.float32)[order])
        joint = (one_hot.t() @ counts).view(len(names), *chosen.shape[1:])
        return normalised_mutual_information(joint.permute(1, 0, 2).double().numpy())

    rng = np.random.default_rng(seed)
    real, shuffled = nmi(number), np.stack([nmi(rng.permutation(number)) for _ in range(shuffles)])
    mean, spread = shuffled.mean(0), shuffled.std(0, ddof=1)
    return {
        "labels": len(names),
        "shuffles": shuffles,
        "nmi_per_layer": real.tolist(),
        "shuffled_mean_per_layer": mean.tolist(),
        "shuffled_sd_per_layer": spread.tolist(),
        "nmi": _mean(real),
        "shuffled_mean": _mean(mean),
        "shuffled_sd": _mean(spread),
        "above_chance": _mean(real - mean),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def routing(chosen: Tensor, documents: Sequence[Document], first_floor: int) -> dict[str, Any]:
    """Balance and taste of the experts from chosen (D, M, E). `first_floor`: floor of the first MoE layer.

    MaxVio = load of the busiest expert / mean load - 1 (arXiv 2408.15664), per layer over all held-out
    tokens.
    """
    load = chosen.sum(0, dtype=torch.int64).double().numpy()  # (M, E)
    violation = load.max(1) / np.maximum(load.mean(1), 1e-12) - 1 if len(load) else np.empty(0)
    dead = (load == 0).sum(1)
    worst = int(violation.argmax()) if len(violation) else None
    return {
        "first_floor": first_floor,
        "layers": load.shape[0],
        "experts_per_layer": load.shape[1],
        "assignments": int(load.sum()),
        "max_vio_per_layer": violation.tolist(),
        "max_vio_mean": _mean(violation),
        "max_vio_worst": float(violation[worst]) if worst is not None else None,
        "max_vio_worst_floor": worst + first_floor if worst is not None else None,
        "dead_per_layer": dead.tolist(),
        "dead": int(dead.sum()),
        "experts": int(load.size),
        "subject": taste(chosen, [d.subject for d in documents]),
        "language": taste(chosen, [d.language for d in documents]),
    }


def speculation(engine: Engine, prompts: Sequence[Sequence[int]], tokens: int = 30) -> dict[str, Any]:
    """Greedy decoding with MTP drafts of up to `tokens` ids after each prompt.

    acceptance = drafts that the main model agreed with / drafts; tokens_per_pass = ids that one checking pass
    of the main model yields on average = 1 + acceptance (V3 section 5.4.3: 85-90 %, 1.8 times the speed).
    """
    runs = [generate_speculative(engine, list(ids), tokens) for ids in prompts]
    drafts, accepted = sum(r.drafts for r in runs), sum(r.accepted for r in runs)
    rate = accepted / drafts if drafts else None
    return {
        "prompts": len(runs),
        "tokens": sum(len(r.ids) for r in runs),
        "drafts": drafts,
        "accepted": accepted,
        "acceptance": rate,
        "tokens_per_pass": 1 + rate if rate is not None else None,
    }


def continuations(engine: Engine, tokenizer: Tokenizer, tokens: int = 30) -> list[dict[str, Any]]:
    """What the model says after every offered example, greedily, and the five likeliest first tokens."""
    out = []
    for language, texts in EXAMPLES.items():
        for text in texts:
            result = generate(engine, tokenizer.encode(text), tokens)
            ended = result.ids[-1] == engine.c.eos_token_id
            first = [
                {"text": tokenizer.pieces([id])[0].text, "probability": p} for id, p in result.draws[0].top(5)
            ]
            out.append(
                {
                    "language": language,
                    "prompt": text,
                    # the last token may have been the first byte of a character
                    "continuation": tokenizer.decode(result.ids).rstrip("\ufffd"),
                    "tokens": len(result.ids),
                    "ended": ended,
                    "likeliest_next": first,
                }
            )
    return out


def half_texts(texts: Sequence[Sequence[int]], documents: Sequence[Document], count: int) -> list[list[int]]:
    """The first halves of `count` of the project's own texts, spread evenly over subjects and languages."""
    own = [i for i, d in enumerate(documents) if d.source == "own"]
    picked = [own[i * len(own) // count] for i in range(min(count, len(own)))] if own else []
    return [list(texts[i][: max(2, len(texts[i]) // 2)]) for i in picked]


# -- everything ----------------------------------------------------------------------------------------------


def evaluate(
    model: LiveModel | DeepseekV3,
    tokenizer: Tokenizer,
    n_per_subject: int = 50,
    kneser_ney: KneserNey | None = None,
    dense: DeepseekV3 | None = None,
    *,
    prompts: int = 40,
    train_length: int | None = None,
) -> dict[str, Any]:
    """All figures of one model as a dict that JSON can hold.

    n_per_subject: held-out texts of each own subject in each language, and of each real source. `kneser_ney`,
    `dense`: baselines to score on the same places. `prompts`: held-out half texts for speculative decoding.
    `train_length`: tokens of a training row; places further back in a text are then also counted apart, for
    there nothing was learned.
    """
    start = time.perf_counter()
    engine = model.engine if isinstance(model, LiveModel) else Engine(model)
    network, c = engine.model, engine.c
    documents = heldout(n_per_subject)
    limit = min(
        [c.max_position_embeddings, *([dense.c.max_position_embeddings] if dense is not None else [])]
    )
    texts = encode(tokenizer, documents, limit)
    reading = read(network, texts)
    scored = {"model": reading.scores}
    if kneser_ney is not None:
        scored["kneser_ney"] = read_kneser_ney(kneser_ney, texts)
    if dense is not None:
        scored["dense"] = read(dense, texts).scores
    quality = {name: by_domain(scores, documents) for name, scores in scored.items()}
    if train_length is not None:
        for name, scores in scored.items():
            quality[name]["beyond_training_length"] = _beyond(scores, train_length).figures()
    own = quality["model"]["by_source"].get("own", Scores.figures(_scores([])))
    results: dict[str, Any] = {
        "settings": {
            "n_per_subject": n_per_subject,
            "documents": len(documents),
            "prompts": prompts,
            "heldout_one_in": HELDOUT_ONE_IN,
            "train_length": train_length,
        },
        "model": _facts(c),
        "data": corpus_table(),
        "heldout": quality,
        "targets": {
            "own_top1": TARGET_TOP1,
            "own_top5": TARGET_TOP5,
            "met": bool(own["tokens"] and own["top1"] >= TARGET_TOP1 and own["top5"] >= TARGET_TOP5),
        },
        "routing": routing(reading.chosen, documents, c.first_k_dense_replace + 1),
        "mtp": None,
        "examples": continuations(engine, tokenizer),
        "baselines": {},
    }
    if reading.mtp is not None:
        offered = [tokenizer.encode(text) for many in EXAMPLES.values() for text in many]
        results["mtp"] = {
            "heldout": by_domain(reading.mtp, documents),
            "examples": speculation(engine, offered),
            "heldout_prompts": speculation(engine, half_texts(texts, documents, prompts)),
        }
    if kneser_ney is not None:
        results["baselines"]["kneser_ney"] = {
            "order": kneser_ney.order,
            "training_tokens": kneser_ney.tokens,
            "ngrams": [len(order.keys) for order in kneser_ney.orders],
        }
    if dense is not None:
        results["baselines"]["dense"] = _facts(dense.c)
    results["seconds"] = time.perf_counter() - start
    return results


def _beyond(scores: Scores, length: int) -> Scores:
    """Those places that stand at position `length` (bos = 0) of their document or later."""
    order = np.argsort(
        scores.document, kind="stable"
    )  # within a document, places are in the order of the text
    document = scores.document[order]
    first = np.searchsorted(document, document)
    picked = order[np.arange(len(document)) - first + 1 >= length]
    return Scores(scores.document[picked], scores.loss[picked], scores.place[picked])


def _facts(c: ModelConfig) -> dict[str, Any]:
    count = parameters(c)
    return {
        "config": c.to_dict(),
        "parameters": count.main,
        "active_parameters": count.active,
        "mtp_parameters": count.mtp,
        "experts_per_token": c.experts_per_token,
        "cache_bytes_per_token": cache_bytes(c, 1),
    }


def compare_weights(
    run: str | Path, folder: str | Path, tokenizer: Tokenizer, n_per_subject: int = 20
) -> dict[str, float]:
    """What storing the weights in FP8 costs: held-out loss of a training run's fp32 weights and of the
    checkpoint written from it, and the change in percent of the former (V3 section 3.3 reports below 0.25 %
    for FP8 training)."""
    documents = heldout(n_per_subject)
    losses = []
    for path in (run, folder):
        model = load_for_evaluation(path)
        texts = encode(tokenizer, documents, model.c.max_position_embeddings)
        losses.append(read(model, texts).scores.figures()["loss"])
    before, after = losses
    return {
        "fp32_loss": before,
        "fp8_loss": after,
        "change_percent": 100 * (after / before - 1),
        "documents": len(documents),
    }


def training_facts(folders: Sequence[str | Path]) -> dict[str, Any]:
    """How a model was trained, from the folders of its runs in order (shallow first): settings, steps,
    tokens, hours, and the mean training loss of the last 50 steps."""
    stages = []
    for folder in map(Path, folders):
        config, settings, step, seconds = Run.read(folder)
        file = folder / "metrics.jsonl"
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []
        last = [row["loss"] for row in rows if row["step"] <= step][-50:]
        stages.append(
            {
                "layers": config.num_hidden_layers,
                "steps": step,
                "tokens": step * settings.rows * settings.length,
                "hours": seconds / 3600,
                "final_loss": sum(last) / len(last) if last else None,
                "settings": asdict(settings),
            }
        )
    return {
        "stages": stages,
        "tokens": sum(s["tokens"] for s in stages),
        "hours": sum(s["hours"] for s in stages),
    }


def figures(
    folder: str | Path | None = None,
    n_per_subject: int = 20,
    *,
    dense: str | Path | None = None,
    runs: Sequence[str | Path] = (),
    full_precision: str | Path | None = None,
    prompts: int = 40,
) -> dict[str, Any]:
    """`evaluate`, from folders: a checkpoint (None: the shipped one) or run; a dense baseline; the training
    runs, first one first, on whose rows a 5-gram model is fitted; and the run whose fp32 weights became the
    checkpoint. `training` and, with the latter, `fp8` are added."""
    path = Path(folder) if folder is not None else SHIPPED
    tokenizer = Tokenizer.load(path if (path / "tokenizer.json").is_file() else PATH)
    training = training_facts(runs)
    lengths = [stage["settings"]["length"] for stage in training["stages"]]
    results = evaluate(
        load_for_evaluation(path),
        tokenizer,
        n_per_subject,
        KneserNey.fit(rows_seen(map(Path, runs), tokenizer)) if runs else None,
        load_for_evaluation(dense) if dense is not None else None,
        prompts=prompts,
        train_length=max(lengths, default=None),
    )
    results["training"] = training
    if full_precision is not None:
        results["fp8"] = compare_weights(full_precision, path, tokenizer, n_per_subject)
    return results


def corpus_table(path: Path | None = None) -> list[dict[str, str]]:
    """The rows of the table of real texts in the corpus' README: where they are from and under which
    licence."""
    text = (path or Path(ASSETS) / "README.md").read_text("utf-8")
    lines = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


# -- the card ------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def shown(cell: str) -> str:  # an untrained model says anything, line breaks of all kinds included
        return "".join(char if char.isprintable() else " " for char in cell)

    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(shown, line)) + " |" for line in lines) + "\n"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def _code(text: str) -> str:
    """Inline code, also of text that holds a backtick itself."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _gram(results: dict[str, Any]) -> str:
    return f"{results['baselines']['kneser_ney']['order']}-gram"


def _quality(results: dict[str, Any], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table of loss, top-1 and top-5 of every model; rows are (title, path of the figures inside each
    model's)."""
    models = list(results["heldout"])
    names = {"model": "this model", "dense": "dense"}
    if "kneser_ney" in models:
        names["kneser_ney"] = _gram(results)
    head = [
        "texts",
        "tokens",
        *(f"{what}, {names[m]}" for what in ("loss", "top-1", "top-5") for m in models),
    ]
    out = []
    for title, path in rows:
        cells = {}
        for m in models:
            cells[m] = results["heldout"][m]
            for key in path:
                cells[m] = cells[m][key]
        if not cells[models[0]]["tokens"]:
            continue
        out.append(
            [
                title,
                f"{cells[models[0]]['tokens']:,}",
                *(_number(cells[m]["loss"]) for m in models),
                *(_percent(cells[m][k]) for k in ("top1", "top5") for m in models),
            ]
        )
    return _table(head, out)


def _card_model(results: dict[str, Any]) -> list[str]:
    facts = results["model"]
    c = facts["config"]
    return [
        "# Model card: Token Hospital 词元医院\n",
        f"A small language model of the DeepSeek-V3 architecture: {c['num_hidden_layers']} layers, the first "
        f"{c['first_k_dense_replace']} dense, then {c['n_routed_experts']} routed + {c['n_shared_experts']} "
        f"shared experts a layer of which {c['num_experts_per_tok']} + {c['n_shared_experts']} see each "
        f"token ({facts['experts_per_token']} visits in all); {c['n_group']} groups, {c['topk_group']} "
        "kept; multi-head latent attention; multi-token prediction.\n",
        _table(
            ["", ""],
            [
                ["parameters (without MTP)", f"{facts['parameters']:,}"],
                ["active for one token", f"{facts['active_parameters']:,}"],
                ["MTP module", f"{facts['mtp_parameters']:,}"],
                ["hidden size", f"{c['hidden_size']}"],
                ["vocabulary", f"{c['vocab_size']:,}"],
                ["cache, fp32", f"{facts['cache_bytes_per_token']:,} bytes a token"],
            ],
        ),
    ]


def _card_training(results: dict[str, Any]) -> list[str]:
    training = results.get("training") or {"stages": []}
    out = ["## Data and licences\n"]
    shares = sorted({s["settings"]["own_share"] for s in training["stages"]})
    if shares:
        own = " to ".join(_percent(share, 0) for share in shares)
        out.append(
            f"{own} of the training tokens are texts that this project writes itself "
            "(templates in `model/corpus/`, under the licence of the repository); "
            "the rest are real texts:\n"
        )
    data = results["data"]
    out.append(_table(list(data[0]), [list(row.values()) for row in data]) if data else "")
    out.append(
        f"Licence texts: `assets/corpus/README.md`. One text in {results['settings']['heldout_one_in']},"
        " chosen by a hash of the text, is never trained on.\n"
    )
    if not training["stages"]:
        return out
    out.append("## Training\n")
    out.append(
        _table(
            [
                "stage",
                "layers",
                "steps",
                "tokens",
                "rows × length",
                "learning rate",
                "hours",
                "last training loss",
            ],
            [
                [
                    f"{i}",
                    f"{s['layers']}",
                    f"{s['steps']:,}",
                    f"{s['tokens']:,}",
                    f"{s['settings']['rows']} × {s['settings']['length']}",
                    f"{s['settings']['learning_rate']:g} → {s['settings']['final_learning_rate']:g}",
                    _number(s["hours"], 2),
                    _number(s["final_loss"]),
                ]
                for i, s in enumerate(training["stages"], 1)
            ],
        )
    )
    out.append(
        f"{training['tokens']:,} tokens in {_number(training['hours'], 2)} hours. A later stage begins with "
        "the model before it, whose MoE layers are copied along the depth. AdamW, warm-up and cosine; load "
        "balanced by the selection bias and a very small sequence-wise loss; MTP loss beside the main one.\n"
    )
    return out


def _card_quality(results: dict[str, Any]) -> list[str]:
    figures, targets = results["heldout"]["model"], results["targets"]
    own, count = figures["by_source"]["own"], results["settings"]["documents"]
    out = [
        "## Quality on held-out texts\n",
        f"{count:,} texts that training never saw. Loss in nats per token over every place after the "
        "begin-of-sentence token, end-of-sentence included; top-1 and top-5: how often the "
        "token that comes is the likeliest, or among the five likeliest.\n",
        f"On the project's own texts: top-1 {_percent(own['top1'])} (aim {_percent(targets['own_top1'], 0)}),"
        f" top-5 {_percent(own['top5'])} (aim {_percent(targets['own_top5'], 0)}), perplexity "
        f"{_number(own['perplexity'], 2)}: the aim is {'met' if targets['met'] else 'not met'}.\n",
    ]
    baselines = results["baselines"]
    if "kneser_ney" in baselines:
        b = baselines["kneser_ney"]
        grams = ", ".join(f"{count:,}" for count in b["ngrams"])
        out.append(
            f"*{_gram(results)}*: interpolated modified Kneser-Ney on {b['training_tokens']:,} of "
            f"the tokens that training read (n-grams of order 1, 2, ...: {grams}).\n"
        )
    if "dense" in baselines:
        b = baselines["dense"]
        out.append(
            f"*dense*: the same transformer without experts, every FFN {b['config']['intermediate_size']} "
            f"wide; {b['active_parameters']:,} active parameters, against "
            f"{results['model']['active_parameters']:,}.\n"
        )
    rows: list[tuple[str, list[str]]] = [("all", ["all"])]
    rows += [(f"source: {s}", ["by_source", s]) for s in figures["by_source"]]
    rows += [(f"language: {s}", ["by_language", s]) for s in figures["by_language"]]
    rows += [(f"own texts, {s}", ["own_by_language", s]) for s in figures["own_by_language"]]
    if "beyond_training_length" in figures:
        length = results["settings"]["train_length"]
        rows.append(
            (f"token {length} of a text and later (training rows end there)", ["beyond_training_length"])
        )
    out += [_quality(results, rows), "### Own texts by subject and language\n"]
    out.append(
        _quality(
            results,
            [
                (f"{subject}, {s}", ["own_by_subject", subject, s])
                for subject, many in figures["own_by_subject"].items()
                for s in many
            ],
        )
    )
    return out


def _card_routing(results: dict[str, Any]) -> list[str]:
    r = results["routing"]
    out = ["## Routing on held-out texts\n"]
    if not r["layers"]:
        return [*out, "This model has no experts.\n"]
    out.append(
        _table(
            ["", "mean of the floors", "worst floor"],
            [
                [
                    "MaxVio (busiest expert / mean − 1)",
                    _number(r["max_vio_mean"], 2),
                    f"{_number(r['max_vio_worst'], 2)} (floor {r['max_vio_worst_floor']})",
                ],
                [
                    "experts never chosen",
                    f"{r['dead']:,} of {r['experts']:,} in all",
                    f"{max(r['dead_per_layer'])}",
                ],
            ],
        )
    )
    out.append(
        "What the chosen expert tells about the text, as normalised mutual information "
        "I(expert; label) / √(H(expert) · H(label)) over all assignments, mean of the floors:\n"
    )
    out.append(
        _table(
            ["label", "labels", "measured", "labels shuffled among the texts", "above chance"],
            [
                [
                    name,
                    f"{r[name]['labels']}",
                    _number(r[name]["nmi"]),
                    f"{_number(r[name]['shuffled_mean'], 4)} ± {_number(r[name]['shuffled_sd'], 4)} "
                    f"({r[name]['shuffles']} shuffles)",
                    _number(r[name]["above_chance"]),
                ]
                for name in ("subject", "language")
            ],
        )
    )
    values = [f"{r['first_floor'] + i}: {_number(a, 2)}" for i, a in enumerate(r["subject"]["nmi_per_layer"])]
    out.append("Subject, floor by floor: " + " · ".join(values) + "\n")
    return out


def _card_mtp(results: dict[str, Any]) -> list[str]:
    out, mtp = ["## Multi-token prediction\n"], results["mtp"]
    if mtp is None:
        return [*out, "This checkpoint has no MTP module.\n"]
    figures = mtp["heldout"]["all"]
    out.append(
        f"The token after next on held-out texts: loss {_number(figures['loss'])}, top-1 "
        f"{_percent(figures['top1'])}. Speculative decoding, greedy:\n"
    )
    out.append(
        _table(
            ["prompts", "", "tokens", "drafts", "accepted", "tokens a pass of the main model"],
            [
                [
                    title,
                    f"{m['prompts']}",
                    f"{m['tokens']:,}",
                    f"{m['drafts']:,}",
                    _percent(m["acceptance"]),
                    _number(m["tokens_per_pass"], 2),
                ]
                for title, m in (
                    ("offered examples", mtp["examples"]),
                    ("halves of held-out texts", mtp["heldout_prompts"]),
                )
            ],
        )
    )
    return out


def _card_examples(results: dict[str, Any]) -> list[str]:
    out = [
        "## What it says\n",
        "Greedy continuations of the offered examples (▢: it ended there by itself).\n",
    ]
    rows = []
    for e in results["examples"]:
        likeliest = " ".join(
            f"{_code(t['text'])} {_percent(t['probability'], 0)}" for t in e["likeliest_next"]
        )
        end = " ▢" if e["ended"] else " …"
        rows.append([cell.replace("|", "\\|") for cell in (e["prompt"], e["continuation"] + end, likeliest)])
    return [*out, _table(["text", "greedy continuation", "likeliest next tokens"], rows)]


def _card_limits(results: dict[str, Any]) -> list[str]:
    figures = results["heldout"]["model"]["by_source"]
    worst = max((s for s in figures if figures[s]["tokens"]), key=lambda s: figures[s]["loss"])
    out = ["## Limits\n"]
    if "fp8" in results:
        f = results["fp8"]
        out.append(
            f"Stored in block-wise FP8: held-out loss {_number(f['fp8_loss'], 4)} against "
            f"{_number(f['fp32_loss'], 4)} in fp32 ({f['change_percent']:+.2f} %).\n"
        )
    out.append(
        "This model is made to be looked into, not to be asked. Outside the bank of texts that it was "
        "trained on it may flounder: it knows no facts, and what it says about illness is no advice. "
        f"It is worst on {worst} (perplexity {_number(figures[worst]['perplexity'], 1)}, against "
        f"{_number(figures['own']['perplexity'], 1)} on the project's own texts).\n"
    )
    return out


def model_card(results: dict[str, Any], training: dict[str, Any] | None = None) -> str:
    """A Markdown model card. Every number in it comes from `results` (`figures`, or `evaluate` with
    `compare_weights` under "fp8") and `training` (`training_facts`; by default what `results` holds)."""
    results = results if training is None else {**results, "training": training}
    parts = [
        *_card_model(results),
        *_card_training(results),
        *_card_quality(results),
        *_card_routing(results),
        *_card_mtp(results),
        *_card_examples(results),
        *_card_limits(results),
    ]
    return "\n".join(part for part in parts if part)


__all__ = [
    "Reading",
    "Scores",
    "by_domain",
    "compare_weights",
    "evaluate",
    "figures",
    "load_for_evaluation",
    "model_card",
    "normalised_mutual_information",
    "read",
    "read_kneser_ney",
    "routing",
    "speculation",
    "taste",
    "training_facts",
]
