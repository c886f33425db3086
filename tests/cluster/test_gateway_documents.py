"""What every place with documents does alike: files, and ConfigMaps on a real API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proa.cluster.api import connect
from proa_gateway.documents import Document, Documents, documents_of
from tests.cluster.access import Cluster
from tests.processes import wait_until

KEY = "routes.json"


@dataclass
class Place:
    """A place with documents, and how somebody else writes there."""

    documents: Documents
    name: str
    put: Callable[[str], object]
    remove: Callable[[], object]

    def news(self) -> list[Document]:
        """What the next look finds that finds something."""
        found: list[list[Document]] = []

        def look() -> bool:
            seen = self.documents.look()
            if seen is not None:
                found.append(list(seen))
            return bool(found)

        wait_until(look, 20)
        return found[0]


@pytest.fixture(params=["file", "configmap", "configmaps"])
def place(
    request: pytest.FixtureRequest, cluster: Cluster, namespace: str, tmp_path: Path
) -> Iterator[Place]:
    path = tmp_path / KEY
    api = connect(cluster.kubeconfig)
    metadata = {"name": "routes", "labels": {"proa.dev/engine": "x"}}

    def put(text: str) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        cluster.apply(namespace, {**body, "data": {KEY: text}})

    urls = {
        "file": f"file://{path}",
        "configmap": f"configmap://{namespace}/routes",
        "configmaps": f"configmaps://{namespace}?label=proa.dev/engine",
    }
    url = urls[request.param]
    made = documents_of(url, what="--routes", key=KEY, cluster=api)
    if request.param == "file":
        yield Place(made, str(path), path.write_text, path.unlink)
    else:
        remove = lambda: api.delete("configmaps", namespace, "routes")  # noqa: E731
        yield Place(made, f"{namespace}/routes", put, remove)
    made.close()


def test_each_change_is_told_once(place: Place) -> None:
    assert place.news() == []  # that nothing is there is the first thing to know
    assert place.documents.known
    assert place.documents.look() is None
    for text in ("one", "two, longer"):
        place.put(text)
        assert place.news() == [Document(place.name, text.encode())]
        assert place.documents.look() is None
    place.remove()
    assert place.news() == []
    assert place.documents.look() is None
    place.put("three")
    assert place.news() == [Document(place.name, b"three")]
