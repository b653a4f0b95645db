"""The cells that ONNX has, or can be told to compute, against onnxruntime in float32.

ONNX's LSTM has the gates i o f g, its GRU z r n; both have the recurrent bias apart, as here. With
``input_forget`` the LSTM's forget gate is 1 - i; ``linear_before_reset`` puts the reset gate after
the recurrent product.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest

from minirnn import cell, cells, clip, sigmoid, tanh
from tests.conformance import harness
from tests.strategies import Case

# The bound that the project promises in float32.
TOLERANCE = 1e-5
LENGTHS = (7, 1, 4)
CLIP = 0.25


@dataclass(frozen=True)
class Operator:
    """An ONNX operator that computes a cell.

    gates: for each gate of the operator in its order the cell's gate whose weights it takes, with a
    minus where they change sign; "1" for a gate that is always open, "0" for one that is not read.
    """

    kind: str
    gates: str
    activations: tuple[str, ...] = ()
    attributes: dict = field(default_factory=dict)


LINEAR = "Affine"  # with alpha = 1
OPERATORS = {
    "rnn": Operator("RNN", "h", ("Tanh",)),
    "rnn_relu": Operator("RNN", "h", ("Relu",)),
    "rnn_logistic": Operator("RNN", "h", ("Sigmoid",)),
    "lstm": Operator("LSTM", "i o f g"),
    "lstm_peephole": Operator("LSTM", "i o f g"),
    "lstm_cifg": Operator("LSTM", "-f o 0 g", attributes={"input_forget": 1}),
    "greff_v": Operator("LSTM", "i o f g"),
    "greff_nig": Operator("LSTM", "1 o f g"),
    "greff_nfg": Operator("LSTM", "i o 1 g"),
    "greff_nog": Operator("LSTM", "i 1 f g"),
    "greff_niaf": Operator("LSTM", "i o f g", ("Sigmoid", LINEAR, "Tanh")),
    "greff_noaf": Operator("LSTM", "i o f g", ("Sigmoid", "Tanh", LINEAR)),
    "greff_np": Operator("LSTM", "i o f g"),
    "greff_cifg": Operator("LSTM", "i o 0 g", attributes={"input_forget": 1}),
    "gru": Operator("GRU", "z r n", attributes={"linear_before_reset": 1}),
    "gru_write": Operator("GRU", "-z r n", attributes={"linear_before_reset": 1}),
    "gru_before": Operator("GRU", "z r n", attributes={"linear_before_reset": 0}),
    "gru_before_write": Operator("GRU", "-z r n", attributes={"linear_before_reset": 0}),
    "gru_none": Operator("GRU", "z 1 n"),
    "gru_none_write": Operator("GRU", "-z 1 n"),
    "mgu": Operator("GRU", "-f f n", attributes={"linear_before_reset": 0}),
    "mut2": Operator("GRU", "-z r n", attributes={"linear_before_reset": 0}),
    "ligru": Operator("GRU", "z 1 n", ("Sigmoid", "Relu")),
}
# Compiled in float32 by `make test` too; the rest in `make conformance`.
QUICK = ("rnn", "lstm", "gru")
NAMES = [pytest.param(n, marks=() if n in QUICK else pytest.mark.conformance) for n in OPERATORS]


@pytest.fixture(scope="module")
def onnx():
    """ONNX and onnxruntime: a visible skip where one of them is missing."""
    missing = "{} is not installed: pip install -e '.[interop]'"
    pytest.importorskip("onnxruntime", reason=missing.format("onnxruntime"))
    return pytest.importorskip("onnx", reason=missing.format("onnx"))


def take(gates, names, array, opened=0.0):
    """Put the blocks of an array of the cell into the operator's order."""
    parts = dict(zip(names, np.split(array, len(names)), strict=True))
    out = []
    for gate in gates.split():
        if gate in ("0", "1"):
            out.append(np.full_like(array[: len(array) // len(names)], opened * int(gate)))
        else:
            out.append(-parts[gate[1:]] if gate.startswith("-") else parts[gate])
    return np.concatenate(out)


def weights(layer, operator):
    """Give W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H) and P (D, 3*H) or None."""
    c, found = layer.cell, {"W": [], "R": [], "B": [], "P": []}
    for suffix in ("_l0", "_l0_reverse")[: 1 + layer.bidirectional]:
        w = harness.parameters(layer, suffix)
        found["W"].append(take(operator.gates, c.gates, w["weight_ih"]))
        found["R"].append(take(operator.gates, c.gates, w["weight_hh"]))
        # sigmoid(50) is 1.
        biases = take(operator.gates, c.gates, w["bias_ih"], opened=50.0)
        found["B"].append(np.append(biases, take(operator.gates, c.gates, w["bias_hh"])))
        zero = np.zeros(layer.hidden_size, np.float32)
        if c.vectors:
            found["P"].append(np.concatenate([w.get(f"vector_p_{k}", zero) for k in "iof"]))
    return [np.stack(v).astype(np.float32) if v else None for v in found.values()]


def run_theirs(onnx, layer, operator, data, lengths):
    """Run one operator: output (T, B, D*H) and the final states (D, B, H)."""
    import onnxruntime

    W, R, B, P = weights(layer, operator)
    sizes = None if lengths is None else np.array(lengths, np.int32)
    given = {"X": data.x, "W": W, "R": R, "B": B, "lens": sizes, "h0": data.state0[0]}
    if operator.kind == "LSTM":
        given |= {"c0": data.state0[1], "P": P}
    outputs = ["Y", *(f"last_{k}" for k in layer.cell.state)]
    activations = list(operator.activations) * (1 + layer.bidirectional)
    attributes = dict(operator.attributes)
    if activations:
        attributes["activations"] = activations
        attributes["activation_alpha"] = [1.0] * activations.count(LINEAR)
        attributes["activation_beta"] = [0.0] * activations.count(LINEAR)
    node = onnx.helper.make_node(
        operator.kind,
        [name if value is not None else "" for name, value in given.items()],
        outputs,
        hidden_size=layer.hidden_size,
        direction="bidirectional" if layer.bidirectional else "forward",
        **{k: v for k, v in attributes.items() if v != []},
    )
    feeds = {name: value for name, value in given.items() if value is not None}

    def described(name, shape):
        kind = onnx.TensorProto.INT32 if name == "lens" else onnx.TensorProto.FLOAT
        return onnx.helper.make_tensor_value_info(name, kind, shape)

    graph = onnx.helper.make_graph(
        [node],
        "cell",
        [described(name, value.shape) for name, value in feeds.items()],
        [described(name, [None] * (4 if name == "Y" else 3)) for name in outputs],
    )
    # Versions that every onnxruntime of the interop extra reads.
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8
    )
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    Y, *states = session.run(None, feeds)  # Y: (T, D, B, H)
    return np.concatenate(list(Y.swapaxes(0, 1)), axis=-1), states


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_states_equal_onnxruntimes(onnx, name, bidirectional, lengths):
    case = Case(T=7, B=3, I=5, H=11, bidirectional=bidirectional, seed=71)
    layer = harness.build(name, case, "float32")
    data = harness.draw(layer, case, "float32")
    output, states = run_theirs(onnx, layer, OPERATORS[name], data, lengths)
    results = harness.run(layer, data, lengths)
    harness.assert_close(results["output"], output, TOLERANCE, "output")
    for k, state in zip(layer.cell.state, states, strict=True):
        harness.assert_close(results[f"state.{k}"], state, TOLERANCE, k)


@cell(gates="ifgo", state="hc")
def clipped_lstm(wx, u, prev):
    """ONNX's ``clip``: the arguments of the gates, as a user would write it."""
    i = sigmoid(clip(wx.i + u.i @ prev.h, -CLIP, CLIP))
    f = sigmoid(clip(wx.f + u.f @ prev.h, -CLIP, CLIP))
    g = tanh(clip(wx.g + u.g @ prev.h, -CLIP, CLIP))
    o = sigmoid(clip(wx.o + u.o @ prev.h, -CLIP, CLIP))
    c = f * prev.c + i * g
    return o * tanh(c), c


@pytest.mark.conformance
def test_a_cell_written_with_clip_equals_onnxruntimes_with_a_threshold(onnx):
    case = Case(T=7, B=3, I=5, H=11, seed=72)
    layer = harness.build(clipped_lstm, case, "float32")
    data = harness.draw(layer, case, "float32")
    operator = Operator("LSTM", "i o f g", attributes={"clip": CLIP})
    output, (h, c) = run_theirs(onnx, layer, operator, data, None)
    results = harness.run(layer, data)
    for name, wanted in (("output", output), ("state.h", h), ("state.c", c)):
        harness.assert_close(results[name], wanted, TOLERANCE, name)


def test_every_operator_computes_a_cell_of_the_registry():
    assert set(OPERATORS) <= set(cells.names())
