"""The torch transformer: equal to numpy's, blind across documents and to the future, with right slopes."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twofold.parameters import ModelConfig  # noqa: E402
from twofold.run.reference import Reference  # noqa: E402
from twofold.tokens import Tokenizer  # noqa: E402
from twofold.train import transformer  # noqa: E402
from twofold.train.export import from_model, to_model  # noqa: E402
from twofold.train.functions import HeadLoss  # noqa: E402
from twofold.train.transformer import Transformer  # noqa: E402

VOCAB = 320


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def network(*, seed=0, compute=torch.float32, **changes):
    shape = dict(
        architecture="qwen3", vocab_size=VOCAB, layers=2, width=32, heads=4, kv_heads=2, head_dim=16, ffn=64,
        context=48,
    )  # fmt: skip
    net = Transformer(ModelConfig(**{**shape, **changes}), compute=compute)
    net.initialise(seed)
    with torch.no_grad():  # nothing at zero or one, so that every part shows
        generator = torch.Generator().manual_seed(seed + 1)
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return net


def ids(rows=2, length=40, seed=0):
    return torch.randint(0, VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_logits_equal_the_numpy_reference(tied, kv_heads):
    net = network(tied=tied, kv_heads=kv_heads)
    tokens = ids(rows=1)
    model = to_model(net, None, {"name": "test"})
    n = tokens.shape[1]
    expected = Reference(model, context=48).forward(tokens[0].tolist(), [0] * n, range(n), [True] * n)
    with torch.no_grad():
        found = net.logits(tokens)[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_blocks_of_attention_do_not_change_the_result(monkeypatch):
    net = network()
    whole = net.logits(ids())
    monkeypatch.setattr(transformer, "ATTENTION_BLOCK", 7)
    torch.testing.assert_close(net.logits(ids()), whole, rtol=1e-5, atol=1e-5)


def test_a_token_does_not_see_later_ones():
    net = network()
    tokens = ids()
    changed = tokens.clone()
    changed[:, 25:] = (changed[:, 25:] + 1) % VOCAB
    torch.testing.assert_close(net.logits(tokens)[:, :25], net.logits(changed)[:, :25])
    assert (net.logits(tokens)[:, 25:] != net.logits(changed)[:, 25:]).any()


def test_documents_in_a_row_are_as_if_alone():
    net = network()
    tokens = ids(rows=1)
    documents = (torch.arange(40) >= 15).long()[None]
    packed = net.logits(tokens, documents)[0, 15:]
    alone = net.logits(tokens[:, 15:])[0]
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-4)


def test_loss_is_cross_entropy_over_the_targets_that_count():
    net = network()
    tokens, targets = ids(), ids(seed=1)
    targets[0, :10] = -1
    expected = torch.nn.functional.cross_entropy(
        net.logits(tokens).flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum"
    )
    torch.testing.assert_close(net.loss(tokens, targets), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_gradients_equal_torchs_own(tied, monkeypatch):
    monkeypatch.setattr("twofold.train.functions.CHUNK", 13)
    net = network(tied=tied)
    tokens, targets = ids(), ids(seed=1)
    targets[1, 5:9] = -1
    net.loss(tokens, targets).backward()
    found = {name: parameter.grad.clone() for name, parameter in net.named().items()}
    net.zero_grad()
    logits = torch.nn.functional.linear(net(tokens), net.head)
    torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum"
    ).backward()
    for name, parameter in net.named().items():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-3, msg=name)


def test_gradient_is_the_slope():
    net = network().double()
    net.compute = torch.float64
    tokens, targets = ids(rows=1, length=12), ids(rows=1, length=12, seed=1)

    def loss():
        return torch.nn.functional.cross_entropy(
            torch.nn.functional.linear(net(tokens), net.head)[0], targets[0], reduction="sum"
        )

    loss().backward()
    for name, parameter in net.named().items():
        place = tuple(size // 2 for size in parameter.shape)
        if name == "token_embd.weight":
            place = (int(tokens[0, 0]), 3)
        with torch.no_grad():
            parameter[place] += 1e-5
            above = float(loss())
            parameter[place] -= 2e-5
            below = float(loss())
            parameter[place] += 1e-5
        assert float(parameter.grad[place]) == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-7), name


def test_bfloat16_stays_near_float32():
    exact, rough = network(), network(compute=torch.bfloat16)
    tokens = ids()
    with torch.no_grad():
        difference = (exact.logits(tokens) - rough.logits(tokens)).abs().mean()
        spread = exact.logits(tokens).std()
    assert difference < 0.03 * spread
    rough.loss(tokens, ids(seed=1)).backward()
    assert all(p.grad.dtype == torch.float32 for p in rough.parameters())


def test_start_is_the_same_on_every_machine_and_each_block_begins_as_identity():
    a, b, c = (Transformer(network().config) for _ in range(3))
    a.initialise(3), b.initialise(3), c.initialise(4)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.token_embd, c.token_embd)
    x = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0))
    cos, sin = transformer.rotary_table(5, 16, 1e4)
    bias = transformer.attention_bias(5, None, torch.float32, torch.device("cpu"))
    assert torch.equal(a.blk[0](x, cos, sin, bias), x)


def test_head_loss_without_gradients_is_float32():
    x, head = torch.randn(9, 4).bfloat16(), torch.randn(6, 4)
    targets = torch.arange(9) % 6
    with torch.no_grad():
        found = HeadLoss.apply(x, head, targets)
    expected = torch.nn.functional.cross_entropy(x.float() @ head.T, targets, reduction="sum")
    torch.testing.assert_close(found, expected)


def test_a_model_goes_to_torch_and_back():
    net = network()
    tokenizer = Tokenizer.train(["a b c"], VOCAB)
    again = from_model(to_model(net, tokenizer, {"name": "x"}))
    assert all(torch.equal(p, again.named()[name]) for name, p in net.named().items())
    assert set(net.named()) == set(net.config.shapes())
    assert all(tuple(p.shape) == net.config.shapes()[name] for name, p in net.named().items())


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor:UserWarning"
)  # torch's own, while compiling
def test_compiled_blocks_learn_the_same_and_only_while_learning():
    plain, compiled = network(), network()
    programs = []

    def backend(graph, _):
        programs.append(graph)
        return graph.forward

    compiled.compile_blocks(backend)
    for net in (plain, compiled):
        net.loss(ids(), ids(seed=1)).backward()
    assert len(programs) == 1  # one for both blocks
    for name, parameter in plain.named().items():
        torch.testing.assert_close(compiled.named()[name].grad, parameter.grad)
    with torch.no_grad():
        compiled.loss(ids(length=9), ids(length=9))
    assert len(programs) == 1  # another shape, and nothing to learn
