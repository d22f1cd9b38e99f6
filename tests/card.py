"""A graphics card that is not there: what runs on another device than the CPU is followed without owning one.

`Card()` makes torch believe in a device. A tensor "on" it keeps its numbers in a CPU tensor, every operation is
computed there, and one that mixes tensors of both sides is refused, as a real card refuses it. So the code that
`--device cuda` runs is run, with its numbers; the card's own kernels, its rounding and its speed are not, nor how
safetensors reads to it.

It changes the process for good (a device is registered once), so `tests/test_card.py` starts this file by itself:
`python tests/card.py FOLDER` prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "card"
CROSSING = {"aten._to_copy.default", "aten.copy_.default"}  # all that may see both sides


class OnCard(Tensor):
    """A tensor that says it is on the card; its numbers are those of `here`."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> OnCard:
        made = Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
            device=torch.device(NAME, 0),
        )  # fmt: skip
        made.here = here
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnCard({self.here!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    on_card = [t for t in tensors if isinstance(t, OnCard)]
    if on_card and str(func) not in CROSSING and any(t.dim() and not isinstance(t, OnCard) for t in tensors):
        raise RuntimeError(f"{func}: some tensors are on the card and some on the CPU")
    asked = kwargs.get("device")
    stays = bool(on_card) if asked is None else torch.device(asked).type == NAME
    if str(func) == "aten.copy_.default":
        stays = isinstance(args[0], OnCard)

    def here(t: Any) -> Any:
        return t.here if isinstance(t, OnCard) else t

    def there(t: Any) -> Any:
        # A conjugate that is only noted would be forgotten: the wrapper has no such note.
        return OnCard(t.resolve_conj()) if stays and isinstance(t, Tensor) else t

    on_cpu = {name: torch.device("cpu") if name == "device" and asked is not None else value
              for name, value in kwargs.items()}  # fmt: skip
    out = tree_map(there, func(*tree_map(here, args), **tree_map(here, on_cpu)))
    return return_and_correct_aliasing(func, args, kwargs, out) if on_card else out


class Card(TorchDispatchMode):
    """While it is entered, tensors can be made on the card and sent there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def main(folder: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from test_train import TOKENIZER, C, S, numbers

    from model import train
    from model.deepseek_v3 import DeepseekV3
    from model.tokenizer import Tokenizer
    from model.train import Run, read_model

    write, read = train.save_file, train.safe_open  # safetensors reaches into memory, which this card does not have

    class Reader:
        def __init__(self, path: Path, framework: str, device: str = "cpu") -> None:
            self.file, self.device = read(path, framework), device

        def __enter__(self) -> Reader:
            self.file.__enter__()
            return self

        def __exit__(self, *how: object) -> None:
            self.file.__exit__(*how)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def get_tensor(self, name: str) -> Tensor:
            return self.file.get_tensor(name).to(self.device)

    vars(train)["save_file"] = lambda tensors, *rest, **more: write(
        {k: v.cpu() for k, v in tensors.items()}, *rest, **more
    )
    vars(train)["safe_open"] = Reader

    tokenizer = Tokenizer.load(TOKENIZER)
    found: dict[str, Any] = {}

    def go(name: str, device: str, *until: int | None) -> Run:
        for number, end in enumerate(until):  # each a process that was stopped, as far as a run can tell
            run = Run(folder / name, C, S, tokenizer, device=device)
            if number:
                run.load()
            run.go(until=end)
        found[name] = numbers(folder / name)
        return run

    _setup_privateuseone_for_python_backend(NAME)  # before the first gradient: torch counts its devices once
    go("cpu", "cpu", None)
    with Card():
        run = go("card", NAME, None)
        found["devices"] = sorted({str(t.device) for t in [*run.model.parameters(), *run.model.buffers()]})
        found["moments"] = sorted({str(t.device) for s in run.optimiser.state.values() for t in s.values()})
        go("stopped", NAME, 5, None)

        ids, model = run.rows.batch(0, 2), run.model.requires_grad_(False)
        layer, rope = model.layers[1].self_attn, model.rope(ids.shape[1])
        x = model.embed_tokens(ids.to(NAME))
        found["paths"] = float((layer(x, rope) - layer.forward_plain(x, rope)).abs().max())
        try:
            model(ids)
        except RuntimeError as error:
            found["mixed"] = str(error)
        weights = [p.detach().cpu() for p in model.parameters()]
    saved: DeepseekV3 = read_model(folder / "card")
    found["saved"] = all(torch.equal(a, b) for a, b in zip(weights, saved.parameters(), strict=True))
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
