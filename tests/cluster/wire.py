"""A wire to the API server that a test can cut and mend."""

from __future__ import annotations

import json
import selectors
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

from tests.cluster.access import Cluster


class Wire:
    """Passes TCP on from a port of this machine.

    Attributes:
        kubeconfig: of the same cluster, by way of this wire.
    """

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        view = cluster.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
        config = json.loads(view)
        settings = config["clusters"][0]["cluster"]
        server = urlsplit(settings["server"])
        self._to = (str(server.hostname), server.port or 443)
        self._open = threading.Event()
        self._open.set()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        settings["server"] = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        settings.setdefault("tls-server-name", self._to[0])
        self.kubeconfig = folder / "kubeconfig-of-the-wire"
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(json.dumps(config))
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Everything on it breaks, and nothing new gets through."""
        self._open.clear()
        for pair in list(self._pairs):
            _break(*pair)

    def mend(self) -> None:
        self._open.set()

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._open.is_set():
                near.close()
                continue
            far = socket.create_connection(self._to)
            threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        self._pairs.add((near, far))
        other = {near: far, far: near}
        with near, far, selectors.DefaultSelector() as ready:
            for end in other:
                ready.register(end, selectors.EVENT_READ)
            try:
                while self._open.is_set():
                    for key, _ in ready.select():
                        end = key.fileobj
                        assert isinstance(end, socket.socket)
                        data = end.recv(1 << 16)
                        if not data:
                            return
                        other[end].sendall(data)
            except OSError:
                return
            finally:
                self._pairs.discard((near, far))


def _break(*ends: socket.socket) -> None:
    for end in ends:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue
