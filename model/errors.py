"""One base for everything that can be wrong with what a person gives us."""

from __future__ import annotations

from typing import Any


class UserError(ValueError):
    """Something a person can mend. `str(error)` is one English sentence that says what is wrong and what to do.

    `key` and `values` name the same sentence for screens in other languages.
    """

    def __init__(self, message: str, key: str = "unusable", /, **values: Any) -> None:
        super().__init__(message)
        self.key = key
        self.values = values
