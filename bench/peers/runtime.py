"""onnxruntime: inference only, its RNN, GRU and LSTM operators."""

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bench.shapes import TWO_STAGE
from bench.work import Run, Work

_threads = 1

# cell -> (operator, its attributes, its gate order in terms of ours)
_OPERATORS = {
    "rnn": ("RNN", {}, (0,)),
    "gru": ("GRU", {"linear_before_reset": 1}, (1, 0, 2)),  # z r n
    TWO_STAGE: ("GRU", {"linear_before_reset": 0}, (1, 0, 2)),
    "lstm": ("LSTM", {}, (0, 3, 1, 2)),  # i o f g
}


def set_threads(n: int) -> None:
    """Use n threads in the sessions made from now on."""
    global _threads
    _threads = n


def inference(work: Work) -> Run:
    """Run one operator of the same weights."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = _threads, 1
    session = onnxruntime.InferenceSession(
        _model(work).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {"x": work.given["x"]} | {n: work.given[n][None] for n in work.states}
    last: list[NDArray[np.floating]] = []

    def step() -> None:
        last[:] = session.run(["y"], feed)

    return Run(step, lambda: {"output": last[0][:, 0]})


def _model(work: Work) -> onnx.ModelProto:
    """Make a model of one operator; x (T, B, I) and the states (1, B, H) in, y (T, 1, B, H) out."""
    operator, attributes, order = _OPERATORS[work.cell]
    s = work.shape

    def ordered(name: str) -> NDArray[np.floating]:
        array = work.given[name]
        return array.reshape(len(order), s.H, -1)[list(order)].reshape(array.shape)

    bias = np.concatenate([ordered("bias_ih"), ordered("bias_hh")])
    weights = {"W": ordered("weight_ih")[None], "R": ordered("weight_hh")[None], "b": bias[None]}
    inputs = ["x", "W", "R", "b", "", *work.states]
    node = helper.make_node(operator, inputs, ["y"], hidden_size=s.H, **attributes)
    shapes = {"x": (s.T, s.B, s.I)} | {n: (1, s.B, s.H) for n in work.states}
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (s.T, 1, s.B, s.H))],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    # An older intermediate representation than onnx writes by default: runtimes lag behind it.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
