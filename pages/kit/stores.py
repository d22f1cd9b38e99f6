"""Where classes are kept while they go on: in this process, or, where several processes serve, in Redis.

A store knows nothing of what a class is. It keeps a record (a text) under a code, changed only by whoever has read its
newest version, and when each of its students was last heard of. All of it goes at once: when the class is closed, or
when its time is over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

T = TypeVar("T")

MOST_CLASSES = 40
MOST_STUDENTS = 200
HERE = 15.0
"""Seconds after which whoever was not heard of is not counted as here."""
ABSENT = 600.0
"""Seconds after which a place may be given to somebody else, in a class that is full."""
IDLE = 3600.0
"""Seconds after which a class ends of which no teacher was heard."""
LONGEST = 12 * 3600.0
"""Seconds after which it ends in any case: a screen that was forgotten is heard of all night."""
WAIT = 1.0
"""Seconds for which Redis is waited for."""
CONNECTIONS = 8
"""Most questions to Redis at a time; the others wait, for QUEUE seconds at most."""
QUEUE = 5.0
REST = 3.0
"""Seconds for which Redis is not asked again after it did not answer, so that pages do not wait for it one by one."""


class ClassError(Exception):
    """What a person can be told in one sentence: words `error.<key>`, with `values`."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.key, self.values = key, values


class Found(NamedTuple):
    """A class as it was read."""

    version: int  # one more with every change
    record: str


class Glance(NamedTuple):
    """What a student who asks every other second is told."""

    version: int
    here: int  # students heard of within HERE


class Store(Protocol):
    """Every operation is atomic. All of them raise ClassError("class_unreachable") where there is no answer."""

    def create(self, code: str, record: str) -> bool:
        """Version 1. False: the code is taken. ClassError("class_many"): MOST_CLASSES go on."""
        ...

    def read(self, code: str) -> Found | None:
        """None: there is no such class (any more)."""
        ...

    def swap(self, code: str, version: int, record: str) -> bool | None:
        """A new record in place of that version. False: it has changed meanwhile. None: there is no such class."""
        ...

    def look(self, code: str, who: str | None) -> Glance | None:
        """Note that `who` is here (None: nobody in particular). ClassError("class_full"): MOST_STUDENTS are."""
        ...

    def knows(self, code: str, who: str) -> bool:
        """Whether `who` has been noted in this class."""
        ...

    def leave(self, code: str, who: str) -> None:
        """Forget that `who` was here."""
        ...

    def extend(self, code: str) -> None:
        """A teacher was heard of: IDLE begins anew."""
        ...

    def delete(self, code: str) -> None:
        """Everything about the class."""
        ...


# -- in this process ---------------------------------------------------------------------------------------------------


@dataclass
class _Held:
    record: str
    born: float
    ends: float
    version: int = 1
    seen: dict[str, float] = field(default_factory=dict)


class Memory:
    """In this process's memory. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, idle: float = IDLE) -> None:
        self._clock, self._idle = clock, idle
        self._lock = threading.Lock()
        self._classes: dict[str, _Held] = {}

    def _find(self, code: str) -> _Held | None:
        """With the lock held. Whatever is over goes first."""
        now = self._clock()
        for over in [code for code, held in self._classes.items() if held.ends <= now]:
            del self._classes[over]
        return self._classes.get(code)

    def create(self, code: str, record: str) -> bool:
        """See Store."""
        with self._lock:
            if self._find(code):
                return False
            if len(self._classes) >= MOST_CLASSES:
                raise ClassError("class_many", most=MOST_CLASSES)
            now = self._clock()
            self._classes[code] = _Held(record, born=now, ends=now + self._idle)
            return True

    def read(self, code: str) -> Found | None:
        """See Store."""
        with self._lock:
            held = self._find(code)
            return Found(held.version, held.record) if held else None

    def swap(self, code: str, version: int, record: str) -> bool | None:
        """See Store."""
        with self._lock:
            held = self._find(code)
            if held is None or held.version != version:
                return False if held else None
            held.record, held.version = record, version + 1
            return True

    def look(self, code: str, who: str | None) -> Glance | None:
        """See Store."""
        with self._lock:
            held, now = self._find(code), self._clock()
            if held is None:
                return None
            if who is not None:
                if who not in held.seen and len(held.seen) >= MOST_STUDENTS:
                    held.seen = {one: at for one, at in held.seen.items() if at > now - ABSENT}
                    if len(held.seen) >= MOST_STUDENTS:
                        raise ClassError("class_full", most=MOST_STUDENTS)
                held.seen[who] = now
            return Glance(held.version, sum(at > now - HERE for at in held.seen.values()))

    def knows(self, code: str, who: str) -> bool:
        """See Store."""
        with self._lock:
            held = self._find(code)
            return held is not None and who in held.seen

    def leave(self, code: str, who: str) -> None:
        """See Store."""
        with self._lock:
            if held := self._find(code):
                held.seen.pop(who, None)

    def extend(self, code: str) -> None:
        """See Store."""
        with self._lock:
            if held := self._find(code):
                held.ends = min(self._clock() + self._idle, held.born + LONGEST)

    def delete(self, code: str) -> None:
        """See Store."""
        with self._lock:
            self._classes.pop(code, None)


# -- in Redis ----------------------------------------------------------------------------------------------------------

# Every script is one step for Redis. KEYS: the class (a hash: version, record, born), who was heard of (a sorted set by
# time), all classes (a sorted set by when they end). Time is Redis's own, so that processes need not agree on it.
_NOW = "local t = redis.call('TIME'); local now = t[1] + t[2] / 1000000\n"

_CREATE = f"""{_NOW}
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[3]) then return -1 end
redis.call('HSET', KEYS[1], 'version', 1, 'record', ARGV[1], 'born', string.format('%.3f', now))
redis.call('DEL', KEYS[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[3], string.format('%.3f', now + ARGV[2] / 1000), ARGV[4])
return 1
"""

_SWAP = """
local version = redis.call('HGET', KEYS[1], 'version')
if not version then return -1 end
if version ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1] + 1, 'record', ARGV[2])
return 1
"""

_LOOK = f"""{_NOW}
local version = redis.call('HGET', KEYS[1], 'version')
if not version then return false end
if ARGV[1] ~= '' then
  if not redis.call('ZSCORE', KEYS[2], ARGV[1]) and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[2]) then
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.3f', now - ARGV[4]))
    if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[2]) then return {{-1, 0}} end
  end
  redis.call('ZADD', KEYS[2], string.format('%.3f', now), ARGV[1])
  redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[1]))
end
return {{tonumber(version), redis.call('ZCOUNT', KEYS[2], string.format('(%.3f', now - ARGV[3]), '+inf')}}
"""

_EXTEND = f"""{_NOW}
local born = redis.call('HGET', KEYS[1], 'born')
if not born then return 0 end
local left = math.floor(math.min(ARGV[1] / 1000, born + ARGV[2] - now) * 1000)
redis.call('PEXPIRE', KEYS[1], left)
redis.call('PEXPIRE', KEYS[2], left)
redis.call('ZADD', KEYS[3], string.format('%.3f', now + left / 1000), ARGV[3])
return 1
"""

_DELETE = """
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
"""


class Redis:
    """In a Redis server that several processes share. `url` as in REDIS_URL; looked at when first needed."""

    def __init__(self, url: str, idle: float = IDLE) -> None:
        self._url, self._idle = url, idle
        self._lock = threading.Lock()
        self._client: Any = None
        self._scripts: dict[str, Any] = {}
        self._rests_until = 0.0

    def _connect(self) -> Any:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        with self._lock:
            if self._client is None:
                pool = redis.BlockingConnectionPool.from_url(
                    self._url,
                    max_connections=CONNECTIONS,
                    timeout=QUEUE,
                    socket_timeout=WAIT,
                    socket_connect_timeout=WAIT,
                    decode_responses=True,
                    retry=Retry(NoBackoff(), 1),
                )
                client = redis.Redis(connection_pool=pool)
                self._scripts = {
                    name: client.register_script(script)
                    for name, script in {
                        "create": _CREATE, "swap": _SWAP, "look": _LOOK, "extend": _EXTEND, "delete": _DELETE,
                    }.items()
                }  # fmt: skip
                self._client = client
        return self._client

    def _ask(self, question: Callable[[Any], T]) -> T:
        """ClassError where Redis does not answer; then it is left alone for REST."""
        import redis

        if time.monotonic() < self._rests_until:
            raise ClassError("class_unreachable")
        try:
            return question(self._connect())
        except (redis.RedisError, OSError, ValueError) as error:  # ValueError: an address that is none
            self._rests_until = time.monotonic() + REST
            raise ClassError("class_unreachable") from error

    def _run(self, name: str, code: str, *args: object) -> Any:
        return self._ask(lambda _: self._scripts[name](keys=_keys(code), args=args))

    def create(self, code: str, record: str) -> bool:
        """See Store."""
        made = self._run("create", code, record, int(self._idle * 1000), MOST_CLASSES, code)
        if made < 0:
            raise ClassError("class_many", most=MOST_CLASSES)
        return bool(made)

    def read(self, code: str) -> Found | None:
        """See Store."""
        version, record = self._ask(lambda client: client.hmget(_keys(code)[0], "version", "record"))
        return None if version is None else Found(int(version), record)

    def swap(self, code: str, version: int, record: str) -> bool | None:
        """See Store."""
        done = self._run("swap", code, version, record)
        return None if done < 0 else bool(done)

    def look(self, code: str, who: str | None) -> Glance | None:
        """See Store."""
        found = self._run("look", code, who or "", MOST_STUDENTS, HERE, ABSENT)
        if found is None:
            return None
        if found[0] < 0:
            raise ClassError("class_full", most=MOST_STUDENTS)
        return Glance(*found)

    def knows(self, code: str, who: str) -> bool:
        """See Store."""
        return self._ask(lambda client: client.zscore(_keys(code)[1], who)) is not None

    def leave(self, code: str, who: str) -> None:
        """See Store."""
        self._ask(lambda client: client.zrem(_keys(code)[1], who))

    def extend(self, code: str) -> None:
        """See Store."""
        self._run("extend", code, int(self._idle * 1000), LONGEST, code)

    def delete(self, code: str) -> None:
        """See Store."""
        self._run("delete", code, code)


def _keys(code: str) -> list[str]:
    """One brace for all, so that a cluster keeps them in one place."""
    return [f"{{hospital}}:class:{code}", f"{{hospital}}:here:{code}", "{hospital}:classes"]
