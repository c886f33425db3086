"""Where a cluster of our own keeps its files, and the addresses it uses.

There is one per machine: bridge, iptables chains and cgroups are the machine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests import go

NODE = "proa-test"
BRIDGE = "proa0"
POD_NETWORK = "10.244.0.0/24"
NODE_IP = "10.244.0.1"
"""The bridge's address: pods reach the node by it, kubelet refuses loopback, DNS listens on it."""
SERVICE_NETWORK = "10.96.0.0/16"
API_IP = "10.96.0.1"
API_PORT = 16443
ETCD_PORT = 12379


@dataclass(frozen=True)
class Layout:
    """The cluster's folders.

    Attributes:
        home: what outlives it: the record of what runs, and images.
        run: what one start writes: settings, certificates, logs, etcd's data.
    """

    home: Path
    run: Path

    @property
    def kubeconfig(self) -> Path:
        return self.run / "kubeconfig"

    @property
    def certificates(self) -> Path:
        return self.run / "certificates"

    @property
    def logs(self) -> Path:
        return self.run / "logs"

    @property
    def kubelet(self) -> Path:
        return self.run / "kubelet"

    @property
    def volumes(self) -> Path:
        return self.run / "volumes"

    @property
    def socket(self) -> Path:
        return self.run / "containerd/containerd.sock"

    @property
    def images(self) -> Path:
        """containerd's content and layers, kept between runs."""
        return self.home / "containerd"

    @property
    def record(self) -> Path:
        return self.home / "record.json"


def here() -> Layout:
    """This machine's layout."""
    return Layout(go.cache().parent / "cluster", Path("/var/lib/proa-test-cluster"))
