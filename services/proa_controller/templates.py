"""Releases as settings of a pod template: nothing is built in a cluster, images are looked up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from proa.cluster.api import Object
from proa.errors import Refused
from proa.release.manifest import Manifest
from proa.release.reference import ReleaseRef
from proa_controller.deployments import ReleaseTemplate

__all__ = ["RUNTIMES", "TemplateLauncher", "images_in"]

RUNTIMES: Final = "proa.dev/runtimes"
"""The label of ConfigMaps that say which image holds a runtime: digest of its lock → image."""
_RELEASES: Final = "/var/lib/proa/releases"
"""Where a pod's init container lays a release's files."""
_PLACES: Final[Mapping[str, str]] = {"{host}": "0.0.0.0", "{port}": "8080", "{python}": "python"}  # noqa: S104


class TemplateLauncher:
    """`Launcher` for Deployments.

    Args:
        images: digest (hex) of a runtime's hashed requirements → its image.
    """

    def __init__(self, images: Callable[[], Mapping[str, str]]) -> None:
        self._images = images

    def template(self, ref: ReleaseRef, manifest: Manifest, track: str) -> ReleaseTemplate:
        """The release, with what it sets of its container when it has a runtime of its own.

        Raises:
            Refused: `RuntimeMissing`: no image holds its runtime.
        """
        runtime = manifest.runtime
        image = self._image(ref, manifest)
        if image is None:
            return ReleaseTemplate(ref)
        if runtime.kind != "image":
            return ReleaseTemplate(ref, {"image": image})
        own: dict[str, Any] = {"image": image, "command": None, "args": None}
        if runtime.command:
            own["command"] = [_filled(word) for word in runtime.command]
            own["workingDir"] = f"{_RELEASES}/{ref.digest.removeprefix('sha256:')}"
        return ReleaseTemplate(ref, own)

    def progress(self, ref: ReleaseRef) -> None:
        """Nothing is built here."""

    def _image(self, ref: ReleaseRef, manifest: Manifest) -> str | None:
        """The image of a release's own runtime; None when it runs on the platform's."""
        runtime = manifest.runtime
        if runtime.requirements is not None:
            files = {file.path: file.sha256 for file in manifest.files}
            lock = files[runtime.requirements].removeprefix("sha256:")
            image = self._images().get(lock)
            if image is None:
                raise Refused(
                    f"{ref.short} needs a runtime of its own ({lock[:12]}), of which no image is "
                    f"known here: no ConfigMap with the label {RUNTIMES} names it",
                    hint=f"proa runtime image {ref.short}",
                    code="RuntimeMissing",
                )
            return image
        if runtime.kind != "image":
            return None
        if runtime.image is None:
            raise Refused(
                f"{ref.short} runs a command of its own: a cluster needs an image of it",
                hint=f"set serve.image of {ref.name} to an image and create it again",
                code="RuntimeMissing",
            )
        return runtime.image


def _filled(word: str) -> str:
    """A word of a command, as a pod of our charts runs it."""
    for key, value in _PLACES.items():
        word = word.replace(key, value)
    return word


def images_in(configs: Mapping[tuple[str, str], Object]) -> dict[str, str]:
    """Digest of a lock → image, from the ConfigMaps that say so."""
    return {
        digest: image.strip()
        for _, item in sorted(configs.items())
        for digest, image in (item.get("data") or {}).items()
    }
