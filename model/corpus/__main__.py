"""``python -m model.corpus build`` reads the real texts from packages; ``sample`` prints some own ones."""

import sys

from . import FAMILIES, heldout
from .real import build


def main(arguments: list[str]) -> None:
    """Run one command."""
    if arguments == ["build"]:
        for source, count in build().items():
            print(f"{source}: {count} documents")
    elif arguments == ["sample"]:
        for doc in heldout(3)[: 3 * len(FAMILIES)]:
            print(f"{doc.subject:14} {doc.language}  {doc.text}")
    else:
        print(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
