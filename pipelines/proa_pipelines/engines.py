"""Which engine a language release selects, and where its tokenizer lies on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proa.embedded.home import Home
from proa.embedded.platform_file import Platform, read_platform
from proa.errors import NotFound, Unavailable
from proa.release.manifest import Engine


@dataclass(frozen=True, slots=True)
class Selected:
    """An engine as a release pins it.

    Attributes:
        engine: the manifest's section.
        weights: folder with `tokenizer.json` and, as a rule, `chat_template.jinja`.
        cache: folder in which the weights of embedders lie.
    """

    engine: Engine
    weights: Path
    cache: Path


def select(alias: str, home: Path, environ: Mapping[str, str]) -> Selected:
    """The engine that a project calls `alias`.

    With a platform in `home` it is that platform's engine; without one, the engine that `proa up`
    would start here.

    Raises:
        NotFound: the platform has no such engine; the message names those it has.
        Unavailable: the engine's tokenizer is not on this machine.
    """
    platform = _platform(home)
    if platform is None:
        return _choose(alias, environ)
    identity = platform.aliases.get(alias)
    if identity is None:
        known = ", ".join(sorted(platform.aliases)) or "none: proa up --engine"
        raise NotFound(
            f"proa.yaml: engine = {alias!r}: this platform's engines are {known}",
            code="unknown_engine",
        )
    entry = platform.engines[identity]
    if platform.weights is None:
        raise Unavailable("the platform knows no cache of weights", hint="proa up")
    return Selected(
        _engine(identity, entry),
        _with_tokenizer(entry.get("weights"), alias),
        platform.weights,
    )


def weights_cache(home: Path, environ: Mapping[str, str]) -> Path:
    """The folder in which the weights of embedders lie: the platform's, else this user's."""
    from proa.embedded import engine_choice

    platform = _platform(home)
    if platform is not None and platform.weights is not None:
        return platform.weights
    return engine_choice.weights_cache(environ)


def _platform(home: Path) -> Platform | None:
    try:
        return read_platform(Home(home))
    except NotFound:
        return None


def _choose(alias: str, environ: Mapping[str, str]) -> Selected:
    from proa.embedded import engine_choice

    spec = engine_choice.choose_engine(alias, environ)
    entry = {
        "base_model": spec.base_model,
        "revision": spec.revision,
        "max_model_len": spec.max_model_len,
        "runtime": spec.runtime,
        "arguments": list(spec.arguments),
    }
    weights = None if spec.weights is None else str(spec.weights)
    return Selected(
        _engine(spec.identity, entry),
        _with_tokenizer(weights, alias),
        engine_choice.weights_cache(environ),
    )


def _engine(identity: str, entry: Mapping[str, Any]) -> Engine:
    return Engine(
        identity=identity,
        base_model=str(entry["base_model"]),
        revision=str(entry.get("revision", "")),
        max_model_len=int(entry["max_model_len"]),
        runtime=str(entry.get("runtime", "")),
        arguments=[str(argument) for argument in entry.get("arguments", [])],
    )


def _with_tokenizer(weights: str | None, alias: str) -> Path:
    folder = Path(weights) if weights else None
    if folder is None or not (folder / "tokenizer.json").is_file():
        raise Unavailable(
            f"engine {alias!r}: its tokenizer.json is not on this machine "
            f"({folder or 'the platform names no weights folder'})",
            hint="make setup-engine, then proa up",
        )
    return folder
