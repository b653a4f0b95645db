"""RNN, LSTM and GRU against PyTorch: outputs, states, and every gradient.

Bounds of the project, relative to each array's largest entry: 1e-10 in float64, 2e-5 in float32.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

import minirnn
from tests.conformance import harness
from tests.strategies import Case, cases

pytestmark = pytest.mark.torch
TOLERANCE = {"float64": 1e-10, "float32": 2e-5}
KINDS = {
    "rnn_tanh": ("RNN", {"nonlinearity": "tanh"}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}),
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
}


def pair(torch, kind, case, dtype, **options):
    """Make their layer and ours, with the same weights through the same names."""
    name, extra = KINDS[kind]
    options = {"num_layers": case.L, "bias": case.bias, "bidirectional": case.bidirectional} | (
        options | extra
    )
    torch.manual_seed(case.seed)
    theirs = getattr(torch.nn, name)(case.I, case.H, dtype=getattr(torch, dtype), **options)
    ours = getattr(minirnn, name)(case.I, case.H, dtype=dtype, **options)
    weights = {k: v.detach().numpy() for k, v in theirs.state_dict().items()}
    assert ours.load_state_dict(weights) == ([], [])
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in weights.items()
    }
    return theirs, ours


def run_theirs(torch, layer, ours, data, lengths=None, batch_first=False):
    """Run PyTorch forward and backward: the dict of ``harness.run``."""
    rnn = torch.nn.utils.rnn
    x = torch.tensor(data.x, requires_grad=True)
    state0 = tuple(torch.tensor(s, requires_grad=True) for s in data.state0)
    given = x
    if lengths is not None:
        given = rnn.pack_padded_sequence(
            x, torch.tensor(lengths), batch_first=batch_first, enforce_sorted=False
        )
    output, state = layer(given, harness.pack(state0))
    if lengths is not None:
        output, _ = rnn.pad_packed_sequence(
            output, batch_first=batch_first, total_length=x.shape[int(batch_first)]
        )
    state = harness.unpack(state)
    loss = (output * torch.tensor(data.d_output)).sum()
    for value, d_value in zip(state, data.d_state, strict=True):
        loss = loss + (value * torch.tensor(d_value)).sum()
    layer.zero_grad()
    loss.backward()
    results = {"output": output.detach().numpy()}
    names = ours.cell.state
    results |= {f"state.{k}": s.detach().numpy() for k, s in zip(names, state, strict=True)}
    results["d x"] = x.grad.numpy()
    results |= {f"d state0.{k}": s.grad.numpy() for k, s in zip(names, state0, strict=True)}
    return results | {f"d {k}": p.grad.numpy() for k, p in layer.named_parameters()}


def assert_equal(torch, kind, case, dtype):
    theirs, ours = pair(torch, kind, case, dtype)
    data = harness.draw(ours, case, dtype)
    expected = run_theirs(torch, theirs, ours, data, case.lengths)
    harness.assert_all_close(harness.run(ours, data, case.lengths), expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("lengths", [None, (6, 1, 4, 6, 3)], ids=["full", "lengths"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_equal_pytorchs(torch, kind, levels, bidirectional, lengths, dtype):
    case = Case(T=6, B=5, I=7, H=11, L=levels, bidirectional=bidirectional, lengths=lengths, seed=1)
    assert_equal(torch, kind, case, dtype)


@pytest.mark.parametrize("kind", KINDS)
@given(case=cases(max_layers=3))
def test_sizes_that_fit_no_vector_equal_pytorchs(torch, kind, case):
    if case.lengths is not None:  # PyTorch packs no empty sequence
        case = replace(case, lengths=tuple(max(n, 1) for n in case.lengths))
    assert_equal(torch, kind, case, "float64")


@pytest.mark.parametrize("lengths", [None, (3, 6, 1, 2, 5)], ids=["full", "lengths"])
@pytest.mark.parametrize("kind", KINDS)
def test_batch_first_moves_the_same_axes_as_pytorchs(torch, kind, lengths):
    case = Case(T=6, B=5, I=3, H=9, L=2, bidirectional=True, seed=2)
    theirs, ours = pair(torch, kind, case, "float64", batch_first=True)
    data = harness.draw(ours, case)
    data = replace(
        data, x=data.x.swapaxes(0, 1).copy(), d_output=data.d_output.swapaxes(0, 1).copy()
    )
    expected = run_theirs(torch, theirs, ours, data, lengths, batch_first=True)
    harness.assert_all_close(harness.run(ours, data, lengths), expected, TOLERANCE["float64"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_unbatched_sequence_has_the_shapes_of_pytorchs(torch, kind):
    case = Case(T=6, B=1, I=3, H=9, L=2, bidirectional=True, seed=3)
    theirs, ours = pair(torch, kind, case, "float64")
    data = harness.draw(ours, case)
    bare = harness.Data(
        x=data.x[:, 0],
        state0=tuple(s[:, 0] for s in data.state0),
        d_output=data.d_output[:, 0],
        d_state=tuple(d[:, 0] for d in data.d_state),
    )
    expected = run_theirs(torch, theirs, ours, bare)
    harness.assert_all_close(harness.run(ours, bare), expected, TOLERANCE["float64"])


@pytest.mark.parametrize("kind", KINDS)
def test_no_initial_state_is_a_state_of_zeros_as_in_pytorch(torch, kind):
    case = Case(T=4, B=3, I=2, H=5, L=2, seed=4)
    theirs, ours = pair(torch, kind, case, "float64")
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    expected, _ = theirs(torch.tensor(x))
    with minirnn.no_grad():
        output, _ = ours(x)
    harness.assert_close(output.numpy(), expected.detach().numpy(), TOLERANCE["float64"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_derivative_equals_pytorchs(torch, kind):
    """The gradient of the squared norm of the gradient, through ``create_graph``."""
    case = Case(T=3, B=2, I=2, H=3, seed=5)
    theirs, ours = pair(torch, kind, case, "float64")
    data = harness.draw(ours, case)

    x = torch.tensor(data.x, requires_grad=True)
    (dx,) = torch.autograd.grad((theirs(x)[0] ** 3).sum(), x, create_graph=True)
    (dx * dx).sum().backward()

    y = minirnn.Tensor(data.x, requires_grad=True)
    (dy,) = minirnn.grad((ours(y)[0] ** 3).sum(), y, create_graph=True)
    (dy * dy).sum().backward()
    harness.assert_close(y.grad, x.grad.numpy(), 1e-10, "x")
    for name, parameter in theirs.named_parameters():
        mine = dict(ours.named_parameters())[name].grad
        harness.assert_close(mine, parameter.grad.numpy(), 1e-10, name)
