"""Which texts are held out: decided by the text alone, so that none can slip into training."""

from hashlib import blake2b

HELDOUT_ONE_IN = 20


def is_heldout(text: str) -> bool:
    """True for one text in twenty, always the same ones."""
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") % HELDOUT_ONE_IN == 0
