"""One test per kind over every file of that kind, so that a new file is tested without editing a list."""

import ast
import importlib
import io
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer

from twofold.base.errors import TwofoldError
from twofold.base.registry import Registry
from twofold.cli.main import COMMANDS, build_app
from twofold.corpus.documents import FORMATS, documents
from twofold.parameters import ModelConfig
from twofold.parameters.families import FAMILIES, of_hf

SOURCE = Path(__file__).resolve().parents[2] / "src"


def registries() -> Iterator[Registry]:
    """Yield every registry of the package, wherever it stands."""
    for path in sorted((SOURCE / "twofold").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            call = node.value if isinstance(node, ast.Assign) else None
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Registry":
                module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
                yield getattr(importlib.import_module(module), node.targets[0].id)


def each(*kinds: Registry) -> list[object]:
    """Return a test parameter for every thing of these kinds."""
    return [pytest.param(kind, name, id=f"{kind.kind} {name}") for kind in kinds for name in kind.names()]


def names(kind: Registry) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", kind.names())


ALL = list(registries())


def test_the_registries_are_found() -> None:
    assert {kind.package for kind in ALL} >= {kind.package for kind in (COMMANDS, FAMILIES, FORMATS)}


@pytest.mark.parametrize(("kind", "name"), each(*ALL))
def test_a_thing_defines_what_its_kind_asks_for(kind: Registry, name: str) -> None:
    module = kind.get(name)
    assert module.__doc__, f"{module.__file__} has no docstring"
    assert len(module.__doc__.splitlines()[0]) > 10


def test_things_do_not_import_what_is_heavy() -> None:
    modules = [f"{kind.package}.{name}" for kind in ALL for name in kind.names()]
    program = (
        "import sys, importlib\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pypdf', 'trafilatura'} & set(sys.modules)\n"
        "sys.exit(f'imported too early: {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_commands_cost_nothing_until_they_are_called() -> None:
    program = (
        "import sys; from twofold.cli.main import build_app; build_app()\n"
        "heavy = {'numpy', 'tokenizers', 'jinja2', 'zstandard'} & set(sys.modules)\n"
        "sys.exit(f'imported too early: {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


# --- commands


@names(COMMANDS)
def test_a_command_explains_itself(name: str) -> None:
    module = COMMANDS.get(name)
    line, meaning = module.EXAMPLE
    assert line.split()[:2] == ["twofold", name]
    assert meaning
    assert not meaning.endswith(".")
    assert module.SECTION
    command = typer.main.get_group(build_app(plain=True)).commands[name]
    first = (command.help or "").strip().splitlines()[0]
    assert first.endswith((".", ":")), f"{name}: its help begins with a sentence"
    flags = [parameter for parameter in command.params if parameter.name != "help"]
    assert len(flags) <= 12, f"{name} has {len(flags)} options: the rest belongs to --set"
    for parameter in flags:
        assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"


# --- model families


def a_config(name: str) -> ModelConfig:
    shape = {"vocab_size": 96, "layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "head_dim": 8, "ffn": 64}
    return ModelConfig(architecture=FAMILIES.get(name).ARCHITECTURE, family=name, context=64, **shape)


@names(FAMILIES)
def test_a_family_writes_a_config_that_it_reads(name: str) -> None:
    family, config = FAMILIES.get(name), a_config(name)
    settings = family.to_hf(config)
    assert family.from_hf(settings) == config
    assert of_hf(settings, "here") is family
    assert of_hf({"model_type": family.MODEL_TYPE}, "here") is family


@names(FAMILIES)
def test_a_family_gives_each_tensor_a_name_and_keeps_its_numbers(name: str) -> None:
    family, config = FAMILIES.get(name), a_config(name)
    shapes = config.shapes()
    assert len({family.hf_name(tensor) for tensor in shapes}) == len(shapes)
    generator = np.random.default_rng(0)
    for tensor, shape in shapes.items():
        array = generator.standard_normal(shape).astype(np.float32)
        there = family.to_hf_order(tensor, array, config=config)
        assert there.shape == shape
        back = family.to_gguf_order(tensor, there, config=config)
        # A family may add 1 to its norms' weights (Gemma), which rounds a last bit; order alone is exact.
        rounding = 3e-7 if tensor.endswith("norm.weight") else 0
        np.testing.assert_allclose(back, array, rtol=0, atol=rounding)


@names(FAMILIES)
def test_a_family_refuses_damaged_configs_in_a_sentence(name: str) -> None:
    family = FAMILIES.get(name)
    settings = family.to_hf(a_config(name))
    for key, wrong in [(key, wrong) for key in settings for wrong in (-1, "x", None, [], 1e30)]:
        try:
            assert isinstance(family.from_hf({**settings, key: wrong}), ModelConfig)
        except TwofoldError as error:
            assert len(str(error)) > 20


# --- text formats


def texts(name: str, data: bytes) -> list[str] | None:
    """Return the texts of `data`, None when the format refuses it in a sentence."""
    try:
        return list(FORMATS.get(name).read(io.BufferedReader(io.BytesIO(data)), "the file"))
    except TwofoldError as error:
        assert "the file" in str(error)
        return None


@names(FORMATS)
def test_a_format_reads_or_refuses_anything(name: str) -> None:
    generator = random.Random(name)
    samples = [
        b"",
        b"\n",
        b"\0" * 100,
        b"\xef\xbb\xbf",
        b"{}\n",
        b'{"text": 1}',
        b"%PDF-1.4",
        b"<html>",
        b"[" * 5000,
    ]
    samples += [generator.randbytes(generator.randrange(1, 2000)) for _ in range(30)]
    for data in samples:
        for text in texts(name, data) or []:
            assert isinstance(text, str)
            text.encode()  # whole characters only


@names(FORMATS)
def test_a_format_is_found_by_its_extension(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{name.upper()}"
    path.write_bytes(b"")
    try:
        assert list(documents(path)) == []
    except TwofoldError as error:
        assert path.name in str(error)
        assert "no such format" not in str(error)
