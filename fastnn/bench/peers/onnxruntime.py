"""ONNX Runtime: graphs of the standard's own operators, inference alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.bench.inputs import Arrays, prefixes
from fastnn.bench.jobs import Job, Jobs, Unsupported, Work
from fastnn.bench.layouts import ONNX_GATES, conv_to_first, reorder, to_first, to_last
from fastnn.bench.rows import INFERENCE, ConvRow, DenseRow, PoolRow, RnnRow, Row

OPSET, IR_VERSION = 17, 10  # old enough for every runtime that is in use

_options: Any = None


def prepare(threads: int) -> str:
    """So many threads inside an operator, operators one after the other."""
    global _options
    import onnxruntime

    _options = onnxruntime.SessionOptions()
    _options.intra_op_num_threads = threads
    _options.inter_op_num_threads = 1
    _options.log_severity_level = 3
    return str(onnxruntime.__version__)


def jobs(row: Row, arrays: Arrays) -> Jobs:
    """Inference of everything that has an operator."""
    if INFERENCE not in row.modes:
        raise Unsupported("no training")
    if isinstance(row, RnnRow):
        return {"graph": _recurrent(row, arrays)}
    if isinstance(row, ConvRow):
        return {"graph": _conv(row, arrays)}
    if isinstance(row, PoolRow):
        return {"graph": _pool(row, arrays)}
    if isinstance(row, DenseRow):
        return {"graph": _dense(row, arrays)}
    raise Unsupported(f"rows like {type(row).__name__}")


class _Graph:
    """Nodes one after the other, and the arrays that they hold."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Any) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def work(self, y: str, feeds: Arrays, results: Any) -> Job:
        """A session that computes ``y``."""
        import onnxruntime
        from onnx import helper

        def value(name: str, array: np.ndarray) -> Any:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            return helper.make_tensor_value_info(name, kind, array.shape)

        first = next(iter(feeds.values()))
        kind = helper.np_dtype_to_tensor_dtype(first.dtype)
        graph = helper.make_graph(
            self.nodes,
            "row",
            [value(name, array) for name, array in feeds.items()],
            [helper.make_tensor_value_info(y, kind, None)],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        try:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), _options, providers=["CPUExecutionProvider"]
            )
            session.run([y], feeds)
        except Exception as error:  # its own exception types have no common base
            if first.dtype == np.float64:
                raise Unsupported(str(error).rpartition("Message: ")[2]) from None
            raise

        def infer() -> Any:
            return session.run([y], feeds)[0]

        return {INFERENCE: Work(infer, lambda found: {"y": results(found)})}


_OPS = {"simple_rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}


def _recurrent(row: RnnRow, arrays: Arrays) -> Job:
    graph = _Graph()
    feeds = {"x": arrays["x"]}
    lengths = ""
    if row.ragged:
        feeds["lengths"] = arrays["lengths"].astype(np.int32)
        lengths = "lengths"
    y = "x"
    for layer, directions in zip(row.layers, prefixes(row), strict=True):
        weights = [graph.constant(w) for w in _weights(layer.cell, directions, arrays)]
        options: dict[str, Any] = {"hidden_size": layer.units}
        if layer.bidirectional:
            options["direction"] = "bidirectional"
        if layer.cell == "simple_rnn":
            options["activations"] = [layer.activation.capitalize()] * len(directions)
        if layer.cell == "gru":
            options["linear_before_reset"] = 1
        y = graph.add(_OPS[layer.cell], y, *weights, *([lengths] if lengths else []), **options)
        if layer.bidirectional:  # [T, 2, B, H] -> [T, B, 2H]
            y = graph.add("Transpose", y, perm=[0, 2, 1, 3])
            y = graph.add("Reshape", y, graph.constant(np.array([0, 0, -1])))
        else:
            y = graph.add("Squeeze", y, graph.constant(np.array([1])))
    return graph.work(y, feeds, lambda found: found)


def _weights(cell: str, directions: list[str], arrays: Arrays) -> list[np.ndarray]:
    """W ``[dirs, G*H, I]``, R ``[dirs, G*H, H]``, B ``[dirs, 2*G*H]``."""
    W, R, both = [], [], []
    for prefix in directions:
        bias = arrays[f"{prefix}bias"]
        recurrent = arrays.get(f"{prefix}recurrent_bias", np.zeros_like(bias))
        W.append(reorder(arrays[f"{prefix}kernel"], ONNX_GATES[cell]).T)
        R.append(reorder(arrays[f"{prefix}recurrent_kernel"], ONNX_GATES[cell]).T)
        both.append(np.concatenate([reorder(b, ONNX_GATES[cell]) for b in (bias, recurrent)]))
    return [np.stack(one) for one in (W, R, both)]


def _conv(row: ConvRow, arrays: Arrays) -> Job:
    graph, n = _Graph(), len(row.size)
    y = graph.add(
        "Conv",
        "x",
        graph.constant(conv_to_first(arrays["kernel"])),
        graph.constant(arrays["bias"]),
        strides=[row.stride] * n,
        pads=[row.pad] * 2 * n,
        dilations=[row.dilation] * n,
        group=row.groups,
    )
    return graph.work(y, {"x": to_first(arrays["x"])}, to_last)


def _pool(row: PoolRow, arrays: Arrays) -> Job:
    if row.kind == "stochastic":
        raise Unsupported("no stochastic pooling")
    graph = _Graph()
    op = {"max": "MaxPool", "average": "AveragePool"}[row.kind]
    y = graph.add(op, "x", kernel_shape=[row.pool] * 2, strides=[row.stride] * 2)
    return graph.work(y, {"x": to_first(arrays["x"])}, to_last)


def _dense(row: DenseRow, arrays: Arrays) -> Job:
    graph, y = _Graph(), "x"
    count = len(row.widths) - 1
    for i in range(count):
        weights = [graph.constant(arrays[f"{i}.{name}"]) for name in ("kernel", "bias")]
        y = graph.add("Gemm", y, *weights)
        y = graph.add("Relu", y) if i < count - 1 else graph.add("Softmax", y, axis=-1)
    return graph.work(y, {"x": arrays["x"]}, lambda found: found)
