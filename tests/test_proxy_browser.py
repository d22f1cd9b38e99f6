"""The proxy that docs/HOSTING.md prints, in front of two processes: a visit stays with the process where it began, a
class may be spread over both."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from test_classroom_browser import PATIENCE, SENTENCE, bar_says, begin, open_class, screen, settle, title, until_link

from pages.kit import words

__all__ = ["screen"]  # a fixture
ROOT = Path(__file__).resolve().parents[1]
AROUND = """daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  log_format seen '$cookie_hospital $upstream_addr $uri';
  access_log {folder}/seen.log seen;
  {temporary}
  {printed}
}}"""


class Proxy(NamedTuple):
    url: str
    log: Path

    def visits(self) -> dict[str, set[str]]:
        """Which processes answered each visitor who had been given a cookie."""
        found = defaultdict(set)
        for line in self.log.read_text("utf-8").splitlines():
            cookie, process, _ = line.split(" ", 2)
            if cookie != "-":
                found[cookie].add(process)
        return found


def _listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def proxy(serve: Callable[[Path], str], hospital_folder, redis_url, tmp_path, monkeypatch) -> Iterator[Proxy]:
    """nginx with the printed configuration, but for its ports and TLS."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    printed = re.search(r"```nginx\n(.*?)```", (ROOT / "docs" / "HOSTING.md").read_text("utf-8"), re.DOTALL)[1]
    for port in ("8501", "8502"):
        assert printed.count(f"127.0.0.1:{port};") == 1
        printed = printed.replace(f"127.0.0.1:{port}", urlsplit(serve(hospital_folder)).netloc)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    assert "listen 443 ssl;" in printed
    printed = printed.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n  ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    file = tmp_path / "nginx.conf"
    file.write_text(AROUND.format(folder=tmp_path, temporary=temporary, printed=printed), "utf-8")
    found = shutil.which("nginx", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
    assert found, "nginx is not installed: `bash .ci/run` installs what the tests need"
    process = subprocess.Popen([found, "-c", file, "-e", tmp_path / "error.log"])
    end = time.monotonic() + 20
    while not _listens(port):
        assert process.poll() is None and time.monotonic() < end, (tmp_path / "error.log").read_text("utf-8")
        time.sleep(0.05)
    yield Proxy(f"http://127.0.0.1:{port}", tmp_path / "seen.log")
    process.terminate()
    process.wait(10)


def test_the_printed_proxy_keeps_each_visit_with_one_process_and_a_class_on_both(proxy, screen):
    teacher = screen(f"{proxy.url}/together?lang=en")
    code = open_class(teacher)
    students = []
    while len(set().union(*proxy.visits().values())) < 2:  # a visit goes where chance sends it
        assert len(students) < 12, proxy.visits()
        students.append(screen(f"{proxy.url}/together?class={code}"))
        bar_says(students[-1], "waits")
    bar_says(teacher, "here", count=len(students))
    begin(teacher)
    for student in students:
        title(student, "triage")
        until_link(student, s=SENTENCE)

    last = screen(f"{proxy.url}/record?lang=en&s={SENTENCE}")
    title(last, "record")
    with last.expect_download(timeout=PATIENCE) as waiting:  # a file is only there where it was made
        last.get_by_role("button", name=words.say("en", "record.take.file"), exact=True).click()
    assert SENTENCE in waiting.value.path().read_text("utf-8")
    for one in (teacher, *students, last):
        settle(one)
        one.close()  # a stream stands in the log when it ends
    visits = proxy.visits()
    assert len(visits) == len(students) + 2 and all(len(processes) == 1 for processes in visits.values()), visits
