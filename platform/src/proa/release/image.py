"""The image of a release's own requirements: a build context, and what tells the controller of it.

A release that pins a hashed lock runs on a cluster in an image of that lock: the predictor's image
with one more environment, whose `python` comes first. There is one image per lock and platform
version, shared by every release with that lock. Nothing is built by proa's processes: whoever has
the rights to a registry builds, pushes and applies `runtimes.yaml`, a ConfigMap that the
controller reads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proa.errors import InvalidInput
from proa.release.bundle import BundleStore
from proa.release.manifest import Manifest
from proa.release.requirements import LOCK

__all__ = ["LABEL", "RuntimeImage", "lock_of", "runtime_image", "write_context"]

LABEL: Final = "proa.dev/runtimes"
"""The label of the ConfigMaps that map a lock (hex of its digest) to an image."""
_DOCKERFILE: Final = """\
# The runtime of {release}: {lock} on the predictor's image.
ARG PREDICTOR={predictor}
ARG PIPELINES={pipelines}

FROM ${{PIPELINES}} AS build
USER 0
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1
COPY requirements.lock proa-runtime.json /lock/
RUN --mount=type=secret,id=certificates --mount=type=secret,id=index \\
    if [ -f /run/secrets/certificates ]; then export SSL_CERT_FILE=/run/secrets/certificates; fi; \\
    if [ -f /run/secrets/index ]; then export UV_DEFAULT_INDEX="$(cat /run/secrets/index)"; fi; \\
    uv venv -q --python /opt/proa/bin/python /opt/runtime \\
    && uv pip sync -q --python /opt/runtime/bin/python --require-hashes \\
       --index-strategy unsafe-best-match /lock/requirements.lock \\
    && cp /lock/proa-runtime.json /opt/runtime/ && mkdir /opt/runtime/proa-source \\
    && cd /opt/runtime/proa-source \\
    && for package in proa proa_predictor; do \\
         ln -s /opt/proa/lib/python{python}/site-packages/$package $package; done \\
    && echo /opt/runtime/proa-source > /opt/runtime/lib/python{python}/site-packages/proa.pth \\
    && /opt/runtime/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/runtime/lib

FROM ${{PREDICTOR}}
COPY --from=build /opt/runtime /opt/runtime
ENV PATH=/opt/runtime/bin:/opt/proa/bin:/usr/local/bin:/usr/bin:/bin
LABEL dev.proa.runtime="{lock}"
"""
_CONFIG_MAP: Final = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: proa-runtime-{short}
  labels:
    {label}: "true"
data:
  "{key}": {image}
"""


@dataclass(frozen=True, slots=True)
class RuntimeImage:
    """The image of one lock.

    Attributes:
        lock: the lock's digest, `sha256:hex`.
        reference: `[registry/]proa-runtime:VERSION-HEX`.
    """

    lock: str
    reference: str

    @property
    def key(self) -> str:
        """The hex of the lock's digest, as the ConfigMap has it."""
        return self.lock.removeprefix("sha256:")


def lock_of(manifest: Manifest) -> str | None:
    """The digest of a release's lock; None when it runs on the platform's own packages."""
    if manifest.runtime.requirements is None:
        return None
    return {file.path: file.sha256 for file in manifest.files}[manifest.runtime.requirements]


def runtime_image(manifest: Manifest, *, registry: str, version: str) -> RuntimeImage:
    """Name the image of a release's lock.

    Args:
        registry: what stands before `/proa-runtime`; empty for none.
        version: the platform's, which is the predictor image's tag.

    Raises:
        InvalidInput: the release brings no requirements.
    """
    lock = lock_of(manifest)
    if lock is None:
        raise InvalidInput(
            f"{manifest.name} runs on the platform's own packages (runtime.kind = "
            f"{manifest.runtime.kind!r}, no requirements): it needs no image of its own"
        )
    name = f"proa-runtime:{version}-{lock.removeprefix('sha256:')[:16]}"
    return RuntimeImage(lock, f"{registry.rstrip('/')}/{name}" if registry else name)


def write_context(
    manifest: Manifest,
    store: BundleStore,
    folder: Path,
    *,
    release: str,
    registry: str = "",
    version: str,
) -> RuntimeImage:
    """Write `Dockerfile`, the lock, its marker and `runtimes.yaml` into `folder`.

    Args:
        release: what to call the release in the Dockerfile's comment.

    Raises:
        InvalidInput: the release brings no requirements.  NotFound, Conflict: its lock is not in
            the bundle store, or damaged.
    """
    image = runtime_image(manifest, registry=registry, version=version)
    before = f"{registry.rstrip('/')}/" if registry else ""
    python = manifest.runtime.python
    dockerfile = _DOCKERFILE.format(
        release=release,
        lock=image.lock,
        predictor=f"{before}proa-predictor:{version}",
        pipelines=f"{before}proa-pipelines:{version}",
        python=python,
    )
    config_map = _CONFIG_MAP.format(
        short=image.key[:16], label=LABEL, key=image.key, image=json.dumps(image.reference)
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOCK).write_bytes(store.blobs.read(image.lock))
    # As proa.release.runtime.build leaves it: what the predictor compares with the release.
    marker = {"lock": image.lock, "python": python}
    (folder / "proa-runtime.json").write_text(json.dumps(marker))
    (folder / "Dockerfile").write_text(dockerfile)
    (folder / "runtimes.yaml").write_text(config_map)
    return image
