"""The steps of the llm pipeline, in order. Each is a plain function from files to files.

Paths come as text because KFP hands them over so; `overrides` is a JSON object of dotted keys of
`proa.yaml`. Libraries are imported inside: a step pays only for what it uses.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from proa.errors import InvalidInput
from proa.project import Project
from proa.retrieval.chunks import Chunk, Document, chunk_documents
from proa_pipelines.release_steps import fleet_of, gate, open_project, promote, register
from proa_pipelines.steps import facts, note

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from proa.retrieval.embedder import Embedder

_Row = TypeVar("_Row", Document, Chunk)
PROMPT_FILE = "prompt/system.txt"


def documents(project: str, overrides: str, corpus: str, report: str) -> None:
    """Run the project's `documents`; one JSON line per document. Writes the corpus report."""
    from proa_pipelines import cards

    found = open_project(project, overrides)
    if found.llm.documents is None:
        _write_lines(Path(corpus), [])
        Path(report).write_text(cards.corpus_report(found, []))
        note("the project has no documents: nothing will be retrieved")
        return
    made = found.resolve("documents")()
    for number, document in enumerate(made):
        if not isinstance(document, Document):
            raise InvalidInput(
                f"documents: item {number} is a {type(document).__name__}: "
                "expected proa.retrieval.chunks.Document"
            )
    if not made:
        raise InvalidInput("documents: the function returned none")
    _write_lines(Path(corpus), made)
    texts = [(document.title or document.id, len(document.text)) for document in made]
    Path(report).write_text(cards.corpus_report(found, texts))
    size = sum(length for _, length in texts)
    note(f"{len(made):,} documents, {size:,} characters")
    facts(documents=len(made), characters=size)


def chunks(project: str, overrides: str, home: str, corpus: str, pieces: str) -> None:
    """Cut the documents below their headings; one JSON line per chunk."""
    found = open_project(project, overrides)
    if found.llm.retrieval is None:
        _write_lines(Path(pieces), [])
        return
    settings = found.llm.chunking
    embedder = _embedder(found, home, threads=1)
    if settings.max_tokens > embedder.max_tokens:
        raise InvalidInput(
            f"proa.yaml: chunking.max_tokens = {settings.max_tokens}: {embedder.name} reads "
            f"{embedder.max_tokens} tokens",
            param="chunking.max_tokens",
        )
    made = chunk_documents(
        _read_lines(Path(corpus), Document),
        max_tokens=settings.max_tokens,
        overlap=settings.overlap,
        count=embedder.count,
    )
    _write_lines(Path(pieces), made)
    note(f"{len(made):,} chunks of at most {settings.max_tokens} tokens")
    facts(chunks=len(made))


def index(
    project: str,
    overrides: str,
    home: str,
    corpus: str,
    pieces: str,
    index_file: str,
    figures: str,
) -> None:
    """Embed the chunks and write the index; vectors of unchanged chunks come from the last one."""
    from proa.retrieval.index import write_index
    from proa_pipelines import cards

    found = open_project(project, overrides)
    if found.llm.retrieval is None:
        Path(index_file).touch()
        cards.numbers(figures, {"chunks": 0})
        return
    embedder = _embedder(found, home, threads=max(1, len(os.sched_getaffinity(0))))
    cut = _read_lines(Path(pieces), Chunk)
    last = Path(home) / "projects" / found.name / "index.sqlite"
    vectors = _embed(embedder, cut, last)
    info = write_index(
        Path(index_file),
        documents=_read_lines(Path(corpus), Document),
        chunks=cut,
        vectors=vectors,
        embedder=embedder.name,
        embedder_digest=embedder.digest,
    )
    last.parent.mkdir(parents=True, exist_ok=True)
    fresh = last.with_suffix(f".{os.getpid()}")
    shutil.copyfile(index_file, fresh)
    fresh.replace(last)
    note(f"index {info.content_digest[:19]}…, {info.size / 1e6:.1f} MB")
    cards.numbers(figures, {"chunks": len(cut), "megabytes": info.size / 1e6})
    facts(content=info.content_digest, size=info.size)


def _embed(embedder: Embedder, cut: list[Chunk], last: Path) -> NDArray[np.float32]:
    import numpy as np

    known = _vectors_of(last, embedder.digest)
    fresh = list({chunk.digest: chunk for chunk in cut if chunk.digest not in known}.values())
    began = time.perf_counter()
    told = 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if done * 5 // total > told:
            told = done * 5 // total
            rate = done / (time.perf_counter() - began)
            note(f"embedded {done:,}/{total:,} chunks, {rate:.0f}/s")

    made = embedder.embed([chunk.embedded for chunk in fresh], progress=progress)
    seconds = time.perf_counter() - began
    note(f"{len(fresh):,} chunks embedded in {seconds:.1f} s, {len(cut) - len(fresh):,} reused")
    facts(embedded=len(fresh), reused=len(cut) - len(fresh), embed_seconds=round(seconds, 2))
    vectors = {**known, **{c.digest: v for c, v in zip(fresh, made, strict=True)}}
    return np.stack([vectors[chunk.digest] for chunk in cut])


def _vectors_of(last: Path, digest: str) -> dict[str, Any]:
    """Vectors of the last index, when the same embedder made them; a broken file counts as none."""
    from proa.retrieval.index import Index

    if not last.is_file():
        return {}
    try:
        with Index.open(last) as index:
            same = index.info.embedder_digest == digest
            return dict(index.vectors_by_digest()) if same else {}
    except InvalidInput as error:
        note(f"the last index is not used: {error.message}")
        return {}


def prompt(project: str, overrides: str, home: str) -> str:
    """Register the prompt in MLflow; returns its version number as text."""
    from proa.retrieval.context import Template
    from proa_pipelines import prompts

    found = open_project(project, overrides)
    path = found.path("prompt")
    assert path is not None
    text = path.read_text(encoding="utf-8")
    Template.parse(text)
    name = _prompt_name(found)
    with fleet_of(home) as fleet:
        version = prompts.register(
            fleet.endpoints.mlflow,
            name,
            text,
            message=f"{found.llm.prompt} of {found.name}",
            tags={"proa.project": found.name, "proa.team": found.spec.team},
        )
    note(f"{name} version {version}")
    facts(prompt=name, prompt_version=version)
    return str(version)


def stage(
    project: str,
    overrides: str,
    home: str,
    run_id: str,
    job: str,
    prompt_version: str,
    index_file: str,
    release: str,
    evidence: str,
) -> None:
    """Lay out the release's folder and the run's evidence; no platform is needed."""
    from proa.release.manifest import Prompt
    from proa_pipelines import engines, llm_evidence, llm_staging

    found = open_project(project, overrides)
    parts, asked, done = llm_staging.lay_out(
        found,
        Path(release),
        selected=engines.select(found.llm.engine, Path(home), os.environ),
        index=Path(index_file) if found.llm.retrieval is not None else None,
        prompt=Prompt(name=_prompt_name(found), version=int(prompt_version or 1), path=PROMPT_FILE),
        run=run_id or job,
    )
    for problem in done["problems"]:
        note(f"WARNING: {found.llm.prompt}: {problem}")
    llm_evidence.write(Path(evidence), parts, asked)
    note(f"{len(done['files'])} files, {done['size']:,} bytes, selftest reproduced")
    facts(**done)


def _prompt_name(project: Project) -> str:
    return f"{project.name}.system"


def _embedder(project: Project, home: str, *, threads: int) -> Embedder:
    """The embedder that `retrieval.embedder` names, from the cache of weights."""
    from proa.retrieval.embedder import Embedder, find_named
    from proa_pipelines.engines import weights_cache

    settings = project.llm.retrieval
    if settings is None:
        raise InvalidInput("proa.yaml: retrieval is missing", param="retrieval")
    cache = weights_cache(Path(home), os.environ)
    return Embedder.load(find_named(cache, settings.embedder), threads=threads)


def _write_lines(path: Path, rows: Iterable[Document | Chunk]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")


def _read_lines(path: Path, cls: type[_Row]) -> list[_Row]:
    with path.open(encoding="utf-8") as file:
        return [cls(**json.loads(line)) for line in file]


STEPS: dict[str, Callable[..., Any]] = {
    "documents": documents,
    "chunks": chunks,
    "index": index,
    "prompt": prompt,
    "stage": stage,
    "register": register,
    "gate": gate,
    "promote": promote,
}
