"""Semantic drift: does the monitor see one topic of questions grow, and nothing where nothing is?

2,400 questions about 12 modules of Python's library, made of its own documentation and embedded
by the platform's MiniLM: real embeddings. The reference is a sample of 1,200 of them, windows are
drawn from all, so that what is clean comes from where the reference comes from. The peers are
Evidently's embedding drift methods with their defaults, on the same windows (fewer of them where
one takes long).
"""

from __future__ import annotations

import importlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from proa.exam.grounding import sentences
from proa.findings.observation import Observation
from proa.profile.language import LanguageState
from proa.profile.language_build import Embedded, build_language
from proa.profile.language_judge import LanguageJudge
from proa.profile.language_reference import LanguageReference, parse_language
from proa.retrieval.embedder import Embedder, find_named
from tests.bench.rows import Row

TOPICS: Final = 12
TEXTS: Final = 200
"""Sentences of a topic."""
ROWS: Final = 1000
CLEAN, SHIFTED, PEER = 1000, 200, 20
"""Windows without and with a change; windows for a peer."""
_NAME: Final = "all-minilm-l6-v2"
_MODULES: Final = (
    *("decimal", "difflib", "email.message", "fractions", "http.client", "logging"),
    *("shutil", "socket", "statistics", "threading", "unittest", "zipfile"),
)  # fmt: skip

_FORMS: Final = (
    "With {module}, how do I do this: {said}?",
    "What does {module} mean by: {said}?",
    "In {module}, {said} - is that right?",
    "Can {module} help me? {said}",
)


def rows() -> Iterator[Row]:
    """Every figure, ours and the peers'."""
    texts, topics = _questions()
    weights = Path(os.environ.get("PROA_WEIGHTS", Path.home() / ".cache/proa/weights"))
    embedder = Embedder.load(find_named(weights, _NAME), threads=os.cpu_count() or 1)
    vectors = embedder.embed(texts)
    began = time.perf_counter()
    reference = _reference(embedder, texts[::2], vectors[::2])
    yield Row("language: reference of 1,200 questions", time.perf_counter() - began, "s")
    windows = _Windows(vectors, topics)
    judge = _Ours(reference, windows)
    clean = [judge.alarms(windows.draw(seed, share=None)) for seed in range(CLEAN)]
    grown = [judge.alarms(windows.draw(seed, share=0.17)) for seed in range(SHIFTED)]
    yield _bar("language: clean windows flagged, n = 1,000, one window", np.mean(clean), "<=", 0.01)
    twice = [one and two for one, two in pairwise(clean)]
    yield _bar("language: the same, two windows running", np.mean(twice), "<=", 0.01)
    yield _bar("language: topic 8 -> 17 %, n = 1,000, one window", np.mean(grown), ">=", 0.95)
    twice = [one and two for one, two in pairwise(grown)]
    yield _bar("language: the same, two windows running", np.mean(twice), ">=", 0.95)
    yield Row("language: topic 8 -> 17 % names the topic that grew", judge.named(), "share")
    yield from _small(judge, windows)
    yield from _speed(reference, windows)
    yield from _peers(vectors[::2], windows)


def _small(judge: _Ours, windows: _Windows) -> Iterator[Row]:
    for size in (200, 500):
        flagged = [judge.alarms(windows.draw(s, share=None, rows=size)) for s in range(CLEAN // 4)]
        seen = [judge.alarms(windows.draw(s, share=0.17, rows=size)) for s in range(SHIFTED)]
        yield Row(f"language: clean windows flagged, n = {size}", float(np.mean(flagged)), "share")
        yield Row(f"language: topic 8 -> 17 %, n = {size}", float(np.mean(seen)), "share")


def _speed(reference: LanguageReference, windows: _Windows) -> Iterator[Row]:
    def state(seed: int, rows: int = ROWS) -> LanguageState:
        made = LanguageState.of(reference)
        assert made.questions is not None
        made.questions.add(reference, windows.vectors[windows.draw(seed, share=None, rows=rows)])
        return made

    began = time.perf_counter()
    state(1, 10_000)
    yield Row("language: 10,000 embeddings into the state", time.perf_counter() - began, "s")
    now, past = state(0), [(str(n), state(n)) for n in range(28)]
    judge = LanguageJudge(reference)
    began = time.perf_counter()
    for _ in range(20):
        judge.observe("now", now, past)
    taken = (time.perf_counter() - began) / 20 * 1000
    yield Row("language: all judgements of a window, 28 before it", taken, "ms")
    yield Row("language: state of a window", len(now.to_bytes()) / 1024, "KiB")


def _peers(reference: NDArray[np.float32], windows: _Windows) -> Iterator[Row]:
    for name, alarm in _evidently():
        clean, grown, taken = [], [], 0.0
        for seed in range(PEER):
            began = time.perf_counter()
            clean.append(alarm(reference, windows.vectors[windows.draw(seed, share=None)]))
            grown.append(alarm(reference, windows.vectors[windows.draw(seed, share=0.17)]))
            taken += time.perf_counter() - began
            if taken > 15:  # seconds; the total must stay below two minutes
                break
        count = f"{len(clean)} windows"
        yield Row(
            f"Evidently {name}: clean windows flagged ({count})", float(np.mean(clean)), "share"
        )
        yield Row(f"Evidently {name}: topic 8 -> 17 % ({count})", float(np.mean(grown)), "share")
        yield Row(f"Evidently {name}: one window", taken / len(clean) / 2, "s")


class _Windows:
    """Windows of questions, as their places: topic 0 has 8 % of a clean one."""

    def __init__(self, vectors: NDArray[np.float32], topics: NDArray[np.int64]) -> None:
        self.vectors, self.of = vectors, [np.flatnonzero(topics == k) for k in range(TOPICS)]

    def draw(self, seed: int, *, share: float | None, rows: int = ROWS) -> NDArray[np.int64]:
        """`share` of the rows in topic 0; None for 1 in 12, as in the reference."""
        pick = np.random.default_rng(seed)
        first = 1 / TOPICS if share is None else share
        chances = [first, *[(1 - first) / (TOPICS - 1)] * (TOPICS - 1)]
        drawn = pick.choice(TOPICS, size=rows, p=chances)
        chosen = [pick.choice(self.of[k], size=int((drawn == k).sum())) for k in range(TOPICS)]
        return np.concatenate(chosen)


class _Ours:
    """Each question's features and topic are reckoned once: a window's state is their sum."""

    def __init__(self, reference: LanguageReference, windows: _Windows) -> None:
        self._reference, self._judge = reference, LanguageJudge(reference)
        self._windows = windows
        self._features = reference.random_features.of(windows.vectors)
        self._topics = reference.topics_of(windows.vectors)

    def alarms(self, places: NDArray[np.int64]) -> bool:
        """Whether the questions of a window count as drift against the reference."""
        return self._drift(places).holds is True

    def named(self) -> float:
        """Share of grown windows whose largest growth is a topic that holds module 0's texts."""
        own = np.unique(self._topics[self._windows.of[0]], return_counts=True)
        names = {self._reference.topics[k].name for k, n in zip(*own, strict=True) if n >= 10}
        hits = 0
        for seed in range(50):
            drift = self._drift(self._windows.draw(seed, share=0.17))
            grown = [t for t in drift.evidence["topics"] if t["now"] > t["then"]]
            hits += bool(grown) and grown[0]["topic"] in names
        return hits / 50

    def _drift(self, places: NDArray[np.int64]) -> Observation:
        state = LanguageState.of(self._reference)
        assert state.questions is not None
        state.questions.rows = len(places)
        state.questions.features = self._features[places].sum(axis=0)
        topics = len(self._reference.topics)
        state.questions.topics = np.bincount(self._topics[places], minlength=topics)
        found = self._judge.observe("w", state)
        return next(o for o in found if o.subject == "questions")


def _reference(
    embedder: Embedder, texts: list[str], vectors: NDArray[np.float32]
) -> LanguageReference:
    value = build_language(
        questions=Embedded(texts, vectors), embedder=embedder.digest, embedder_name=embedder.name
    )
    return parse_language(orjson.dumps(value))


def _questions() -> tuple[list[str], NDArray[np.int64]]:
    """200 questions about each module, in an order that is no order: each row is 1 in 12."""
    texts, topics = [], []
    for topic, name in enumerate(_MODULES):
        found = _sentences(importlib.import_module(name))
        if len(found) < TEXTS:
            raise RuntimeError(f"{name} has {len(found)} sentences: expected {TEXTS}")
        for number, sentence in enumerate(found[:TEXTS]):
            said = sentence[:1].lower() + sentence[1:].rstrip(".")
            texts.append(_FORMS[number % len(_FORMS)].format(module=name, said=said))
            topics.append(topic)
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[k] for k in order], np.array(topics)[order]


def _sentences(module: Any) -> list[str]:
    """What a module's docstrings say, each sentence once."""
    seen: dict[str, None] = {}
    held = [module, *vars(module).values()]
    held += [m for c in held if isinstance(c, type) for m in vars(c).values()]
    for thing in held:
        text = getattr(thing, "__doc__", None)
        home = str(getattr(thing, "__module__", None) or module.__name__)
        if isinstance(text, str) and home.lstrip("_").startswith(module.__name__):
            seen |= dict.fromkeys(s for s in sentences(text) if 25 <= len(s) <= 300)
    return list(seen)


def _bar(figure: str, value: Any, sign: str, bar: float) -> Row:
    ok = value <= bar if sign == "<=" else value >= bar
    return Row(figure, float(value), "share", bar=bar, ok=bool(ok))


Alarm = Callable[[NDArray[np.float32], NDArray[np.float32]], bool]


def _evidently() -> list[tuple[str, Alarm]]:
    """Evidently 0.7.23's methods with their defaults: what its embeddings drift metric calls."""
    os.environ["DO_NOT_TRACK"] = "1"
    import pandas as pd
    from evidently.metrics import embeddings as peer

    methods = {
        "model": peer.ModelDriftMethod(),
        "distance": peer.DistanceDriftMethod(),
        "ratio": peer.RatioDriftMethod(),
        "MMD": peer.MMDDriftMethod(),
    }

    def alarm_of(method: Any) -> Alarm:
        def alarm(reference: NDArray[np.float32], window: NDArray[np.float32]) -> bool:
            names = [f"c{k}" for k in range(reference.shape[1])]
            frames = (pd.DataFrame(part, columns=names) for part in (window, reference))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return bool(method(*frames)[1])

        return alarm

    return [(name, alarm_of(method)) for name, method in methods.items()]


if __name__ == "__main__":
    from tests.bench.rows import finish

    raise SystemExit(finish("monitor-language", rows()))
