"""`python -m model COMMAND`: trace, generate, train, evaluate, study, lab, parallel, export, verify, bench; `--help`.

With `--json` one JSON object on standard output and nothing else. Exit code 0; 1 when something that was asked for did
not hold (`verify`); 2 when what was given cannot be used, with one sentence on standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from model.errors import UserError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model", description="The live model of Token Hospital.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, checkpoint: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="one JSON object on standard output, nothing else")
        sub.add_argument("--threads", type=_threads, help="CPU threads (default: torch's own choice)")
        if checkpoint:
            sub.add_argument("--checkpoint", type=Path, help="a checkpoint folder (default: the shipped hospital)")
        return sub

    sub = command("trace", "Walk a text through the model and show what happened.")
    sub.add_argument("text")
    sub = command("generate", "Continue a text.")
    sub.add_argument("text")
    sub.add_argument("--tokens", type=_natural, default=30, help="new tokens at most (default 30)")
    sub.add_argument("--temperature", type=float, default=0.0, help="0 is greedy, the default")
    sub.add_argument("--top-k", type=_positive)
    sub.add_argument("--top-p", type=float, default=1.0)
    sub.add_argument("--seed", type=_natural, default=0)
    sub.add_argument("--speculative", action="store_true", help="let the MTP module guess ahead (greedy only)")

    sub = command("train", "Train a model, from nothing or from a shallower run.", checkpoint=False)
    sub.add_argument("folder", type=Path, help="where the run lives")
    sub.add_argument("--preset", default="clinic", help="hospital or clinic (default)")
    sub.add_argument("--layers", type=_positive, help="train with this many layers instead of the preset's")
    sub.add_argument("--dense", action="store_true", help="the dense baseline of the same active parameters")
    sub.add_argument("--grow-from", type=Path, help="start from this run's model, its layers copied along the depth")
    sub.add_argument("--resume", action="store_true", help="go on with the run in the folder, with its own settings")
    sub.add_argument("--save-every", type=float, default=180.0, help="seconds between saves (default 180)")
    sub.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    sub.add_argument("--tokenizer", type=Path, help="a tokenizer.json (default: the shipped one)")
    from model.train import TrainSettings

    for name, value in TrainSettings.__dataclass_fields__.items():
        kind = int if isinstance(value.default, int) else float
        default = "on --resume: the run's own" if name == "steps" else "default"
        sub.add_argument("--" + name.replace("_", "-"), type=kind, help=f"{default} ({value.default})")

    sub = command("evaluate", "Measure a checkpoint on held-out text: the model card's figures.")
    sub.add_argument("--documents", type=_positive, default=20, help="held-out texts per subject and language")
    sub.add_argument("--dense", type=Path, help="a dense baseline (run or checkpoint folder) to set beside it")
    sub.add_argument("--five-gram", type=Path, nargs="+", metavar="RUN",
                     help="fit a 5-gram model on the rows that these runs saw, and set it beside")  # fmt: skip
    sub.add_argument("--full-precision", type=Path, metavar="RUN", help="the run that the checkpoint was made from")
    sub.add_argument("--card", type=Path, metavar="FILE", help="write the model card there")

    sub = command("study", "Record what interns like, when the answer is settled, and what shorter codes cost.")
    sub.add_argument("--documents", type=_positive, help="held-out texts per subject and language, for the interns")
    sub.add_argument("--exit-documents", type=_positive, help="the same, for the answer after every floor")
    sub.add_argument("--rank-documents", type=_positive, help="the same, for shorter codes")
    sub.add_argument("--shuffles", type=_positive, help="of the documents' subjects, for what chance alone gives")
    sub.add_argument("--seed", type=_natural, default=0)

    sub = command("parallel", "Walk texts through several processes that each hold a share of the experts.")
    sub.add_argument("texts", nargs="+", metavar="TEXT")
    sub.add_argument("--processes", type=_positive, default=2, help="2 (default) to 4; one alone goes first")
    sub.add_argument("--rounds", type=_positive, help="passes that are timed")

    sub = command("lab", "Run an experiment of model/labs for every seed and record it for the pages.")
    sub.add_argument("name", help="a file of model/labs")
    sub.add_argument("--seeds", type=_natural, nargs="+", help="instead of the experiment's own")
    sub.add_argument("--out", type=Path, metavar="DIR", help="instead of assets/labs")
    sub.add_argument("--add", action="store_true", help="write after every seed, and keep seeds that are there already")

    sub = command("export", "Write the published layout, which transformers loads.")
    sub.add_argument("folder", type=Path)
    sub.add_argument("--from-run", type=Path, help="take the weights of a training run instead of a checkpoint")
    sub.add_argument("--compact", action="store_true", help="the project's own block-wise FP8 file instead")
    sub.add_argument("--renumber", type=int, metavar="SEED", help="deal the experts of every layer new numbers")
    command("verify", "Prove on this machine that the checkpoint computes what it should.")
    sub = command("bench", "Time the model beside transformers.", checkpoint=True)
    sub.add_argument("--quick", action="store_true", help="fewer rounds")
    return parser


def _whole(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if abs(value) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text} is too large")
    return value


def _threads(text: str) -> int:
    value, cores = _positive(text), os.cpu_count() or 1
    if value > 4 * cores:
        raise argparse.ArgumentTypeError(f"{value} threads are too many for {cores} cores")
    return value


def _positive(text: str) -> int:
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def _natural(text: str) -> int:
    value = _whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is not 0 or more")
    return value


# -- commands: each returns the JSON object, and the text for people -----------------------------------------------


def _trace(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from model import load

    live = load(args.checkpoint)
    trace = live.trace(args.text)
    c, pieces = live.config, live.tokenizer.pieces(trace.ids)
    last = len(trace.ids) - 1
    names = {x.id: live.tokenizer.pieces([x.id])[0].text for x in trace.top(last, 10)}
    tokens = [piece.text for piece in pieces]
    top = [{"token": names[x.id], "id": x.id, "probability": x.probability} for x in trace.top(last, 10)]
    kept = trace.memory.shape[0] * trace.memory.shape[2]
    result = {
        "tokens": tokens,
        "ids": list(trace.ids),
        "experts_per_token": trace.experts_per_token,
        "experts_touched": trace.experts_touched,
        "weights_touched": trace.weights_touched,
        "weights_total": trace.weights_total,
        "chosen": trace.chosen.tolist(),
        "weights": trace.weights.tolist(),
        "top": top,
        "cache_numbers_per_token": kept,
    }
    lines = [
        " | ".join(tokens),
        f"{c.num_hidden_layers} floors, {c.num_moe_layers} of them departments: each token was seen by "
        f"{trace.experts_per_token} experts = {c.num_moe_layers} x ({c.num_experts_per_tok} + {c.n_shared_experts}).",
        f"All {len(pieces)} tokens woke {trace.experts_touched:,} of {c.num_moe_layers * c.n_routed_experts:,} "
        f"routed experts and used {trace.weights_touched:,} of {trace.weights_total:,} weights.",
        f"Kept of each token: {kept:,} numbers.",
        "Likeliest next tokens:",
        *(f"  {100 * x.probability:5.1f} %  {names[x.id]}" for x in trace.top(last, 10)),
        f"Experts that saw the last token, {pieces[-1].text!r} (weight):",
    ]
    for layer, (experts, weights) in enumerate(zip(trace.chosen[:, last].tolist(), trace.weights[:, last].tolist(),
                                                   strict=True)):  # fmt: skip
        seen = "  ".join(f"{e:3d} ({w:.2f})" for e, w in zip(experts, weights, strict=True))
        lines.append(f"  floor {layer + c.first_k_dense_replace + 1:2d}  {seen}")
    return result, "\n".join(lines)


def _generate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from model import load
    from model.generate import SamplingSettings, generate, generate_speculative

    settings = SamplingSettings(args.temperature, args.top_k, args.top_p, args.seed)
    if args.speculative and args.temperature:
        raise UserError("--speculative is greedy; leave --temperature out.")
    live = load(args.checkpoint)
    ids = live.encode(args.text)
    run = (generate_speculative(live.engine, ids, args.tokens) if args.speculative
           else generate(live.engine, ids, args.tokens, settings))  # fmt: skip
    result = {
        "ids": run.ids, "text": live.tokenizer.decode(run.ids), "tokens_per_second": run.tokens_per_second,
        "drafts": run.drafts, "accepted": run.accepted,
    }  # fmt: skip
    speed = f"{len(run.ids)} tokens, {run.tokens_per_second:.1f} per second"
    if args.speculative:
        speed += f"; {run.accepted} of {run.drafts} guesses accepted"
    return result, f"{args.text}{result['text']}\n({speed})"


def _train(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from model.baselines import dense_config
    from model.config import ModelConfig
    from model.tokenizer import Tokenizer
    from model.train import TrainSettings, train

    chosen = {name: getattr(args, name) for name in TrainSettings.__dataclass_fields__}
    settings = TrainSettings(**{name: value for name, value in chosen.items() if value is not None})
    config = ModelConfig.preset(args.preset)
    if args.preset == "deepseek-v3":
        raise UserError("deepseek-v3 is for counting only: its 671 billion parameters are never allocated.")
    if args.layers:
        config = config.with_(num_hidden_layers=args.layers)
    if args.dense:
        config = dense_config(config)
    if args.tokenizer and not args.tokenizer.exists():
        raise UserError(f"There is no tokenizer at {args.tokenizer}.")
    tokenizer = Tokenizer.load(args.tokenizer) if args.tokenizer else Tokenizer.load()
    run = train(
        args.folder, config, settings, tokenizer, resume=args.resume, start_from=args.grow_from,
        save_every=args.save_every, device=args.device, new_steps=args.steps if args.resume else None,
    )  # fmt: skip
    result = {"folder": str(args.folder), "step": run.step, "seconds": run.seconds, **run.last}
    return result, f"{args.folder}: {run.step} steps in {run.seconds:.0f} s"


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from model import evaluate as evaluation

    result = evaluation.figures(args.checkpoint, args.documents, dense=args.dense, runs=args.five_gram or [],
                                full_precision=args.full_precision)  # fmt: skip
    card = evaluation.model_card(result)
    if args.card:
        args.card.write_text(card, "utf-8")
    return result, card


def _study(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from model.study import StudySettings, record, summary

    given = {"intern_documents": args.documents, "exit_documents": args.exit_documents,
             "rank_documents": args.rank_documents, "shuffles": args.shuffles, "seed": args.seed}  # fmt: skip
    study = record(args.checkpoint, StudySettings(**{name: x for name, x in given.items() if x is not None}))
    result = summary(study)
    return result, json.dumps(result, indent=2, ensure_ascii=False)


def _export(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from model import checkpoint
    from model.live import SHIPPED
    from model.train import read_model, renumber

    source = args.checkpoint or SHIPPED
    model = read_model(args.from_run) if args.from_run else checkpoint.load(source)
    if args.renumber is not None:
        renumber(model, args.renumber)
    tokenizer = next((path for path in (source / "tokenizer.json", SHIPPED / "tokenizer.json") if path.is_file()), None)
    (checkpoint.save if args.compact else checkpoint.export)(model, args.folder, tokenizer)
    size = (args.folder / "model.safetensors").stat().st_size
    return {"folder": str(args.folder), "bytes": size}, f"{args.folder}: {size / 2**20:.1f} MiB"


def _verify(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from model import load
    from model.live import SHIPPED
    from model.verify import verify

    checks = verify(load(args.checkpoint), args.checkpoint or SHIPPED)
    result = {"passed": all(check.passed for check in checks), "checks": [check._asdict() for check in checks]}
    lines = [f"{'ok  ' if x.passed else 'FAIL'}  {x.name}: {x.measured} (expected {x.expected})" for x in checks]
    return result, "\n".join(lines)


def _bench(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from model.bench import bench

    result = bench(threads=args.threads, quick=args.quick)
    return result, "\n".join(f"{name:>28}  {value}" for name, value in result.items())


def _lab(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from model import labs
    from model.train import keep_memory

    keep_memory()

    def report(seed: int, step: labs.Step) -> None:
        if step.point is not None or step.done == step.total:
            print(f"seed {seed}  {step.done}/{step.total}  loss {step.loss:.3f}", file=sys.stderr, flush=True)

    folder = args.out or labs.RECORDED
    if args.add:
        for seed in args.seeds or labs.find(args.name).seeds:
            result = labs.join(labs.record(args.name, [seed], report), folder)
            path = labs.write(result, folder)
    else:
        result = labs.record(args.name, args.seeds, report)
        path = labs.write(result, folder)
    return result, f"{path}: {len(result['runs'])} runs"


def _parallel(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from model import load, parallel

    live = load(args.checkpoint)
    sentences = [live.encode(text) for text in args.texts]
    groups = [1, args.processes] if args.processes > 1 else [1]
    runs = parallel.run(sentences, groups, args.checkpoint, rounds=args.rounds or parallel.ROUNDS)
    alone, last = runs[0], runs[-1]
    gap, others = parallel.largest_gap(alone, last), parallel.other_calls(alone, last)
    lines = []
    for run in runs:
        lines.append(f"{run.processes} processes: {1000 * run.seconds:.0f} ms a pass "
                     f"({1000 * run.low:.0f} to {1000 * run.high:.0f}), {run.crossed:,} crossings, {run.sent:,} bytes")
        lines += [f"  process {i}: computing {1000 * p.computing:.0f} ms, packing {1000 * p.packing:.0f}, sending and "
                  f"waiting {1000 * p.sending:.0f}; {p.weights / 2**20:.0f} MiB of weights, {p.fair / 2**20:.0f} MiB "
                  f"of memory in all" for i, p in enumerate(run.parts)]  # fmt: skip
    lines.append(f"Largest difference of a logit: {gap:.1e}; {others} tokens called others.")
    result = {"runs": [run.report() for run in runs], "largest_gap": gap, "called_others": others,
              "passed": parallel.near(alone, last)}  # fmt: skip
    return result, "\n".join(lines)


_COMMANDS = {"trace": _trace, "generate": _generate, "train": _train, "evaluate": _evaluate, "study": _study,
             "lab": _lab, "parallel": _parallel, "export": _export, "verify": _verify, "bench": _bench}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    args = _parser().parse_args(arguments)
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    try:
        result, text = _COMMANDS[args.command](args)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename or 'A file'} cannot be read or written: {error.strerror or error}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. A training run goes on with --resume.", file=sys.stderr)
        return 130
    if int(os.environ.get("RANK", 0)) == 0:
        # A lone surrogate cannot be printed; tokens never hold one, an argument echoed back might.
        out = json.dumps(result, ensure_ascii=False) if args.json else text
        sys.stdout.buffer.write(out.encode("utf-8", "backslashreplace") + b"\n")
        sys.stdout.flush()
    return 0 if result.get("passed", True) else 1


if __name__ == "__main__":
    sys.exit(main())
