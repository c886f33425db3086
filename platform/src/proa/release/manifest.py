"""The manifest, version 1: everything a release pins, by version and by digest (design §2).

The manifest's digest is the release's identity. It holds no version number and no time of
creation, so that the same inputs give the same digest.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from proa.errors import InvalidInput
from proa.release.canonical import canonical_json, digest_bytes, parse_json

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")]
_PATH = re.compile(r"(?!/)(?!.*(?:^|/)\.{0,2}(?:/|$))[A-Za-z0-9._/@+-]+")


def _inner_path(path: str) -> str:
    """Refuse absolute paths and `..`: a bundle may only write below its own folder."""
    if not _PATH.fullmatch(path):
        raise ValueError("expected a relative path of letters, digits and ._@+- without . or ..")
    return path


BundlePath = Annotated[str, AfterValidator(_inner_path)]
Kind = Literal["classic", "llm"]
Task = Literal["binary", "multiclass", "regression", "forecasting", "ranking", "anomaly"]
ModelFormat = Literal["skops", "xgboost-json", "xgboost-ubj", "lightgbm-text", "onnx", "mlflow"]
Trust = Literal["formats", "own-code"]
ColumnType = Literal["boolean", "long", "double", "string", "datetime"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FileRef(_Frozen):
    """One file of the bundle: where it lies in the release's folder, and its content."""

    path: BundlePath
    sha256: Digest
    size: int = Field(ge=0)


class Runtime(_Frozen):
    """The Python a release runs on.

    `platform`: the predictor's or assistant's own environment; `libraries` must match exactly.
    `requirements`: one environment per `digest`, built from the hashed `requirements` file.
    `image`: any container (embedded: a command) that honours the HTTP contract; `{python}` in
    the command is the environment of `requirements`, or the platform's Python.
    """

    kind: Literal["platform", "requirements", "image"]
    python: str
    libraries: dict[str, str] = {}
    requirements: BundlePath | None = None
    image: str | None = None
    command: list[str] = []

    def fingerprint(self) -> str:
        """Digest of this runtime: the verdict is bound to it."""
        return digest_bytes(canonical_json(self.model_dump(mode="json")))


class Source(_Frozen):
    """Where the release came from."""

    git_commit: str | None = None
    git_dirty: bool | None = None
    pipeline_run: str | None = None
    mlflow_run: str | None = None


class DataSnapshot(_Frozen):
    """The data the release was made from. Times are RFC 3339 in UTC."""

    digest: Digest
    rows: int = Field(ge=0)
    start: str | None = None
    end: str | None = None
    description: str = ""


class Column(_Frozen):
    """One input column of a classic model."""

    name: str
    type: ColumnType
    nullable: bool = True


class FeatureView(_Frozen):
    """One online feature view the predictor reads.

    `join_key` is the entity column; `from_feature`, when set, says which feature (`view:feature`)
    of an earlier view gives the join key's value instead of the request.
    """

    view: str
    features: list[str]
    join_key: str
    from_feature: str | None = None
    max_age_seconds: int | None = Field(default=None, gt=0)


class ClassicSpec(_Frozen):
    """How a classic model answers.

    `trust`: `formats` are files that hold numbers and names only; `own-code` lets the release run
    code of its bundle (a pickle, a pyfunc, a command), which somebody said in so many words.
    `intervals`: a regression or forecast answers [n, 3]: prediction, lower and upper end.
    """

    task: Task
    model: BundlePath
    model_format: ModelFormat = "skops"
    trust: Trust = "formats"
    columns: list[Column]
    classes: list[str] = []
    intervals: bool = False
    threshold: float | None = None
    entity: str | None = None
    feature_views: list[FeatureView] = []
    missing: Literal["allow", "refuse"] = "allow"
    explainer: Literal["shap", "none"] = "none"
    background: BundlePath | None = None


class Engine(_Frozen):
    """The engine a language release selects; `identity` is its `--served-model-name`."""

    identity: str
    base_model: str
    revision: str
    max_model_len: int = Field(gt=0)
    adapter: str | None = None
    runtime: str = ""
    arguments: list[str] = []


class Prompt(_Frozen):
    """One prompt, as registered in MLflow's prompt registry and stored in the bundle."""

    name: str
    version: int = Field(ge=1)
    path: BundlePath


class Retrieval(_Frozen):
    """The index and how it is searched: ranks of both searches are fused (RRF)."""

    index: BundlePath
    embedder: str
    embedder_digest: Digest
    top_k: int = Field(gt=0, le=50)
    candidates: int = Field(default=30, gt=0)
    rrf_k: int = Field(default=60, gt=0)
    lexical_weight: float = Field(default=1.0, ge=0)
    vector_weight: float = Field(default=1.0, ge=0)


class ContextBudget(_Frozen):
    """Tokens each part of the prompt may take; what does not fit is cut and reported."""

    system: int = Field(gt=0)
    retrieved: int = Field(ge=0)
    history: int = Field(ge=0)
    question: int = Field(gt=0)


class Sampling(_Frozen):
    """What is sent to the engine with every question."""

    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=128, gt=0)
    seed: int | None = 0
    stop: list[str] = []


class LlmSpec(_Frozen):
    """How a language release answers."""

    engine: Engine
    prompt: Prompt
    retrieval: Retrieval | None = None
    context: ContextBudget
    sampling: Sampling = Sampling()
    guard: BundlePath | None = None
    tokenizer: BundlePath
    chat_template: Digest | None = None
    citations: bool = True
    fallbacks: list[Engine] = []


class Manifest(_Frozen):
    """A release, whole. `files` lists every file of the bundle except the manifest."""

    schema_version: Literal[1] = 1
    name: Name
    kind: Kind
    description: str = ""
    runtime: Runtime
    source: Source = Source()
    data: DataSnapshot | None = None
    parameters: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    classic: ClassicSpec | None = None
    llm: LlmSpec | None = None
    selftest: BundlePath | None = None
    profile: BundlePath | None = None
    not_watched: list[str] = []
    files: list[FileRef] = []

    def canonical(self) -> bytes:
        """Canonical JSON of this manifest."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """`sha256:hex` of the canonical JSON: the release's identity."""
        return digest_bytes(self.canonical())


def parse_manifest(data: bytes) -> Manifest:
    """Read and check a manifest; unknown keys are refused.

    Raises:
        InvalidInput: names the first key at fault, its value and what was expected.
    """
    return check_manifest(parse_json(data, what="manifest.json"))


def check_manifest(value: Any) -> Manifest:
    """Validate a decoded manifest and its inner references (`files` must hold every path)."""
    try:
        manifest = Manifest.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(
            f"manifest.json: {key} = {first['input']!r:.80}: {first['msg']}", param=key
        ) from error
    _check_kind(manifest)
    _check_paths(manifest)
    return manifest


def _check_kind(manifest: Manifest) -> None:
    present = {"classic": manifest.classic is not None, "llm": manifest.llm is not None}
    if present != {"classic": manifest.kind == "classic", "llm": manifest.kind == "llm"}:
        raise InvalidInput(
            f"manifest.json: kind = {manifest.kind!r}: expected the section {manifest.kind!r} "
            "and no other",
            param="kind",
        )


def _check_paths(manifest: Manifest) -> None:
    paths = [file.path for file in manifest.files]
    if len(set(paths)) != len(paths):
        raise InvalidInput("manifest.json: files lists a path twice", param="files")
    for key, path in _named_paths(manifest):
        if path is not None and path not in paths:
            raise InvalidInput(
                f"manifest.json: {key} = {path!r}: not among the release's files", param=key
            )


def _named_paths(manifest: Manifest) -> list[tuple[str, str | None]]:
    named = [
        ("selftest", manifest.selftest),
        ("profile", manifest.profile),
        ("runtime.requirements", manifest.runtime.requirements),
    ]
    if manifest.classic is not None:
        named.append(("classic.background", manifest.classic.background))
        if manifest.classic.model_format != "mlflow" and manifest.runtime.kind != "image":
            named.append(("classic.model", manifest.classic.model))
    if manifest.llm is not None:
        named += [
            ("llm.prompt.path", manifest.llm.prompt.path),
            ("llm.guard", manifest.llm.guard),
            ("llm.tokenizer", manifest.llm.tokenizer),
        ]
        if manifest.llm.retrieval is not None:
            named.append(("llm.retrieval.index", manifest.llm.retrieval.index))
    return named
