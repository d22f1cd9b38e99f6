"""A lesson: choose how long, see what comes, begin, or go on where one left."""

from pages.kit.shell import require_shell

require_shell()

from pages.kit import chapter, lesson, library  # noqa: E402
from pages.kit.code import source  # noqa: E402

KIT = "pages/kit/lesson.py"

visit = chapter.enter("lesson")
lesson.contents()

running, left = lesson.here(), lesson.left()
told, at = running or left or (next(iter(lesson.lessons().values())), 0)
minutes = [stop.minutes[told.minutes] for stop in told.stops]
chapter.explain(
    "lesson.give",
    code=[library.entry("lessons", "stop", told.stops[at].key), source(KIT, "Stop"), source(KIT, "move")],
    tex={"count": len(minutes), "sum": " + ".join(map(str, minutes)), "minutes": told.minutes},
    count=len(minutes),
    minutes=told.minutes,
)
chapter.end(visit, "story", "goose")
