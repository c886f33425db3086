"""A stand-in for MiniLM: a weights folder of 20 KB that the real Embedder loads and verifies.

Faked: the numbers. Each word of the given texts has a fixed random vector and a text's vector is
their normalised mean, so texts that share words are near. Real: onnxruntime, the tokenizer, the
listing with its digests. Why: the lanes that need no engine also need no 80 MB of weights.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

DIMENSION = 64
_FLOAT, _INT64 = 1, 7


def make_tokenizer(path: Path, texts: Sequence[str], *, special: Sequence[str] = ()) -> None:
    """Write a tokenizer.json whose tokens are the words and signs of `texts`."""
    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    vocabulary = {"[UNK]": 0, **{word: number for number, word in enumerate(words, start=1)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(special))
    tokenizer.save(str(path))


def make_embedder(folder: Path, texts: Sequence[str]) -> str:
    """Write the weights folder; return the digest of its listing."""
    folder.mkdir(parents=True)
    make_tokenizer(folder / "tokenizer.json", texts)
    size = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    table = np.random.default_rng(7).normal(size=(size, DIMENSION)).astype("<f4")
    table[0] *= 0.01  # an unknown word says next to nothing
    (folder / "model.onnx").write_bytes(_model(table))
    about = {"dimension": DIMENSION, "max_tokens": 256, "output": "embedding"}
    (folder / "embedder.json").write_text(json.dumps(about))
    files = {
        path.name: {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in sorted(folder.iterdir())
    }
    listing = json.dumps({"schema_version": 1, "name": "standin", "files": files}).encode()
    (folder / "weights.json").write_bytes(listing)
    return f"sha256:{hashlib.sha256(listing).hexdigest()}"


def _model(table: np.ndarray) -> bytes:
    """An ONNX model written as protocol buffers: Gather, ReduceMean, LpNormalization."""
    nodes = [
        _node("Gather", ["table", "input_ids"], "words"),
        _node("ReduceMean", ["words"], "mean", _ints("axes", [1]), _int("keepdims", 0)),
        _node("LpNormalization", ["mean"], "embedding", _int("axis", 1), _int("p", 2)),
    ]
    tensor = (
        b"".join(_number(1, size) for size in table.shape)
        + _number(2, _FLOAT)
        + _bytes(8, b"table")
        + _bytes(9, table.tobytes())
    )
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, b"standin")
    graph += _bytes(5, tensor)
    graph += b"".join(_bytes(11, _value(n, _INT64, 2)) for n in ("input_ids", "attention_mask"))
    graph += _bytes(12, _value("embedding", _FLOAT, 2))
    opset = _bytes(1, b"") + _number(2, 13)
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, opset)


def _node(kind: str, inputs: list[str], output: str, *attributes: bytes) -> bytes:
    named = b"".join(_bytes(1, name.encode()) for name in inputs) + _bytes(2, output.encode())
    return named + _bytes(4, kind.encode()) + b"".join(_bytes(5, item) for item in attributes)


def _int(name: str, value: int) -> bytes:
    return _bytes(1, name.encode()) + _number(3, value) + _number(20, 2)


def _ints(name: str, values: list[int]) -> bytes:
    listed = b"".join(_number(8, value) for value in values)
    return _bytes(1, name.encode()) + listed + _number(20, 7)


def _value(name: str, element: int, rank: int) -> bytes:
    shape = b"".join(_bytes(1, _bytes(2, f"{name}_{axis}".encode())) for axis in range(rank))
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, _number(1, element) + _bytes(2, shape)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
