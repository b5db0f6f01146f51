"""One test per kind over every file of that kind, so that a new file is tested without editing a list."""

import ast
import dataclasses
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
from twofold.measure.items import Asked, Blank, Choice, Ending, Item, Scored
from twofold.measure.likelihood import Likelihood
from twofold.measure.tasks import TASKS
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


# --- tasks


def sample_items(name: str) -> list[Item]:
    module = TASKS.get(name)
    return [item for source in module.DATA for item in module.items(module.SAMPLE, source)]


def answered(item: Item, right: bool) -> dict[str, float]:
    """Return the metrics of a model that knows every answer, or of one that gets every one wrong."""
    if isinstance(item, Asked):
        return item.grade(item.answer if right else "no idea at all")
    assert isinstance(item, Scored)
    pairs = item.pairs("")
    if isinstance(item, Ending):
        return item.grade([Likelihood(-1.0 if right else -30.0, right, 1)])
    if isinstance(item, Choice | Blank):
        good = {item.gold}
    else:
        good = {n for n, (_, true) in enumerate(item.answers) if true}
    return item.grade(
        [Likelihood(-1.0 if (n in good) == right else -900.0, right, 1) for n in range(len(pairs))]
    )


@names(TASKS)
def test_a_task_makes_questions_of_its_sample(name: str) -> None:
    module, found = TASKS.get(name), sample_items(name)
    assert found
    assert "Definition:" in module.__doc__, "a task says whose definition it follows"
    assert module.DATA
    assert all(isinstance(source, str) for source in (*module.DATA, *getattr(module, "EXAMPLES", ())))
    assert getattr(module, "SHOTS", 0) >= 0
    for item in found:
        assert item.text.strip()
        assert len(item.worked()) > 5
        assert dataclasses.is_dataclass(item)
        if isinstance(item, Scored):
            for context, continuation in item.pairs("BEFORE "):
                assert context.startswith("BEFORE ")
                assert continuation
                assert not context.endswith(" ") or context == "BEFORE ", "spaces belong to what follows"
        else:
            assert isinstance(item, Asked)
            assert item.until
            assert item.max_tokens > 0


@names(TASKS)
def test_a_task_tells_right_from_wrong(name: str) -> None:
    headline = TASKS.get(name).HEADLINE
    for item in sample_items(name):
        right, wrong = answered(item, True), answered(item, False)
        assert set(right) == set(wrong)
        assert right[headline] == pytest.approx(1.0)
        assert wrong[headline] == pytest.approx(0.0)


@names(TASKS)
def test_a_task_refuses_records_of_another_kind(name: str) -> None:
    module = TASKS.get(name)
    for record in ({}, {"text": 1}, dict.fromkeys(module.SAMPLE), dict.fromkeys(module.SAMPLE, 7)):
        try:
            assert module.items(record, module.DATA[0]) == []
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            continue  # what evaluation.prepare turns into a sentence with the line
