"""Per-example gradient norms against the gradients themselves, one backward pass per example."""

import numpy as np
import pytest

import diagnostics as dg
import minirnn
from diagnostics.quantities.example_norms import OuterProducts
from minirnn import cell, mean, sigmoid, stop, tanh
from minirnn.layers.reference import use_reference
from tests.conformance.test_corner_cells import CORNERS

STEPS, BATCH, INPUTS, UNITS = 4, 3, 2, 4


@cell(gates="abc", state="hm", vectors=("v",))
def user_made(wx, u, prev, p):
    """Three stages, a mean, a stop, and a vector that is multiplied with a block."""
    a = tanh(wx.a + u.a @ (prev.h + p.v * prev.m))
    b = tanh(wx.b + u.b @ (a - mean(p.v * a)))
    c = sigmoid(wx.c + u.c @ (stop(a) * b))
    return b + c * (prev.h - b), a * p.v


CELLS = [*minirnn.cells.names(), *CORNERS, user_made]
LENGTHS = (4, 0, 2)
# Sums of some hundred products in float64, which may cancel a little.
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}


def title(made):
    return made if isinstance(made, str) else made.name


def build(made, **options):
    return minirnn.Recurrent(made, INPUTS, UNITS, dtype="float64", seed=3, **options)


def draw(rng, layer):
    x = rng.normal(size=(STEPS, BATCH, INPUTS))
    return x, rng.normal(size=(STEPS, BATCH, UNITS * layer.directions))


def norm(arrays):
    return np.sqrt(sum((a * a).sum() for a in arrays))


def gradients(layer, output, d_output):
    """Gradients of all parameters by name; None where the output does not depend on one."""
    named = dict(layer.named_parameters())
    found = minirnn.grad(output, list(named.values()), d_output, allow_unused=True)
    return {
        k: np.zeros(p.shape) if g is None else g.numpy()
        for (k, p), g in zip(named.items(), found, strict=True)
    }


@pytest.mark.parametrize("made", CELLS, ids=title)
def test_norms_of_sequences_are_those_of_their_gradients(made, rng):
    """Two levels, both directions, and sequences of several lengths."""
    layer = build(made, num_layers=2, bidirectional=True)
    x, d_output = draw(rng, layer)
    with use_reference():
        found = dg.example_grad_norms(layer, x, d_output, lengths=LENGTHS)
        assert found.value.shape == (BATCH,)
        for b, length in enumerate(LENGTHS):
            output, _ = layer(x[:, b : b + 1], lengths=[length])
            grads = gradients(layer, output, d_output[:, b : b + 1])
            np.testing.assert_allclose(found.value[b], norm(grads.values()), **TOLERANCE)
            assert set(found.parameters) == {k for k, g in grads.items() if g.size}
            for name, norms in found.parameters.items():
                np.testing.assert_allclose(norms.value[b], norm([grads[name]]), **TOLERANCE)


@pytest.mark.parametrize("made", ["lstm_peephole", "gru_before", "lstm_1997", user_made], ids=title)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_a_record_holds_the_factors_of_every_gradient(made, lengths, rng):
    """dW_ih = sum gate_grads^T inputs, dU_k = sum recurrent_gate_grads[k]^T operands[k]."""
    layer = build(made, num_layers=2, bidirectional=True)
    x, d_output = draw(rng, layer)
    if lengths is not None:
        x[np.arange(STEPS)[:, None] >= np.array(lengths)] = np.nan
    with use_reference(), minirnn.watch(layer) as seen:
        output, _ = layer(x, lengths=lengths)
        output.backward(d_output)
    for (level, direction), suffix in {(0, 1): "_l0_reverse", (1, 0): "_l1"}.items():
        record = seen[level, direction]
        dwx = np.concatenate([record.gate_grads[k] for k in layer.cell.gates], axis=2)
        dwh = [
            np.einsum("tbi,tbj->ij", record.recurrent_gate_grads[k], v)
            for k, v in record.operands.items()
        ]
        expected = {
            "weight_ih": np.einsum("tbi,tbj->ij", dwx, record.inputs),
            "weight_hh": np.concatenate(dwh),
        }
        expected |= {f"vector_{k}": d.sum((0, 1)) for k, d in record.vector_grads.items()}
        for kind, value in expected.items():
            np.testing.assert_allclose(getattr(layer, kind + suffix).grad, value, **TOLERANCE)


def share_of_step(layer, x, d_output, t):
    """Gradient that step t alone sends: the other steps run a copy of the layer."""
    other = build(layer.cell, num_layers=layer.num_layers)
    other.load_state_dict(layer.state_dict())
    outputs, state = [], None
    for part, first, last in ((other, 0, t), (layer, t, t + 1), (other, t + 1, STEPS)):
        if last > first:
            output, state = part(x[first:last], state, start=first)
            outputs.append(output)
    return gradients(layer, minirnn.concat(outputs, dim=0), d_output)


@pytest.mark.parametrize("made", ["lstm_peephole", "gru_before", "clockwork", "lstm_layernorm"])
def test_norms_of_steps_are_those_of_their_share(made, rng):
    layer = build(made, num_layers=2)
    x, d_output = draw(rng, layer)
    with use_reference():
        found = dg.example_grad_norms(layer, x, d_output)
        for t in range(STEPS):
            whole = share_of_step(layer, x, d_output, t)
            np.testing.assert_allclose(found.batch_per_step[t], norm(whole.values()), **TOLERANCE)
            for name, norms in found.parameters.items():
                np.testing.assert_allclose(
                    norms.batch_per_step[t], norm([whole[name]]), **TOLERANCE
                )
            for b in range(BATCH):
                alone = share_of_step(layer, x[:, b : b + 1], d_output[:, b : b + 1], t)
                np.testing.assert_allclose(found.per_step[t, b], norm(alone.values()), **TOLERANCE)


def test_one_step_is_coherent_and_no_sum_exceeds_its_parts(rng):
    layer = build("lstm")
    x, d_output = draw(rng, layer)
    found = dg.example_grad_norms(layer, x, d_output)
    assert ((found.coherence > 0) & (found.coherence <= 1 + 1e-12)).all()
    only = dg.example_grad_norms(layer, x[:1], d_output[:1])
    np.testing.assert_allclose(only.coherence, 1, rtol=1e-12)


def test_measuring_leaves_no_trace_and_forms_no_gradient(rng, monkeypatch):
    layer = build("gru", num_layers=2, dropout=0.5)
    layer.weight_ih_l1.requires_grad = False
    x, d_output = draw(rng, layer)
    asked = []

    def grad(outputs, inputs, d):
        asked.append([p.requires_grad for p in layer.parameters()])
        return plain(outputs, inputs, d)

    plain = minirnn.grad
    monkeypatch.setattr(minirnn, "grad", grad)
    first = dg.example_grad_norms(layer, x, d_output)
    assert asked == [[False] * 8]
    assert layer.training and layer.weight_hh_l0.requires_grad
    assert not layer.weight_ih_l1.requires_grad
    assert all(p.grad is None for p in layer.parameters())
    # Dropout was off: the same numbers again.
    np.testing.assert_array_equal(first.value, dg.example_grad_norms(layer, x, d_output).value)
    assert "weight_ih_l1" in first.parameters


def test_batch_first_and_unbatched_input_are_taken(rng):
    layer, swapped = build("lstm"), build("lstm", batch_first=True)
    x, d_output = draw(rng, layer)
    expected = dg.example_grad_norms(layer, x, d_output)
    found = dg.example_grad_norms(swapped, x.swapaxes(0, 1), d_output.swapaxes(0, 1))
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-12)
    single = dg.example_grad_norms(layer, minirnn.Tensor(x[:, 0]), d_output[:, 0])
    np.testing.assert_allclose(single.value, expected.value[:1], rtol=1e-12)


def test_float32_layers_are_measured_in_float64(rng):
    layer = minirnn.Recurrent("gru", INPUTS, UNITS, seed=3)
    exact = build("gru")
    exact.load_state_dict(layer.state_dict())
    x, d_output = draw(rng, exact)
    x = x.astype(np.float32)
    found = dg.example_grad_norms(layer, x, d_output)
    assert found.value.dtype == np.float64
    expected = dg.example_grad_norms(exact, x.astype(np.float64), d_output)
    # Rounding of the pass itself, in float32.
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_norms_stay_in_range_where_squares_would_not(scale, rng):
    d, v = scale * rng.normal(size=(3, 2, 5)), rng.normal(size=(3, 2, 4))
    part = OuterProducts(d, v)
    with np.errstate(over="ignore", under="ignore"):
        sums = np.einsum("tbm,tbk->bmk", d / scale, v)
    np.testing.assert_allclose(
        part.of_sequences() / scale, np.sqrt((sums**2).sum(axis=(1, 2))), rtol=1e-12
    )
    assert np.isfinite(part.of_steps()).all() and (part.of_steps_of_batch() > 0).all()


def test_a_gram_in_pieces_is_the_whole_gram(rng):
    d, v = rng.normal(size=(700, 1, 3)), rng.normal(size=(700, 1, 2))
    expected = np.linalg.norm(d[:, 0].T @ v[:, 0])
    np.testing.assert_allclose(OuterProducts(d, v).of_sequences(), [expected], rtol=1e-11)


def test_what_is_not_a_number_shows(rng):
    d = rng.normal(size=(3, 2, 5))
    d[1, 0, 2] = np.nan
    norms = OuterProducts(d, rng.normal(size=(3, 2, 4))).of_sequences()
    assert np.isnan(norms[0]) and np.isfinite(norms[1])


def test_wrong_shapes_are_refused_with_the_rule():
    layer = build("rnn")
    with pytest.raises(ValueError, match=r"output's shape \(4, 3, 4\), got \(4, 3, 2\)"):
        dg.example_grad_norms(layer, np.ones((4, 3, 2)), np.ones((4, 3, 2)))
    with pytest.raises(ValueError, match="at least one step"):
        dg.example_grad_norms(layer, np.ones((0, 3, 2)), np.ones((0, 3, 4)))
