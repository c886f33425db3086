"""A small ONNX file written by hand: `probability = Sigmoid(rows · weights + bias)`.

The platform's environment runs ONNX but cannot write it; the format is protobuf, and a model of two
nodes is forty lines of it (field numbers: onnx.proto3 of ONNX 1.17).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence


def _varint(value: int) -> bytes:
    found = bytearray()
    while True:
        low, value = value & 0x7F, value >> 7
        found.append(low | (0x80 if value else 0))
        if not value:
            return bytes(found)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, dims: Sequence[int], values: Sequence[float]) -> bytes:
    data = struct.pack(f"<{len(values)}f", *values)
    shape = b"".join(_number(1, dim) for dim in dims)
    return shape + _number(2, 1) + _bytes(8, name) + _bytes(9, data)


def _value(name: str, dims: Sequence[int | str]) -> bytes:
    shape = b"".join(
        _bytes(1, _number(1, dim) if isinstance(dim, int) else _bytes(2, dim)) for dim in dims
    )
    kind = _bytes(1, _number(1, 1) + _bytes(2, shape))
    return _bytes(1, name) + _bytes(2, kind)


def _node(kind: str, inputs: Sequence[str], output: str) -> bytes:
    return b"".join(_bytes(1, name) for name in inputs) + _bytes(2, output) + _bytes(4, kind)


def onnx_bytes(weights: Sequence[float], bias: float, *, sigmoid: bool = True) -> bytes:
    """An ONNX model of one linear layer; without `sigmoid` it answers logits."""
    width = len(weights)
    nodes = [_node("MatMul", ["rows", "w"], "m"), _node("Add", ["m", "b"], "z")]
    last = "z"
    if sigmoid:
        nodes.append(_node("Sigmoid", ["z"], "p"))
        last = "p"
    graph = b"".join(_bytes(1, node) for node in nodes)
    graph += _bytes(2, "net")
    graph += _bytes(5, _tensor("w", [width, 1], weights)) + _bytes(5, _tensor("b", [1], [bias]))
    graph += _bytes(11, _value("rows", ["n", width])) + _bytes(12, _value(last, ["n", 1]))
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _number(2, 13))
