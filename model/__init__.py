"""The live model of Token Hospital: DeepSeek-V3 in miniature. Knows nothing of screens.

`model.load()` opens a checkpoint, `.trace(text)` walks a text through it. Read `deepseek_v3.py` first.
"""

from model.config import ModelConfig
from model.errors import UserError
from model.interventions import Interventions
from model.live import MAX_TOKENS, LiveModel, load
from model.trace import Candidate, Trace

__all__ = ["MAX_TOKENS", "Candidate", "Interventions", "LiveModel", "ModelConfig", "Trace", "UserError", "load"]
