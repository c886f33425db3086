"""The page of a release in MLflow's registry: Markdown that tells its story."""

from __future__ import annotations

from collections.abc import Mapping

from proa.release.manifest import Manifest, Runtime


def release_page(
    manifest: Manifest, *, links: Mapping[str, str], story: Mapping[str, str] | None = None
) -> str:
    """Markdown for the model version's description: what it is, what it pins, what happened."""
    rows = [("digest", f"`{manifest.digest}`"), ("kind", manifest.kind), *_kind_rows(manifest)]
    rows.append(("runtime", _runtime(manifest.runtime)))
    if manifest.data is not None:
        span = f", {manifest.data.start} to {manifest.data.end}" if manifest.data.start else ""
        rows.append(("data", f"{manifest.data.rows:,} rows{span}, `{manifest.data.digest[:19]}…`"))
    if manifest.source.git_commit:
        dirty = " (with uncommitted changes)" if manifest.source.git_dirty else ""
        rows.append(("code", f"`{manifest.source.git_commit[:12]}`{dirty}"))
    rows += [(name, f"[{url}]({url})") for name, url in links.items()]
    parts = [manifest.description, _table(rows)]
    if manifest.metrics:
        metrics = [(name, f"{value:.4g}") for name, value in sorted(manifest.metrics.items())]
        parts += ["**Metrics**", _table(metrics)]
    if story:
        parts += ["**Since then**", _table(list(story.items()))]
    if manifest.not_watched:
        parts.append("**Not watched**\n\n" + "\n".join(f"* {s}" for s in manifest.not_watched))
    return "\n\n".join(part for part in parts if part)


def _runtime(runtime: Runtime) -> str:
    command = f": `{' '.join(runtime.command)}`" if runtime.command else ""
    return f"{runtime.kind}, Python {runtime.python}{command}"


def _kind_rows(manifest: Manifest) -> list[tuple[str, str]]:
    if manifest.classic is not None:
        classic = manifest.classic
        threshold = "none" if classic.threshold is None else f"{classic.threshold:.3f}"
        code = [("trust", "**runs its own code** (`trust: own-code`)")]
        return [
            ("task", classic.task),
            *(code if classic.trust == "own-code" else []),
            ("columns", str(len(classic.columns))),
            ("threshold", threshold),
            ("features", ", ".join(view.view for view in classic.feature_views) or "raw rows"),
        ]
    if manifest.llm is None:
        return []
    llm = manifest.llm
    rows = [
        ("engine", f"{llm.engine.base_model} as `{llm.engine.identity}`"),
        ("prompt", f"{llm.prompt.name}, version {llm.prompt.version}"),
        ("sampling", f"temperature {llm.sampling.temperature:g}, {llm.sampling.max_tokens} tokens"),
    ]
    if llm.retrieval is not None:
        rows.append(("retrieval", f"top {llm.retrieval.top_k}, {llm.retrieval.embedder}"))
    return rows


def _table(rows: list[tuple[str, str]]) -> str:
    body = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"| | |\n| --- | --- |\n{body}"
