"""Some random attack plans of tests/soak/policy_fuzz.py: with the rules nothing leaks, without them much
does."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    path = Path(__file__).parents[1] / "soak" / "policy_fuzz.py"
    spec = importlib.util.spec_from_file_location("policy_fuzz", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["policy_fuzz"] = module
    spec.loader.exec_module(module)
    return module


def test_nothing_leaks(fuzz: ModuleType) -> None:
    world = fuzz.batch(1, 25)
    assert world.done
    assert world.once
    assert world.faults == []


def test_the_judge_sees_leaks_where_there_are_no_rules(fuzz: ModuleType) -> None:
    assert fuzz.batch(1, 10, rules=False).faults


def test_the_judge_reads_every_spelling(fuzz: ModuleType) -> None:
    for spell in fuzz.SPELLINGS:
        assert fuzz.marks({"text": f"about {spell('sec123456')} now"}) == {"sec123456"}
    assert fuzz.marks({"text": "nothing"}) == set()
