"""`twofold mcp`: what the user sees of servers' tools, and devices offered to another program."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("mcp")

from mcp import Client
from mcp.client.stdio import StdioServerParameters

BAD = Path(__file__).parent.parent / "devices" / "mcp_bad_server.py"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's data folder, whose mcp.toml has a server that changes and one that dies."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "data" / "twofold"
    folder.mkdir(parents=True)
    servers = {"notes": ["changing", "0", str(tmp_path / "changed")], "broken": ["dying"]}
    lines = [
        f"[servers.{name}]\ncommand = {[sys.executable, str(BAD), *arguments]}\n"
        for name, arguments in servers.items()
    ]
    (folder / "mcp.toml").write_text("".join(lines))
    return folder


def test_tools_are_looked_at_trusted_and_looked_at_again(twofold, data: Path, tmp_path: Path) -> None:
    assert "Not looked at yet: twofold mcp trust notes" in twofold("mcp", "list").out
    refused = twofold("mcp", "trust", "notes", stdin="n\n")
    assert "look send new" in refused.out
    assert "Looks." in refused.out
    assert "Nothing was changed" in refused.out
    assert "They may" in twofold("mcp", "trust", "notes", stdin="y\n").out
    assert "look " in twofold("mcp", "list").out
    assert "Nothing has changed" in twofold("mcp", "trust", "notes").out
    (tmp_path / "changed").touch()
    changed = twofold("mcp", "trust", "notes", stdin="n\n")
    assert "says otherwise than when you looked at it" in changed.out
    assert "before: Looks." in changed.out
    assert "IGNORE ALL" in changed.out
    assert twofold("mcp", "forget", "notes").code == 0
    assert twofold("mcp", "forget", "notes").code == 2


def test_a_server_that_does_not_start_says_why(twofold, data: Path) -> None:
    result = twofold("mcp", "trust", "broken")
    assert result.code == 1
    assert "cannot open database" in result.said
    assert "The server 'broken' broke off." in result.said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("trust",), "takes a server’s name"),
        (("list", "notes"), "takes no name"),
        (("trust", "notse"), "Did you mean 'notes'?"),
        (("serve", "--allow", "calculatr"), "Did you mean 'calculator'?"),
        (("serve", "--http", "--host", "0.0.0.0"), "only programs of this machine"),
    ],
)
def test_misuse_is_a_sentence(
    twofold, data: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.delenv("TWOFOLD_KEY", raising=False)
    result = twofold("mcp", *arguments)
    assert result.code in (1, 2)
    assert sentence in result.said


def test_another_program_calculates_here(twofold, data: Path) -> None:
    program = StdioServerParameters(
        command=sys.executable,
        args=["-m", "twofold", "mcp", "--allow", "calculator"],
        env={"PYTHONPATH": os.pathsep.join(sys.path), "XDG_DATA_HOME": os.environ["XDG_DATA_HOME"]},
    )

    async def ask() -> None:
        async with Client(program) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["calculator"]
            found = await client.call_tool("calculator", {"expression": "17 * 23"})
            assert found.content[0].text == "391"  # type: ignore[union-attr]

    asyncio.run(ask())
    logged = twofold("logs", "1").out
    assert "calculator(expression=17 * 23)" in logged
    assert "its client left" in logged
