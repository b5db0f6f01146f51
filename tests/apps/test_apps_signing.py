"""Signatures: they hold for the files and nothing else; a key is remembered, and another one is refused."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from twofold.apps import signing, tree
from twofold.base.errors import BadFileError, TwofoldError


@pytest.fixture
def key(tmp_path: Path):
    return signing.own_key(tmp_path / "keys" / "publisher.pem")


def signed(folder: Path, key) -> Path:
    (folder / tree.SIGNATURE).write_bytes(signing.sign(tree.contents(folder), key))
    return folder


def test_a_key_is_made_once_and_is_ones_own(key, tmp_path: Path) -> None:
    path = tmp_path / "keys" / "publisher.pem"
    assert path.stat().st_mode & 0o077 == 0
    assert signing.public_of(signing.own_key(path)) == signing.public_of(key)
    path.write_text("not a key")
    with pytest.raises(BadFileError, match="no Ed25519 key"):
        signing.own_key(path)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH")
def test_openssh_shows_the_same_fingerprint(key, tmp_path: Path) -> None:
    public = signing.public_of(key)
    (tmp_path / "key.pub").write_text(public + "\n")
    shown = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True).stdout
    assert shown.split()[1] == signing.fingerprint(public)


def test_a_signature_holds_until_anything_changes(make, key) -> None:
    folder = signed(make(), key)
    contents = tree.contents(folder)
    assert signing.verified(folder, contents) == signing.public_of(key)
    names = sorted(contents)
    changed = [
        {**contents, names[0]: "0" * 64},
        {name: contents[name] for name in names[1:]},
        {**contents, "extra.md": contents[names[0]]},
        {**contents, names[0]: contents[names[1]], names[1]: contents[names[0]]},
    ]
    for other in changed:
        with pytest.raises(BadFileError, match="does not fit"):
            signing.verified(folder, other)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", "[" * 5000, '{"key": 1, "signature": 2}',
     '{"key": "ssh-ed25519 AAAA", "signature": "AAAA"}',
     '{"key": "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ", "signature": ""}'],
)  # fmt: skip
def test_what_is_no_signature_is_refused(make, text: str) -> None:
    folder = make()
    (folder / tree.SIGNATURE).write_text(text)
    with pytest.raises(BadFileError, match="tampered with"):
        signing.verified(folder, tree.contents(folder))


def test_a_signature_of_another_app_or_key_does_not_fit(make, key, tmp_path: Path) -> None:
    one, other = signed(make(), key), make(name="other")
    shutil.copy(one / tree.SIGNATURE, other)
    with pytest.raises(BadFileError, match="does not fit"):
        signing.verified(other, tree.contents(other))
    record = json.loads((one / tree.SIGNATURE).read_text())
    record["key"] = signing.public_of(signing.own_key(tmp_path / "second.pem"))
    (one / tree.SIGNATURE).write_text(json.dumps(record))
    with pytest.raises(BadFileError, match="does not fit"):
        signing.verified(one, tree.contents(one))


def test_nobody_signed_is_no_key(make) -> None:
    folder = make()
    assert signing.verified(folder, tree.contents(folder)) is None


def test_the_first_key_is_remembered_and_another_refused(tmp_path: Path, key) -> None:
    trust = signing.Trust(tmp_path / "keys.json")
    first, second = signing.public_of(key), signing.public_of(signing.own_key(tmp_path / "second.pem"))
    trust.check("sums", first, None)
    trust.check("sums", None, None)
    trust.remember("sums", first)
    trust.check("sums", first, None)
    trust.check("other", second, None)
    for key_now in (second, None):
        with pytest.raises(TwofoldError, match="somebody else") as told:
            trust.check("sums", key_now, None)
        assert signing.fingerprint(first) in str(told.value)
    trust.check("sums", second, signing.fingerprint(second))
    with pytest.raises(TwofoldError, match="not by SHA256:wrong"):
        trust.check("sums", first, "SHA256:wrong")
    with pytest.raises(TwofoldError, match="signed by nobody"):
        trust.check("sums", None, signing.fingerprint(first))
    (tmp_path / "keys.json").write_text("{")
    with pytest.raises(BadFileError, match="mend it"):
        trust.check("sums", first, None)
