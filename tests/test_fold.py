"""``layer(ids, embedding=...)``: the same as ``layer(embedding(ids))``, to rounding."""

import contextlib

import numpy as np
import pytest

from minirnn.engine import Tensor, grad
from minirnn.engine.functional import hvp, jvp
from minirnn.kernels import forward, threads
from minirnn.kernels._jit import JIT_DISABLED
from minirnn.layers.embedding import Embedding
from minirnn.layers.recurrent import Recurrent
from minirnn.layers.reference import use_reference
from minirnn.layers.watch import watch

SYMBOLS, INPUTS, UNITS, STEPS, BATCH = 5, 3, 20, 7, 4
needs_kernels = pytest.mark.skipif(JIT_DISABLED, reason="only kernels fold")


def model(cell="lstm", dtype=np.float64, **options):
    return Embedding(SYMBOLS, INPUTS, dtype=dtype, seed=1), Recurrent(
        cell, INPUTS, UNITS, dtype=dtype, seed=2, **options
    )


def ids_for(layer, rng):
    return rng.integers(0, SYMBOLS, (BATCH, STEPS) if layer.batch_first else (STEPS, BATCH))


def results(embedding, layer, folded, ids, **given):
    """Output, states and all gradients of a loss that reads each of them."""
    if folded:
        output, state = layer(ids, embedding=embedding, **given)
    else:
        output, state = layer(embedding(ids), **given)
    parts = [output, *(state if isinstance(state, tuple) else (state,))]
    weights = [np.random.default_rng(i).standard_normal(p.shape) for i, p in enumerate(parts)]
    loss = sum((p * w.astype(p.dtype)).sum() for p, w in zip(parts, weights, strict=True))
    inputs = [*embedding.parameters(), *layer.parameters()]
    return [p.numpy() for p in parts] + [g.numpy() for g in grad(loss, inputs)]


def close(got, expected, scale=1.0):
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        # Sums of a few hundred numbers of size 1 in another order.
        np.testing.assert_allclose(a, b, rtol=0, atol=500 * scale * np.finfo(a.dtype).eps)


CASES = {
    "lstm": ("lstm", {}, {}),
    "a cell of two stages": ("gru_before", {}, {}),
    "a gate nothing uses, unequal biases": ("gru", {}, {}),
    "lengths": ("lstm", {}, {"lengths": [3, 7, 0, 5]}),
    "no step at all": ("rnn", {}, {"lengths": [0, 0, 0, 0]}),
    "both directions": ("gru", {"bidirectional": True}, {}),
    "both directions, lengths": ("lstm", {"bidirectional": True}, {"lengths": [3, 7, 0, 5]}),
    "levels": ("lstm", {"num_layers": 2}, {}),
    "batch first": ("rnn", {"batch_first": True}, {}),
    "no bias": ("lstm", {"bias": False}, {}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_are_those_of_the_embedded_input(rng, case, dtype):
    cell, options, given = CASES[case]
    embedding, layer = model(cell, dtype, **options)
    ids = ids_for(layer, rng)
    close(*(results(embedding, layer, folded, ids, **given) for folded in (True, False)))


def test_a_sequence_without_a_batch_and_a_plain_table_will_do(rng):
    embedding, layer = model()
    ids = rng.integers(0, SYMBOLS, 9)
    output, (h, _) = layer(ids, embedding=embedding.weight)
    expected, (last, _) = layer(embedding(ids))
    close([output.numpy(), h.numpy()], [expected.numpy(), last.numpy()])
    table = embedding.weight.numpy()
    np.testing.assert_array_equal(layer(ids, embedding=table)[0].numpy(), output.numpy())


@needs_kernels
def test_rows_are_picked_from_a_table_where_ids_are_at_least_as_many_as_symbols(rng, monkeypatch):
    embedding, layer = model()
    made = []
    whole = forward.Run.__init__
    monkeypatch.setattr(
        forward.Run, "__init__", lambda self, *a, **k: (whole(self, *a, **k), made.append(self))[0]
    )
    layer(rng.integers(0, SYMBOLS, (SYMBOLS, 1)), embedding=embedding)
    layer(rng.integers(0, SYMBOLS, (SYMBOLS - 1, 1)), embedding=embedding)
    assert [run.fold is not None for run in made] == [True, False]
    assert made[0].fold.table.shape[0] == SYMBOLS


@pytest.mark.parametrize("frozen", ["embedding", "layer"])
def test_gradients_are_formed_for_what_asks_for_them(rng, frozen):
    embedding, layer = model()
    for parameter in {"embedding": embedding, "layer": layer}[frozen].parameters():
        parameter.requires_grad = False
    ids = ids_for(layer, rng)
    got = []
    for folded in (True, False):
        for parameter in (*embedding.parameters(), *layer.parameters()):
            parameter.grad = None
        output, _ = layer(ids, embedding=embedding) if folded else layer(embedding(ids))
        (output * output).sum().backward()
        got.append([p.grad for p in (*embedding.parameters(), *layer.parameters())])
    assert [g is None for g in got[0]] == [g is None for g in got[1]]
    close(*([g for g in one if g is not None] for one in got))


def test_higher_derivatives_and_tangents_are_those_of_the_embedded_input(rng):
    embedding, layer = model("gru")
    ids = ids_for(layer, rng)
    weight = embedding.weight
    move = rng.standard_normal(weight.shape)
    moves = [rng.standard_normal(p.shape) for p in layer.parameters()]
    inputs = [weight, *layer.parameters()]

    def loss(folded):
        def call(*_):
            out = layer(ids, embedding=embedding) if folded else layer(embedding(ids))
            return (out[0] ** 3).sum()

        return call

    tangents, products = [], []
    for folded in (True, False):
        tangents.append([t.numpy() for t in jvp(loss(folded), inputs, [move, *moves])])
        products.append(hvp(loss(folded), inputs, [move, *moves]))
    close(*tangents, scale=50)  # a loss of a hundred cubes
    close(*products, scale=50)


@needs_kernels
def test_a_folded_layer_can_be_watched(rng):
    embedding, layer = model()
    ids = ids_for(layer, rng)
    records = []
    for folded in (True, False):
        with watch(layer) as seen:
            output, _ = layer(ids, embedding=embedding) if folded else layer(embedding(ids))
            (output**2).sum().backward()
        found = [seen.states["c"], seen.gates["f"], seen.state_grads["h"], seen.gate_grads["i"]]
        again = seen.pullback(d_output=np.ones((STEPS, BATCH, UNITS)))
        records.append([*found, again.state_grads["c"]])
    close(*records, scale=10)


def test_writing_to_the_embedding_or_the_weights_is_noticed(rng):
    embedding, layer = model()
    ids = ids_for(layer, rng)
    layer(ids, embedding=embedding)
    for parameter in (embedding.weight, layer.weight_ih_l0, layer.bias_ih_l0):
        parameter.assign(parameter.numpy() * 2.0)
        close([layer(ids, embedding=embedding)[0].numpy()], [layer(embedding(ids))[0].numpy()])
    other = Embedding(SYMBOLS, INPUTS, dtype=np.float64, seed=9)
    close([layer(ids, embedding=other)[0].numpy()], [layer(other(ids))[0].numpy()])


def test_the_number_of_threads_changes_no_bit(rng, monkeypatch):
    embedding, layer = model(dtype=np.float32)
    ids = ids_for(layer, rng)
    monkeypatch.setattr(threads, "worth", lambda flops: threads.get_num_threads())
    found = []
    for count in (1, 2):
        monkeypatch.setattr(threads, "_threads", count)
        found.append(results(embedding, layer, True, ids))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_reference_looks_ids_up_too(rng):
    embedding, layer = model()
    ids = ids_for(layer, rng)
    found = []
    for context in (contextlib.nullcontext, use_reference):
        with context():
            found.append(results(embedding, layer, True, ids))
    close(*found)


TABLE = np.zeros((SYMBOLS, INPUTS))


@pytest.mark.parametrize(
    ("x", "table", "error", "words"),
    [
        ([[0.5]], TABLE, TypeError, "ids must be integers, got float64"),
        ([[0, SYMBOLS]], TABLE, ValueError, r"ids must lie in \[0, 4\]"),
        ([[0, 1]], TABLE.T, ValueError, r"\(V, input_size=3\), got \(3, 5\)"),
        ([[0, 1]], TABLE.astype(np.float32), TypeError, "embedding must have the dtype"),
        ([[[0]]], TABLE, ValueError, r"with embedding= x must be ids \(T, B\), or \(T,\)"),
    ],
)
def test_wrong_ids_and_tables_are_refused_by_name(x, table, error, words):
    with pytest.raises(error, match=words):
        model()[1](x, embedding=Tensor(table))
