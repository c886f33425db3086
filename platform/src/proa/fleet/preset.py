"""Where a platform answers: read from a home, or from a platform file. Two presets, one shape.

A platform file is YAML and holds no secrets; `key_file` and `token_file` name files that do.
MLflow's user and password come the way MLflow reads them: `MLFLOW_TRACKING_USERNAME` and
`MLFLOW_TRACKING_PASSWORD`, or `~/.mlflow/credentials`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from proa.embedded.home import Home
from proa.embedded.platform_file import CURRENCY, DEFAULT_PRICES, read_platform
from proa.errors import InvalidInput, NotFound
from proa.project.check import check_settings
from proa.project.yamlfile import parse_yaml

__all__ = ["Endpoints", "PipelinesSection", "Preset", "read_preset"]

_PARTS = ("gateway", "controller", "monitor", "mlflow")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the platform answers; a part that cannot be reached from here is "".

    Attributes:
        bundles: URL of the bundle store.
        engine: the gateway's engine door.
    """

    gateway: str
    controller: str
    monitor: str
    mlflow: str
    bundles: str
    engine: str = ""

    @classmethod
    def of(cls, home: Home) -> Self:
        """Those of the platform in a home.

        Raises:
            NotFound: no platform there; the hint is `proa up`.
        """
        urls = read_platform(home).urls
        parts = {part: urls[part] for part in (*_PARTS, "engine")}
        return cls(**parts, bundles=home.bundles.as_uri())


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("expected a URL that begins with http:// or https://")
    return text.rstrip("/")


_Url = Annotated[str, AfterValidator(_url)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Resources(_Section):
    """What a step may take; quantities as Kubernetes writes them."""

    cpu_request: str = "500m"
    cpu_limit: str = ""
    memory_request: str = "1Gi"
    memory_limit: str = "4Gi"


class PipelinesSection(_Section):
    """Kubeflow Pipelines, and the pods that its steps run in.

    Attributes:
        url: the API, without `/apis`.
        ui: where people open it; `url` when empty.
        namespace: the profile's; None for an installation without profiles.
        experiment: the model's name when empty.
        token_file: a file with a bearer token, read again for every request.
        platform: ConfigMap in `namespace` whose entry `platform.yaml` is the platform file of the
            steps, with URLs that hold inside the cluster.
        key_secret: Secret with `pipelines.key`.  mlflow_secret: with `credentials`.
        bundles_secret: with `credentials`, in the form of ~/.aws/credentials.
        bundles_claim: PersistentVolumeClaim of a bundle store file:///bundles.
        claim: PersistentVolumeClaim for the feature repository, runtimes and the last index.
        gpu: GPUs for the steps that search and train; `gpu_type` is the resource's name.
    """

    url: _Url
    ui: str = ""
    namespace: str | None = None
    experiment: str = ""
    token_file: str | None = None
    ca_file: str | None = None
    verify_tls: bool = True
    service_account: str | None = None
    image: str = "proa-pipelines"
    image_pull_secrets: list[str] = Field(default_factory=list)
    platform: str = "proa-platform"
    key_secret: str = "proa-pipelines-key"  # noqa: S105 (the name of a Secret)
    mlflow_secret: str | None = None
    bundles_secret: str | None = None
    bundles_claim: str | None = None
    claim: str | None = None
    node_selector: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    resources: Resources = Field(default_factory=Resources)
    gpu: int = Field(default=0, ge=0)
    gpu_type: str = "nvidia.com/gpu"


class _File(_Section):
    version: Literal[1] = 1
    gateway: _Url
    controller: _Url
    monitor: _Url | Literal[""] = ""
    mlflow: str = Field(min_length=1)  # whatever MLflow takes as a tracking URI
    bundles: str = ""
    engine: _Url | Literal[""] = ""
    key_file: str | None = None
    engines: dict[str, dict[str, Any]] = Field(default_factory=dict)
    aliases: dict[str, str] = Field(default_factory=dict)
    weights: str | None = None
    prices: dict[str, int] = Field(default_factory=lambda: dict(DEFAULT_PRICES))
    currency: str = CURRENCY
    pipelines: PipelinesSection | None = None


@dataclass(frozen=True, slots=True)
class Preset:
    """A platform as its users reach it.

    Attributes:
        source: the file or home it was read from, for messages.
        engines: identity → `base_model`, `max_model_len`, `prices`, …
        aliases: what a project calls an engine → identity.
        weights: folder below which weights of embedders lie.
        prices: what is not an engine's, in micro of `currency`.
    """

    source: Path
    endpoints: Endpoints
    key_file: Path | None = None
    engines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    weights: Path | None = None
    prices: Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_PRICES))
    currency: str = CURRENCY
    pipelines: PipelinesSection | None = None

    @classmethod
    def of(cls, home: Home) -> Self:
        """That of the platform in a home.

        Raises:
            NotFound: no platform there; the hint is `proa up`.
        """
        found = read_platform(home)
        return cls(
            source=home.root,
            endpoints=Endpoints.of(home),
            key_file=home.key("admin"),
            engines=found.engines,
            aliases=found.aliases,
            weights=found.weights,
            prices=found.prices,
            currency=found.currency,
        )


def read_preset(path: Path) -> Preset:
    """Read a platform file; relative paths in it are relative to its folder.

    Raises:
        NotFound: no such file.
        InvalidInput: names file, key, value, line and what was expected.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotFound(
            f"platform file {path}: {error.strerror}", hint="name it with --platform FILE"
        ) from error
    value, lines = parse_yaml(data, what=path.name)
    if not isinstance(value, dict):
        raise InvalidInput(f"{path.name}: expected keys with values: gateway, controller, mlflow")
    found = check_settings(_File, value, what=path.name, lines=lines)
    beside = path.expanduser().absolute().parent
    section = found.pipelines
    if section is not None:
        files = {
            key: str(beside / Path(name).expanduser())
            for key in ("token_file", "ca_file")
            if (name := getattr(section, key)) is not None
        }
        section = section.model_copy(update=files)
    return Preset(
        source=path,
        endpoints=Endpoints(
            **{part: getattr(found, part) for part in (*_PARTS, "bundles", "engine")}
        ),
        key_file=None if found.key_file is None else beside / Path(found.key_file).expanduser(),
        engines=found.engines,
        aliases=found.aliases,
        weights=None if found.weights is None else beside / Path(found.weights).expanduser(),
        prices=found.prices,
        currency=found.currency,
        pipelines=section,
    )
