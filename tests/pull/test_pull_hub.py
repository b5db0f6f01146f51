"""Pulling from a hub: what is taken, that it is whole and checked, and what a hub may do wrong."""

import json
import ssl
import threading
import urllib.error
from pathlib import Path

import pytest
from fake_hub import COMMIT, Hub

from twofold import parameters, pull
from twofold.base.errors import BadFileError, TwofoldError, UsageError
from twofold.measure import machine
from twofold.pull import download, shelf, web
from twofold.run import catalogue, pulled


def fetched(what: str, **more: str) -> Path:
    return pull.carry_out(pull.plan(what, **more))


def ranges(hub: Hub) -> list[str]:
    return [headers.get("Range", "") for role, _, headers in hub.asked if role == "cdn"]


# --- what is taken


def test_a_model_comes_whole_and_opens_by_its_name(hub: Hub) -> None:
    told: list[tuple[str, int, int]] = []
    plan = pull.plan("owner/tiny-GGUF")
    size = len(hub.files["tiny-Q8_0.gguf"])
    assert (plan.name, plan.type, plan.download_bytes, plan.license) == ("tiny-Q8_0", "Q8_0", size, "cc0-1.0")
    assert plan.tokens_per_s is not None
    assert plan.tokens_per_s > 0
    assert not pulled.folder().exists(), "planning fetches nothing"
    path = pull.carry_out(plan, lambda *progress: told.append(progress))
    assert path.read_bytes() == hub.files["tiny-Q8_0.gguf"]
    assert told[-1][1:] == (size, size)
    assert catalogue.find("tiny-Q8_0") == catalogue.find("owner/tiny-GGUF") == path
    assert catalogue.known()["tiny-Q8_0"] == path
    source = json.loads((path.parent / "source.json").read_text())
    assert (source["repo"], source["commit"], source["file"]) == ("owner/tiny-GGUF", COMMIT, "tiny-Q8_0.gguf")
    assert [found.name for found in pulled.partial().iterdir()] == ["tiny-Q8_0.lock"]
    again = pull.plan("owner/tiny-GGUF:q8_0")
    assert again.there
    before = len(hub.asked)
    assert pull.carry_out(again) == path
    assert len(hub.asked) == before


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("owner/tiny-GGUF:F16", "sub/tiny-F16.gguf"),
        ("owner/tiny-GGUF:fp16", "sub/tiny-F16.gguf"),
        ("owner/tiny-GGUF:tiny-Q8_0.gguf", "tiny-Q8_0.gguf"),
        ("owner/tiny-GGUF:sub/tiny-F16", "sub/tiny-F16.gguf"),
        ("hf.co/owner/tiny-GGUF:Q8_0", "tiny-Q8_0.gguf"),
        ("https://huggingface.co/owner/tiny-GGUF", "tiny-Q8_0.gguf"),
        ("https://huggingface.co/owner/tiny-GGUF/blob/main/sub/tiny-F16.gguf", "sub/tiny-F16.gguf"),
        ("https://huggingface.co/owner/tiny-GGUF/resolve/v1/tiny-Q8_0.gguf?download=true", "tiny-Q8_0.gguf"),
    ],
)
def test_what_people_type(hub: Hub, name: str, file: str) -> None:
    if name.endswith("sub/tiny-F16"):
        name += ".gguf"
    assert pull.plan(name).source["file"] == file


def test_a_revision_is_asked_for(hub: Hub) -> None:
    pull.plan("https://huggingface.co/owner/tiny-GGUF/tree/v1")
    assert hub.asked[0][1] == "/api/models/owner/tiny-GGUF/revision/v1?blobs=true"


def test_safetensors_are_converted(hub: Hub, small: Path) -> None:
    hub.repo = "owner/Tiny"
    hub.files = {path.name: path.read_bytes() for path in (small / "hf").iterdir()}
    hub.files |= {"pytorch_model.bin": b"evil", "onnx/model.safetensors": b"other"}
    plan = pull.plan("owner/Tiny")
    assert (plan.name, plan.converts, plan.type) == ("Tiny-Q8_0", True, "Q8_0")
    path = pull.carry_out(plan)
    opened, wanted = parameters.load(path), parameters.load(small / "hf")
    assert opened.config == wanted.config
    assert shelf.about("Tiny-Q8_0", path).file_type == "Q8_0"
    asked = [path for _, path, _ in hub.asked]
    assert not any("pytorch" in path or "onnx" in path for path in asked)
    assert pull.plan("owner/Tiny").there
    assert pull.plan("owner/Tiny", "f16").name == "Tiny-F16"


def test_what_cannot_be_converted_is_refused_before_its_weights_come(hub: Hub, small: Path) -> None:
    hub.repo = "owner/Tiny"
    hub.files = {path.name: path.read_bytes() for path in (small / "hf").iterdir()}
    settings = json.loads(hub.files["config.json"])
    for change, said in (
        ({"quantization_config": {"quant_method": "awq"}}, "quanti"),
        ({"architectures": ["MambaForCausalLM"]}, "MambaForCausalLM"),
    ):
        hub.files["config.json"] = json.dumps({**settings, **change}).encode()
        with pytest.raises(TwofoldError, match=said):
            pull.plan("owner/Tiny")
    assert not any("safetensors" in path for _, path, _ in hub.asked)


def test_a_path_is_pulled_too(hub: Hub, small: Path) -> None:
    assert fetched(str(small / "q8.gguf"), name="mine").read_bytes() == (small / "q8.gguf").read_bytes()
    folder = fetched(str(small / "hf"), type="f16")
    assert shelf.about(folder.parent.name, folder).file_type == "F16"
    assert hub.asked == []


def test_what_there_is_not_is_said_with_what_there_is(hub: Hub) -> None:
    with pytest.raises(UsageError, match=r"holds no Q4_K_M\..*It has: F16, Q8_0"):
        pull.plan("owner/tiny-GGUF:Q4_K_M")
    hub.files = {"a-IQ2_XS.gguf": b"x"}
    with pytest.raises(UsageError, match="a type that twofold does not run"):
        pull.plan("owner/tiny-GGUF:IQ2_XS")
    hub.files = {"a-Q8_0-00001-of-00002.gguf": b"x"}
    with pytest.raises(UsageError, match="one part of several"):
        pull.plan("owner/tiny-GGUF:a-Q8_0-00001-of-00002.gguf")
    hub.files = {"README.md": b"x"}
    with pytest.raises(UsageError, match="neither a GGUF file nor"):
        pull.plan("owner/tiny-GGUF")
    hub.files = {"a-Q8_0.gguf": b"x"}
    hub.extra = {"gguf": {"architecture": "mamba"}}
    with pytest.raises(UsageError, match="architecture mamba; twofold runs"):
        pull.plan("owner/tiny-GGUF")


@pytest.mark.parametrize(
    "name",
    ["", "x", "../../etc/passwd", "a/../b", "a/b/c", "owner/..", "https://evil.example/a/b", "ftp://a/b"],
)
def test_what_is_no_name_asks_nobody(hub: Hub, name: str) -> None:
    with pytest.raises(UsageError):
        pull.plan(name)
    assert hub.asked == []


# --- a hub that lies or breaks


def test_a_broken_connection_goes_on_where_it_was(hub: Hub) -> None:
    hub.break_at, hub.breaks = 5000, 3
    path = fetched("owner/tiny-GGUF")
    assert path.read_bytes() == hub.files["tiny-Q8_0.gguf"]
    assert ranges(hub) == ["", "bytes=5000-", "bytes=10000-", "bytes=15000-"]


def test_a_hub_that_never_gives_more_is_left_with_what_came_kept(hub: Hub) -> None:
    hub.break_at, hub.breaks = 0, 10**6
    with pytest.raises(TwofoldError, match="broke off at 0 of"):
        fetched("owner/tiny-GGUF")
    assert len(ranges(hub)) == download.TRIES
    hub.break_at, hub.breaks = 7000, 1
    hub.busy = 0
    assert fetched("owner/tiny-GGUF").exists()


def test_a_server_without_ranges_begins_anew(hub: Hub) -> None:
    hub.break_at, hub.breaks, hub.ranges = 5000, 1, False
    assert fetched("owner/tiny-GGUF").read_bytes() == hub.files["tiny-Q8_0.gguf"]


def test_a_busy_hub_is_asked_again(hub: Hub) -> None:
    plan = pull.plan("owner/tiny-GGUF")
    hub.busy = 2
    assert pull.carry_out(plan).exists()


def test_other_bytes_than_promised_are_thrown_away(hub: Hub) -> None:
    data = bytearray(hub.files["tiny-Q8_0.gguf"])
    data[-5] ^= 1
    hub.served = {"tiny-Q8_0.gguf": bytes(data)}
    with pytest.raises(BadFileError, match="checksum"):
        fetched("owner/tiny-GGUF")
    assert pulled.models() == []
    hub.served = {"tiny-Q8_0.gguf": bytes(data) + b"more"}
    with pytest.raises(BadFileError, match="sends more"):
        fetched("owner/tiny-GGUF")
    hub.served = {}
    assert fetched("owner/tiny-GGUF").exists()


def test_small_files_are_checked_by_gits_hash(hub: Hub, small: Path) -> None:
    hub.repo = "owner/Tiny"
    hub.files = {path.name: path.read_bytes() for path in (small / "hf").iterdir()}
    plan = pull.plan("owner/Tiny")
    hub.served = {"tokenizer.json": hub.files["tokenizer.json"][:-2] + b" }"}
    with pytest.raises(BadFileError, match=r"tokenizer\.json did not come"):
        pull.carry_out(plan)


def test_a_file_that_is_whole_but_no_model_stays_off_the_shelf(hub: Hub) -> None:
    hub.files = {"bad-Q8_0.gguf": b"GGUF" + b"\0" * 5000}
    with pytest.raises(BadFileError, match="came whole, but cannot be run"):
        fetched("owner/tiny-GGUF")
    assert pulled.models() == []
    assert pulled.unfinished() == {}


def test_hostile_names_lead_nowhere(hub: Hub, tmp_path: Path) -> None:
    good = hub.listing()["siblings"][1]
    hostile = [
        "../../evil-Q8_0.gguf", "/etc/evil.gguf", "a/../../evil.gguf", "a\\..\\evil.gguf", ".ssh/x.gguf",
        "a//b.gguf", "bad\n.gguf", "..", "x" * 500 + ".gguf", 7, None,
    ]  # fmt: skip
    hub.siblings = [{**good, "rfilename": name} for name in hostile]
    hub.siblings += [
        {**good, "rfilename": "size.gguf", "size": -1},
        {**good, "rfilename": "text.gguf", "size": "9"},
    ]
    hub.siblings += [{"rfilename": "nohash.gguf", "size": 5}, "text", 3]  # type: ignore[list-item]
    from twofold.pull.hub import look

    assert sorted(file.path for file in look("owner/tiny-GGUF").files) == sorted(hub.files)
    with pytest.raises(UsageError):
        pull.plan("owner/tiny-GGUF:../../evil-Q8_0.gguf")
    fetched("owner/tiny-GGUF")
    files = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"data"}


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{}", b"<html>", b'{"sha": "x", "siblings": []}', b"[" * 10**5]
)
def test_what_is_no_hub_is_said(hub: Hub, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Hub, "listing", lambda self: json.loads(answer) if answer[:1] in b"{" and answer else 1
    )
    with pytest.raises(BadFileError, match="HF_ENDPOINT"):
        pull.plan("owner/tiny-GGUF")


# --- no


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ((404, "RepoNotFound"), "There is no model owner/tiny-GGUF"),
        ((401, "RepoNotFound"), "if it is private, set HF_TOKEN"),
        ((403, "GatedRepo"), "accepted its terms"),
        ((401, "GatedRepo"), "accepted its terms"),
        ((503, ""), "out of order or busy"),
        ((418, ""), "refuses"),
    ],
)
def test_no_is_a_sentence(hub: Hub, refusal: tuple[int, str], said: str) -> None:
    hub.refuses = refusal
    with pytest.raises(TwofoldError, match=said):
        pull.plan("owner/tiny-GGUF")


def test_the_token_is_shown_to_the_hub_only(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gate = "hf_secret"
    with pytest.raises(UsageError, match="HF_TOKEN"):
        pull.plan("owner/tiny-GGUF")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetched("owner/tiny-GGUF")
    for role, _, headers in hub.asked[1:]:
        assert (headers.get("Authorization") == "Bearer hf_secret") == (role == "hub")
    assert {role for role, _, _ in hub.asked} == {"hub", "cdn"}


def test_nothing_about_the_user_is_told(hub: Hub) -> None:
    fetched("owner/tiny-GGUF")
    for _, _, headers in hub.asked:
        assert headers.keys() <= {"Accept-Encoding", "Host", "User-Agent", "Connection", "Range"}
        assert headers["User-Agent"].startswith("twofold/")
        assert " " not in headers["User-Agent"]


def test_a_hub_cannot_send_us_to_files_of_this_machine(hub: Hub) -> None:
    hub.elsewhere = "file:///etc/passwd#"
    with pytest.raises(UsageError, match="not safe"):
        fetched("owner/tiny-GGUF")


def test_offline_is_respected_and_a_dead_hub_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set"):
        pull.plan("owner/tiny-GGUF")
    assert hub.asked == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(web.BrokenError, match="cannot be reached"):
        pull.plan("owner/tiny-GGUF")
    monkeypatch.setenv("HF_ENDPOINT", "file:///")
    with pytest.raises(UsageError, match="HF_ENDPOINT"):
        pull.plan("owner/tiny-GGUF")


def test_a_hub_that_cannot_be_checked_is_not_asked_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = ssl.SSLCertVerificationError("no")
    wrong.verify_message = "self-signed certificate"

    def open_(*_: object, **__: object) -> None:
        raise urllib.error.URLError(wrong)

    monkeypatch.setattr(web._opener, "open", open_)
    with pytest.raises(TwofoldError, match=r"self-signed certificate.*SSL_CERT_FILE") as raised:
        pull.plan("owner/tiny-GGUF")
    assert not isinstance(raised.value, web.BrokenError)


# --- room, locks, stopping


def test_what_does_not_fit_is_refused_before_it_comes(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "total_bytes", lambda: 50_000)
    with pytest.raises(UsageError, match=r"needs about .* GB of memory"):
        pull.plan("owner/tiny-GGUF")
    monkeypatch.undo()


def test_a_full_disk_is_refused_before_it_fills(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    full = shutil._ntuple_diskusage(100, 100, 0)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(UsageError, match="on the disk"):
        pull.plan("owner/tiny-GGUF")


def test_who_stops_keeps_what_came_and_nobody_pulls_beside(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PIECE", 1000)
    hub.pause = threading.Event()
    plan = pull.plan("owner/tiny-GGUF")
    came, stop, failed = threading.Event(), threading.Event(), []

    def first() -> None:
        try:
            pull.carry_out(plan, lambda what, done, total: came.set() if done else None, stop.is_set)
        except TwofoldError as error:
            failed.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    assert came.wait(20)
    with pytest.raises(UsageError, match="being pulled by another"):
        pull.carry_out(plan)
    stop.set()
    hub.pause.set()
    thread.join()
    assert isinstance(failed[0], download.StoppedError)
    had = pulled.unfinished()["tiny-Q8_0"]
    assert 0 < had < plan.download_bytes
    hub.pause = None
    assert pull.carry_out(plan).exists()
    assert ranges(hub)[-1] == f"bytes={had}-"


# --- the shelf


def test_names_of_others_are_not_taken(hub: Hub, small: Path) -> None:
    fetched("owner/tiny-GGUF")
    hub.repo = "other/tiny-GGUF"
    second = pull.plan("other/tiny-GGUF")
    assert second.name == "other--tiny-Q8_0"
    hub.files = {"box.gguf": hub.files["tiny-Q8_0.gguf"]}
    assert pull.plan("other/tiny-GGUF").name == "other--box"
    for name in ("box", "../x", "a/b", ".x", ""):
        with pytest.raises(UsageError, match="cannot be a model's name"):
            pull.plan("other/tiny-GGUF", name=name)


def test_a_newer_one_takes_the_place(hub: Hub, small: Path, tmp_path: Path) -> None:
    fetched("owner/tiny-GGUF")
    newer = tmp_path / "newer.gguf"
    model = parameters.load(small / "q8.gguf")
    parameters.save_gguf(
        parameters.Model(model.config, model.tokenizer, {"name": "new"}, model.tensors), newer
    )
    hub.files["tiny-Q8_0.gguf"] = newer.read_bytes()
    assert fetched("owner/tiny-GGUF").read_bytes() == newer.read_bytes()
    assert len(pulled.models()) == 1


def test_removing(hub: Hub) -> None:
    path = fetched("owner/tiny-GGUF")
    assert pulled.remove("owner/tiny-GGUF") == "tiny-Q8_0"
    assert not path.parent.exists()
    with pytest.raises(UsageError, match="no pulled model 'tiny-Q8_0'"):
        pulled.remove("tiny-Q8_0")
    hub.break_at, hub.breaks = 100, 1
    stop = threading.Event()
    with pytest.raises(download.StoppedError):
        pull.carry_out(pull.plan("owner/tiny-GGUF"), lambda *progress: stop.set(), stop.is_set)
    assert pulled.unfinished() == {"tiny-Q8_0": 100}
    assert pulled.remove("tiny-Q8_0") == "tiny-Q8_0"
    assert pulled.unfinished() == {}


def test_a_folder_is_described_too(small: Path) -> None:
    one = shelf.about("hf", small / "hf", predict=False)
    assert (one.problem, one.file_type) == (None, "F32")
    assert one.bytes == (small / "hf" / "model.safetensors").stat().st_size


def test_a_damaged_model_is_listed_with_its_problem(hub: Hub) -> None:
    path = fetched("owner/tiny-GGUF")
    path.write_bytes(b"GGUF?")
    (path.parent / "source.json").write_text("{")
    (one,) = (one for one in shelf.everything(predict=False) if one.name == "tiny-Q8_0")
    assert one.problem
    assert one.source == {}
    assert one.removable
