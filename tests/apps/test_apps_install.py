"""From a publisher to a user: store, archive, git, folder; whole or not at all; never believed."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from twofold.apps import installing, origin, shelf, signing, store, tree
from twofold.base.errors import BadFileError, TwofoldError, UsageError


@pytest.fixture
def key(tmp_path: Path):
    return signing.own_key(tmp_path / "publisher.pem")


@pytest.fixture
def shop(make, key, tmp_path: Path) -> Path:
    """Return a store with two versions of an app, the newer of which may do more."""
    folder = tmp_path / "shop"
    store.publish(make("1.0.0"), folder, key)
    more = '\n[[capabilities]]\ndevice = "browser"\n'
    store.publish(make("1.10.0", more=more), folder, key)
    store.publish(make("1.9.0"), folder, key)
    return folder


@pytest.fixture
def address(shop: Path) -> Iterator[str]:
    """Return the address of a server of that store."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = functools.partial(quiet, directory=str(shop))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def install(text: str | Path, **options) -> installing.App:
    with installing.proposed(str(text), **options) as proposal:
        return proposal.accept()


# --- what comes from where


def test_a_store_is_a_folder_that_any_web_server_can_serve(shop: Path, address: str) -> None:
    for where in (str(shop), address):
        offers = store.offers(where)
        assert [(one.name, one.version) for one in offers] == [
            ("sums", v) for v in ("1.10.0", "1.9.0", "1.0.0")
        ]
        app = install("sums", store=where)
        assert (app.manifest.version, app.origin) == ("1.10.0", "installed")
        assert shelf.present("sums").key == offers[0].key
        assert install("sums@1.9.0", store=where).manifest.version == "1.9.0"
    with pytest.raises(UsageError, match=r"Did you mean '1\.9\.0'"):
        install("sums@1.9.1", store=address)
    with pytest.raises(UsageError, match="Did you mean 'sums'"):
        install("sum", store=address)


def test_an_archive_and_a_folder(shop: Path, make) -> None:
    assert install(shop / "sums-1.0.0.tar.gz").manifest.version == "1.0.0"
    folder = make(name="mine")
    assert install(folder).name == "mine"
    assert shelf.present("mine").key is None


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_comes_without_links_hooks_and_history(make, key, tmp_path: Path) -> None:
    folder = make(name="from-git")
    (folder / tree.SIGNATURE).write_bytes(signing.sign(tree.contents(folder), key))
    plain = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")

    def git(*arguments: str) -> None:
        subprocess.run(["git", *who, *arguments], cwd=folder, env=plain, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", "v1")
    (folder / "instructions.md").write_text("changed after it was signed")
    git("commit", "-qam", "two")
    where = f"git+file://{folder}"
    assert install(f"{where}#v1").name == "from-git"
    with pytest.raises(BadFileError, match="does not fit"):
        install(where)
    (folder / "app.toml").unlink()
    (folder / "app.toml").symlink_to("/etc/passwd")
    (folder / tree.SIGNATURE).unlink()
    git("add", "-A")
    git("commit", "-qm", "three")
    with pytest.raises(BadFileError):  # the link is a text file here, which is no TOML
        install(where, unsigned=True)
    with pytest.raises(TwofoldError, match="cannot be cloned"):
        install(f"{where}#nothing")


@pytest.mark.parametrize(
    "text", ["git+ext::sh -c id", "git+http://x.org/a.git", "--upload-pack=id", "../none", "a b"]
)
def test_what_names_nothing_asks_nobody(text: str) -> None:
    with pytest.raises(UsageError):
        origin.parse(text, None)


def test_an_address_is_https_and_stays_where_it_is(shop: Path) -> None:
    with pytest.raises(UsageError, match="https"):
        store.offers("http://example.org/shop")

    class Away(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", "https://example.org/index.json")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Away) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(UsageError, match="not followed"):
            store.offers(f"http://127.0.0.1:{server.server_address[1]}")
        thread.join()
    with pytest.raises(TwofoldError, match="cannot be reached"):
        store.offers("http://127.0.0.1:1")


# --- what is believed


def test_a_version_never_changes(shop: Path, make, key, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="never changes"):
        store.publish(make("1.0.0", more="# changed"), shop, key)
    with pytest.raises(UsageError, match="never changes"):
        store.publish(make("1.0.0"), shop, signing.own_key(tmp_path / "another.pem"))
    assert store.publish(make("1.0.0"), shop, key).version == "1.0.0"


def test_a_store_that_lies_is_noticed(shop: Path, tmp_path: Path) -> None:
    index = json.loads((shop / "index.json").read_text())
    entry = index["apps"]["sums"]["1.10.0"]
    archive = shop / entry["file"]
    good = archive.read_bytes()
    for data in (good[:-9], good + b"x", b"x" * len(good)):
        archive.write_bytes(data)
        with pytest.raises(BadFileError, match="not the file"):
            install("sums", store=str(shop))
    # Whoever changes the index as well still cannot sign.
    other = tmp_path / "other"
    other.mkdir()
    archive.write_bytes(good)
    with open(archive, "rb") as packed:
        tree.unpack(packed, other, "the archive")
    (other / "instructions.md").write_text("Do evil.")
    with open(archive, "wb") as out:
        tree.pack(other, out)
    entry |= {"size": archive.stat().st_size, "sha256": store.files.sha256(archive)}
    (shop / "index.json").write_text(json.dumps(index))
    with pytest.raises(BadFileError, match="does not fit"):
        install("sums", store=str(shop))
    (other / tree.SIGNATURE).unlink()
    with open(archive, "wb") as out:
        tree.pack(other, out)
    entry |= {"size": archive.stat().st_size, "sha256": store.files.sha256(archive)}
    (shop / "index.json").write_text(json.dumps(index))
    with pytest.raises(BadFileError, match="is not signed"):
        install("sums", store=str(shop))
    assert shelf.present("sums") is None


@pytest.mark.parametrize(
    "changed",
    [{"file": "../../evil.tar.gz"}, {"file": "/etc/passwd"}, {"file": "http://example.org/a.tar.gz"},
     {"size": -1}, {"size": True}, {"sha256": "x"}, {"size": "9"}, {"file": None}],
)  # fmt: skip
def test_a_damaged_index_is_refused(shop: Path, changed: dict[str, object]) -> None:
    index = json.loads((shop / "index.json").read_text())
    index["apps"]["sums"]["1.10.0"] |= changed
    (shop / "index.json").write_text(json.dumps(index))
    with pytest.raises(BadFileError, match="index of"):
        store.offers(str(shop))
    for text in ("{", "[]", "{}", '{"format": "twofold apps 1", "apps": {"a": 1}}', "[" * 3000):
        (shop / "index.json").write_text(text)
        with pytest.raises(BadFileError):
            store.offers(str(shop))


def test_another_publisher_cannot_take_a_name(shop: Path, make, tmp_path: Path) -> None:
    install("sums@1.0.0", store=str(shop))
    thief, stolen = signing.own_key(tmp_path / "thief.pem"), tmp_path / "stolen"
    store.publish(make("9.0.0"), stolen, thief)
    for _ in range(2):
        with pytest.raises(TwofoldError, match="somebody else"):
            install("sums", store=str(stolen))
        if shelf.present("sums"):
            shelf.remove("sums")  # the name stays the first one's also then
    with pytest.raises(TwofoldError, match="somebody else"):
        install(make("9.0.0"))
    fingerprint = signing.fingerprint(signing.public_of(thief))
    assert install("sums", store=str(stolen), key=fingerprint).manifest.version == "9.0.0"
    with pytest.raises(TwofoldError, match="somebody else"):
        install("sums@1.10.0", store=str(shop))


def test_a_store_cannot_bring_back_what_is_old(shop: Path) -> None:
    install("sums", store=str(shop))
    index = json.loads((shop / "index.json").read_text())
    del index["apps"]["sums"]["1.10.0"]
    (shop / "index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match="older"):
        install("sums", store=str(shop))
    with installing.proposed("sums@1.9.0", str(shop)) as proposal:
        assert "It is older than the 1.10.0 that is there." in proposal.notes


def test_what_nobody_signed_needs_a_word(make, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    with open(archive, "wb") as out:
        tree.pack(make(), out)
    with pytest.raises(TwofoldError, match="Nobody signed"):
        install(archive)
    assert install(archive, unsigned=True).name == "sums"


# --- whole or not at all


def test_the_difference_is_against_what_is_there(shop: Path) -> None:
    install("sums@1.0.0", store=str(shop))
    with installing.proposed("sums@1.9.0", str(shop)) as proposal:
        assert not proposal.widens
    with installing.proposed("sums", str(shop)) as proposal:
        assert proposal.widens
        assert [c.text for c in proposal.changes if c.sign == "+"] == ["browser: everything; anywhere"]
    assert shelf.find("sums").manifest.version == "1.0.0"
    assert not list(shelf.folder().glob(".stage-*"))


def test_it_can_be_undone_step_by_step(shop: Path) -> None:
    with pytest.raises(UsageError, match="nothing to undo"):
        shelf.undo("sums")
    for version in ("1.0.0", "1.9.0"):
        install(f"sums@{version}", store=str(shop))
    shelf.remove("sums")
    assert "sums" not in shelf.names()
    with pytest.raises(UsageError, match="not installed"):
        shelf.remove("sums")
    assert shelf.undo("sums").version == "1.9.0"
    assert shelf.find("sums").manifest.version == "1.9.0"
    assert shelf.undo("sums").version == "1.0.0"
    assert shelf.undo("sums") is None
    with pytest.raises(UsageError, match="There is no app"):
        shelf.find("sums")


def test_old_files_go_in_time_and_an_undo_says_so(make) -> None:
    for number in range(5):
        install(make(f"1.{number}.0"))
    folders = [path for path in (shelf.folder() / "sums").iterdir() if path.is_dir()]
    assert len(folders) == 3
    assert [shelf.undo("sums").version for _ in range(2)] == ["1.3.0", "1.2.0"]
    with pytest.raises(UsageError, match="not kept any more"):
        shelf.undo("sums")


def test_a_built_in_app_can_be_replaced_and_comes_back(make) -> None:
    name = shelf.built_in()[0]
    install(make("99.0.0", name=name))
    assert shelf.find(name).origin == "installed"
    shelf.remove(name)
    assert shelf.find(name).origin == "built in"
    with pytest.raises(UsageError, match="comes with twofold"):
        shelf.remove(name)


@pytest.mark.parametrize("change", ["instructions.md", "new", "gone", "link"])
def test_what_was_changed_behind_the_back_is_not_run(make, change: str) -> None:
    folder = install(make()).folder
    if change == "new":
        (folder / ".hidden").write_text("x")
    elif change == "gone":
        (folder / "tests" / "sum.toml").unlink()
    elif change == "link":
        (folder / "instructions.md").unlink()
        (folder / "instructions.md").symlink_to("/etc/hostname")
    else:
        (folder / change).write_text("Do evil.")
    with pytest.raises(BadFileError):
        shelf.find("sums")
    assert "sums" in shelf.names()


def test_a_kill_at_any_step_leaves_the_old_app(make, tmp_path: Path) -> None:
    """The installer is killed at its n-th change of the disk, for every n that there is."""
    old, new = make("1.0.0"), make("2.0.0", more="# new\n")
    install(old)
    program = (
        "import os, signal, sys\n"
        "from twofold.apps import installing\n"
        "left = int(sys.argv[2])\n"
        "def audit(event, arguments):\n"
        "    global left\n"
        "    written = event == 'open' and 'w' in str(arguments[1])\n"
        "    if written or event in ('os.rename', 'os.remove', 'os.mkdir'):\n"
        "        left -= 1\n"
        "        if left == 0:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(audit)\n"
        "with installing.proposed(sys.argv[1]) as proposal: proposal.accept()\n"
    )
    before, seen = shelf.find("sums").manifest.version, []
    for step in range(1, 60, 4):
        done = subprocess.run(
            [sys.executable, "-c", program, str(new), str(step)], capture_output=True, text=True
        )
        seen.append(shelf.find("sums").manifest.version)
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
    assert before == "1.0.0"
    assert seen == sorted(seen)
    assert seen[0] == "1.0.0"
    assert seen[-1] == "2.0.0"
    assert done.returncode == 0
