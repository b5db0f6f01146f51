"""Plans: published runs come out as published, layouts fit, tables of hardware can be changed."""

import dataclasses
import math
from pathlib import Path

import pytest
from made_ladder import made

from twofold.base.errors import BadFileError, UsageError
from twofold.measure import budget, hardware, layout, published
from twofold.measure.budget import Answer, Wish, answer

LAW = budget.chinchilla()
H100 = hardware.packaged("h100")
TALK = Wish(weights=70e9, tokens=2e12, devices=6000)


@pytest.mark.parametrize("figure", published.figures(), ids=lambda figure: f"{figure.run} {figure.what}")
def test_a_published_run_is_planned_within_what_is_promised(figure: published.Figure) -> None:
    assert abs(figure.error) <= figure.promised
    assert figure.source


def test_the_stored_law_is_the_replication() -> None:
    law = LAW.fit.law
    assert (round(law.E, 3), round(law.alpha, 2), round(law.beta, 2)) == (1.817, 0.35, 0.37)
    assert len(LAW.fit.again) == 200
    assert len(LAW.fit.residuals) == 240
    middle, low, high = LAW.loss(70e9, 1.4e12)
    assert low < middle < high
    assert 1.9 < low < high < 2.05


@pytest.mark.parametrize(
    ("wish", "device"),
    [
        (TALK, "a100-80gb"),
        (Wish(weights=405e9, tokens=15.6e12, devices=16384, context=8192), "h100"),
        (Wish(dollars=100), "h100"),
        (Wish(flops=1e21, devices=8, context=2048), "rtx-4090"),
        (Wish(loss=2.2), "h200"),
        (Wish(days=30, devices=512), "b200"),
        (Wish(weights=7e9, tokens=2e12), "a100-40gb"),
    ],
)
def test_a_layout_fits_and_uses_every_device(wish: Wish, device: str) -> None:
    found = answer(wish, hardware.packaged(device), LAW)
    lay = found.layout
    assert lay is not None
    assert lay.data * lay.tensor * lay.pipeline == found.devices
    assert lay.tensor <= found.device.per_node
    assert lay.memory.total <= found.device.memory
    assert 0 <= lay.lost < 1
    read = lay.data * lay.rows * lay.micro * wish.context
    assert found.batch_tokens <= read < found.batch_tokens + lay.data * lay.rows * wish.context * 1.001
    assert found.flops == pytest.approx(6 * found.weights * found.tokens)
    seconds = found.flops / (found.devices * found.device.peak * found.utilisation)
    assert found.seconds == pytest.approx(seconds)


def test_all_bytes_of_a_model_are_somewhere() -> None:
    weights = 13e9
    whole = layout.best(weights, 64, H100, 4e6, 4096)
    assert whole is not None
    state = whole.memory.optimiser * 64
    assert state == pytest.approx(12 * weights)
    assert layout.best(weights, 1, H100, 4e6, 4096) is None, "13B do not train on one of 80 GB"
    assert layout.least_devices(weights, H100, 4096) in (4, 8)
    assert layout.best(1e9, 3, H100, 1e4, 4096) is None, "two rows cannot keep three devices busy"


def test_shapes_are_near_those_that_people_build() -> None:
    for weights, layers, width in ((6.6e9, 32, 4096), (69e9, 80, 8192), (404e9, 126, 16384)):
        shape = layout.shape(weights)
        assert abs(shape.layers / layers - 1) < 0.15
        assert abs(shape.width / width - 1) < 0.15


def test_what_is_open_follows_from_what_is_given() -> None:
    best = answer(Wish(flops=1e21), H100, LAW)
    assert answer(Wish(loss=best.loss[0]), H100, LAW).flops == pytest.approx(1e21, rel=1e-3)
    for wish in (Wish(flops=1e21, weights=best.weights / 3), Wish(flops=1e21, tokens=best.tokens / 3)):
        found = answer(wish, H100, LAW)
        assert found.flops == pytest.approx(1e21)
        assert found.loss[0] > best.loss[0]
    money = answer(Wish(dollars=1000, devices=8), H100, LAW)
    assert money.dollars == pytest.approx(1000)
    days = answer(Wish(days=2, devices=8), H100, LAW)
    assert days.days == pytest.approx(2)
    both = answer(Wish(days=2, devices=8, dollars=100), H100, LAW)
    assert both.dollars == pytest.approx(100), "the smaller of two budgets counts"
    alone = answer(Wish(flops=1e23, days=10), H100, LAW)
    assert 5 < alone.days <= 10.1, "so many devices that it is done in time"


def test_what_it_would_take_instead() -> None:
    wish = Wish(weights=175e9, tokens=300e9, devices=1024)
    found = answer(wish, H100, LAW)
    others: dict[str, Answer] = dict(budget.instead(wish, found, LAW))
    best = others["the best size for as much"]
    assert best.flops == pytest.approx(found.flops)
    assert best.loss[0] < found.loss[0]
    same = others["the same loss for the least"]
    assert same.loss[0] == pytest.approx(found.loss[0], rel=1e-6)
    assert same.flops < found.flops
    nearer = others["a tenth nearer to the floor"]
    floor = LAW.fit.law.E
    assert nearer.loss[0] - floor == pytest.approx(0.9 * (found.loss[0] - floor), rel=1e-6)
    assert others["in half the time"].seconds <= 0.505 * found.seconds
    ideal = answer(Wish(flops=1e21, devices=8), H100, LAW)
    names = [name for name, _ in budget.instead(Wish(flops=1e21, devices=8), ideal, LAW)]
    assert "the best size for as much" not in names, "it is that already"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: answer(Wish(), H100, LAW), "Say what there is to spend"),
        (lambda: answer(Wish(loss=1.5), H100, LAW), "out of reach"),
        (lambda: answer(Wish(loss=2.0, weights=1e9), H100, LAW), "leave out"),
        (lambda: answer(Wish(weights=1e9, tokens=1e9, flops=1e20), H100, LAW), "leave out --flops"),
        (lambda: answer(Wish(dollars=5), dataclasses.replace(H100, dollars_per_hour=0.0), LAW), "price=X"),
        (lambda: Wish(flops=-1.0), "above 0"),
        (lambda: Wish(weights=math.inf), "above 0"),
        (lambda: Wish(devices=0), "1 or more"),
        (lambda: Wish(utilisation=1.5), "at most 1"),
        (lambda: hardware.find("h1000"), "Did you mean 'h100'"),
    ],
)
def test_misuse_is_one_sentence(make: object, sentence: str) -> None:
    assert callable(make)
    with pytest.raises(UsageError, match=sentence):
        make()


def test_the_user_s_table_changes_and_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = hardware.user_file()
    own.parent.mkdir()
    own.write_text("[h100]\ndollars_per_hour = 1.5\n")
    assert hardware.find("H100").dollars_per_hour == 1.5
    assert hardware.find("h100").peak == H100.peak
    assert hardware.packaged("h100") == H100, "published runs are compared with the package's own"
    extra = tmp_path / "more.toml"
    extra.write_text(
        '[mine]\ntitle = "Mine"\nbf16_tflops = 1\nmemory_gb = 8\nbandwidth_gb_s = 100\nper_node = 1\n'
        'link_gb_s = 10\nnetwork_gb_s = 1\ndollars_per_hour = 0.01\nsource = "me"\n[h100]\nmemory_gb = 94\n'
    )
    assert hardware.find("mine", extra).peak == 1e12
    both = hardware.find("h100", extra)
    assert (both.dollars_per_hour, both.memory_gb) == (1.5, 94)
    for wrong, complaint in (
        ("[h100]\nprice = 1\n", "dollars_per_hour|no setting"),
        ("[h100]\nmemory_gb = -1\n", "above 0"),
        ("[new]\nmemory_gb = 1\n", "missing"),
        ("x = 1\n", "outside"),
        ("[", "cannot be read"),
    ):
        extra.write_text(wrong)
        with pytest.raises(BadFileError, match=complaint):
            hardware.devices(extra)
    with pytest.raises(UsageError, match="no file"):
        hardware.devices(tmp_path / "none.toml")


def test_this_machine_plans_by_its_ladder() -> None:
    ladder = made()
    law = budget.of_ladder(ladder)
    weights, tokens = law.best(1e14)
    assert law.flops(weights, tokens) == pytest.approx(1e14)
    least = law.loss(weights, tokens)[0]
    for factor in (0.8, 1.25):
        assert law.loss(weights * factor, tokens / factor)[0] > least
    assert law.flops_for(least) == pytest.approx(1e14, rel=1e-3)
    assert law.overhead == pytest.approx(7 / 6, rel=1e-3)
    device = dataclasses.replace(H100, name="here", per_node=1, dollars_per_hour=0.0, utilisation=0.3)
    found = answer(Wish(days=1 / 72, context=512), device, law)
    assert found.devices == 1
    assert found.utilisation == 0.3
    assert found.dollars == 0
