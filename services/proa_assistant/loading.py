"""Load a release: lay its files out, verify everything it pins, prove it with its selftest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proa.errors import Conflict, InvalidInput, NotFound
from proa.guard.engine import Guard
from proa.guard.policy import load_policy
from proa.guard.prepare import Search, prepare
from proa.release.bundle import BundleStore
from proa.release.canonical import parse_json
from proa.release.manifest import LlmSpec, Manifest
from proa.release.reference import ReleaseRef
from proa.release.runtime import check as check_runtime
from proa.release.selftest import parse_cases, run_cases
from proa.retrieval.context import Packer, Template
from proa.retrieval.embedder import find_weights
from proa.retrieval.search import Searcher
from proa.retrieval.tokens import EngineTokens

__all__ = ["Loaded", "load"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A release that is ready to answer.

    Attributes:
        cases: compared with its selftest.
        index: what events say of the index: its digest, its documents, the newest of them.
    """

    ref: ReleaseRef
    manifest: Manifest
    spec: LlmSpec
    guard: Guard
    searcher: Searcher | None
    packer: Packer
    cases: int
    index: Mapping[str, Any] | None


def load(ref: ReleaseRef, *, bundles: str, workdir: Path, weights: Path) -> Loaded:
    """Load and prove a release.

    Args:
        bundles: the bundle store's URL.
        workdir: where releases are laid out, each in a folder of its digest.
        weights: folder below which weights of embedders lie; those which the bundle store holds
            are laid out there.

    Raises:
        NotFound, Conflict: something pinned is missing, or has another digest.
        Refused: the libraries here are not those that the release pins.
        InvalidInput: it is no release of a language model, or one of its files is no such file.
    """
    folder = workdir / ref.digest.removeprefix("sha256:")
    store = BundleStore.from_url(bundles)
    manifest = store.materialize(ref.digest, folder)
    if manifest.name != ref.name:
        raise Conflict(f"{ref.short}: the manifest names {manifest.name!r}", code="corrupt")
    spec = manifest.llm
    if spec is None:
        raise InvalidInput(f"{ref.short} is a {manifest.kind} release: expected llm")
    check_runtime(manifest.runtime)
    _check_room(spec)
    tokens = EngineTokens.load(folder / spec.tokenizer)
    template = Template.parse((folder / spec.prompt.path).read_text(encoding="utf-8"))
    packer = Packer(template, spec.context, tokens)
    guard = Guard(None if spec.guard is None else load_policy(folder / spec.guard))
    searcher = None
    if spec.retrieval is not None:
        _lay_weights(store, spec.retrieval.embedder_digest, weights)
        searcher = Searcher.from_manifest(spec.retrieval, folder=folder, weights=weights)
    cases = _prove(manifest, folder, guard, searcher, packer)
    index = None if searcher is None else searcher.index.info.to_event()
    return Loaded(ref, manifest, spec, guard, searcher, packer, cases, index)


def _lay_weights(store: BundleStore, digest: str, weights: Path) -> None:
    """Weights that are not on this machine yet, from the store if it has them."""
    try:
        find_weights(weights, digest)
    except NotFound:
        if store.has(digest):
            store.materialize_weights(digest, weights / digest.removeprefix("sha256:"))


def _check_room(spec: LlmSpec) -> None:
    """Every part at its budget and the longest answer must fit the engine's window."""
    budget = spec.context
    parts = budget.system + budget.retrieved + budget.history + budget.question
    if parts + spec.sampling.max_tokens > spec.engine.max_model_len:
        raise Conflict(
            f"the context budgets ({parts} tokens) and max_tokens ({spec.sampling.max_tokens}) do "
            f"not fit the engine's {spec.engine.max_model_len} tokens",
            code="context_too_large",
        )


def _prove(
    manifest: Manifest, folder: Path, guard: Guard, searcher: Search | None, packer: Packer
) -> int:
    if manifest.selftest is None:
        return 0
    cases = parse_cases(parse_json((folder / manifest.selftest).read_bytes(), what="selftest.json"))

    def answer(given: Mapping[str, Any]) -> Mapping[str, Any]:
        messages = given.get("messages") or [{"role": "user", "content": given["question"]}]
        return prepare(messages, guard=guard, searcher=searcher, packer=packer).to_selftest()

    return run_cases(cases, answer)
