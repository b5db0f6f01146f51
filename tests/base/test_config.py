"""Configuration from TOML and --set: typed, strict, and helpful about typing errors."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.base import config
from twofold.base.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    lr: float = 0.02
    betas: tuple[float, ...] = (0.9, 0.95)

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError("lr must be above 0.")


@dataclass(frozen=True, kw_only=True)
class Settings:
    paths: list[str]
    depth: int = 6
    compile: bool = True
    limit: int | None = None
    out: Path = Path("runs")
    dtype: Literal["auto", "bf16"] = "auto"
    note: str = ""
    optimizer: Optimizer = field(default_factory=Optimizer)
    weights: dict[str, float] = field(default_factory=dict)


BASE = Settings(paths=["a.txt"])


def test_every_type_from_text() -> None:
    settings = ["depth=8", "compile=no", "limit=1e6", "out=a/b", "dtype=bf16", "note=x=y", "weights.web=2"]
    settings += ["optimizer.lr=3e-4", "optimizer.betas=0.8,0.9", "paths=[b.txt, c.txt]"]
    got = config.override(BASE, settings)
    assert got == Settings(
        paths=["b.txt", "c.txt"],
        depth=8,
        compile=False,
        limit=1_000_000,
        out=Path("a/b"),
        dtype="bf16",
        note="x=y",
        optimizer=Optimizer(lr=3e-4, betas=(0.8, 0.9)),
        weights={"web": 2.0},
    )
    assert config.override(got, ["limit=none"]).limit is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("depht=8", "no setting depht; did you mean depth?"),
        ("optimizer.rl=1", "no setting optimizer.rl; did you mean optimizer.lr?"),
        ("lr=1", "no setting lr; did you mean optimizer.lr?"),
        ("depth=2.5", "depth must be a whole number, not 2.5"),
        ("depth=many", "depth must be a whole number, not 'many'"),
        ("compile=maybe", "compile must be true or false"),
        ("dtype=fp8", "dtype must be one of auto, bf16"),
        ("depth.x=1", "depth is one value"),
        ("optimizer=1", "optimizer has parts; set one of optimizer.betas, optimizer.lr"),
        ("optimizer.lr=-1", "lr must be above 0"),
        ("optimizer.lr=true", "optimizer.lr must be a number, not 'true'"),
        ("depth", "has no '='"),
    ],
)
def test_mistakes_are_one_clear_sentence(setting: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        config.override(BASE, [setting])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_toml_file(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('paths = ["a"]\ndepth = 4\n[optimizer]\nlr = 1\n')
    got = config.load(Settings, recipe, ["depth=5"], {"note": "hi"})
    assert (got.depth, got.note, got.optimizer.lr) == (5, "hi", 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paths = [1]", "paths must be text"),
        ("depth = 3", "paths is missing"),
        ("paths = ['a']\ndepth = true", "depth must be a whole number, not True"),
        ("paths = ['a']\n[optimiser]\nlr = 1", "no setting optimiser; did you mean optimizer.lr?"),
        ("paths = [", "is not a TOML file"),
    ],
)
def test_bad_toml(tmp_path: Path, text: str, message: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    with pytest.raises(UsageError) as error:
        config.load(Settings, recipe)
    assert message in str(error.value)


def test_missing_file() -> None:
    with pytest.raises(UsageError, match=r"Cannot read nowhere\.toml"):
        config.load(Settings, "nowhere.toml")


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    st.builds(
        Settings,
        paths=st.lists(text, max_size=3),
        depth=st.integers(-(2**60), 2**60),
        compile=st.booleans(),
        limit=st.none() | st.integers(0, 99),
        note=text,
        optimizer=st.builds(Optimizer, lr=st.floats(1e-300, 1e300)),
        weights=st.dictionaries(text, st.floats(allow_nan=False), max_size=3),
    )
)
def test_toml_round_trip(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> None:
    recipe = tmp_path_factory.mktemp("toml") / "recipe.toml"
    recipe.write_text(config.to_toml(settings), encoding="utf-8")
    assert config.load(Settings, recipe) == settings


def test_arrays_of_tables() -> None:
    made = config.to_toml({"sources": [{"path": "a", "bytes": 3}, {"path": "b", "bytes": 4}], "seed": 1})
    assert made == 'seed = 1\n\n[[sources]]\npath = "a"\nbytes = 3\n\n[[sources]]\npath = "b"\nbytes = 4\n'
