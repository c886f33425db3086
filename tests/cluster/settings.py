"""The settings of every process of the node, as files and arguments."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.cluster import layout as at
from tests.cluster.layout import Layout
from tests.cluster.machine import CGROUP

PAUSE = "docker.io/library/proa-test-pause:1"


def write(layout: Layout) -> None:
    """Write every file that a process reads when it starts."""
    for folder in (layout.kubelet, layout.run / "cni", layout.logs, layout.volumes):
        folder.mkdir(parents=True, exist_ok=True)
    layout.kubeconfig.touch(mode=0o600)
    layout.kubeconfig.write_text(json.dumps(_kubeconfig(layout), indent=1))
    (layout.run / "containerd.toml").write_text(_containerd(layout))
    (layout.run / "cni/10-bridge.conflist").write_text(json.dumps(_network(layout), indent=1))
    (layout.run / "resolv.conf").write_text(f"nameserver {at.NODE_IP}\n")
    (layout.run / "kubelet.yaml").write_text(json.dumps(_kubelet(layout), indent=1))
    (layout.run / "proxy.yaml").write_text(json.dumps(_proxy(layout), indent=1))
    (layout.run / "Corefile").write_text(_corefile(layout))


def etcd(layout: Layout) -> list[str]:
    client, peer = (f"http://127.0.0.1:{port}" for port in (at.ETCD_PORT, at.ETCD_PORT + 1))
    return [
        "/usr/bin/etcd",
        f"--data-dir={layout.run}/etcd",
        # A cluster that is thrown away need not survive a power cut.
        "--unsafe-no-fsync",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
    ]


def api_server(layout: Layout, commands: Path) -> list[str]:
    keys = layout.certificates
    return [
        str(commands / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{at.ETCD_PORT}",
        f"--secure-port={at.API_PORT}",
        f"--advertise-address={at.NODE_IP}",
        f"--service-cluster-ip-range={at.SERVICE_NETWORK}",
        f"--client-ca-file={keys}/ca.crt",
        f"--tls-cert-file={keys}/server.crt",
        f"--tls-private-key-file={keys}/server.key",
        f"--kubelet-client-certificate={keys}/admin.crt",
        f"--kubelet-client-key={keys}/admin.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={keys}/accounts.key",
        f"--service-account-signing-key-file={keys}/accounts.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=PodSecurity",
        "--feature-gates=ImageVolume=true",
        "--profiling=false",
    ]


def controllers(layout: Layout, commands: Path) -> list[str]:
    return [
        str(commands / "kube-controller-manager"),
        f"--kubeconfig={layout.kubeconfig}",
        f"--service-account-private-key-file={layout.certificates}/accounts.key",
        f"--root-ca-file={layout.certificates}/ca.crt",
        "--leader-elect=false",
        "--profiling=false",
        # The processes' own ports are not what is tested: none is open to others.
        "--bind-address=127.0.0.1",
    ]


def scheduler(layout: Layout, commands: Path) -> list[str]:
    return [
        str(commands / "kube-scheduler"),
        f"--kubeconfig={layout.kubeconfig}",
        "--leader-elect=false",
        "--profiling=false",
        "--bind-address=127.0.0.1",
    ]


def containerd(layout: Layout) -> list[str]:
    return ["/usr/bin/containerd", f"--config={layout.run}/containerd.toml", "--log-level=warn"]


def kubelet(layout: Layout, commands: Path) -> list[str]:
    return [
        str(commands / "kubelet"),
        f"--config={layout.run}/kubelet.yaml",
        f"--kubeconfig={layout.kubeconfig}",
        f"--root-dir={layout.kubelet}",
        f"--cert-dir={layout.kubelet}/pki",
        f"--hostname-override={at.NODE}",
        f"--node-ip={at.NODE_IP}",
    ]


def proxy(layout: Layout, commands: Path) -> list[str]:
    return [str(commands / "kube-proxy"), f"--config={layout.run}/proxy.yaml"]


def dns(layout: Layout, command: Path) -> list[str]:
    return [str(command), f"-conf={layout.run}/Corefile"]


def _kubeconfig(layout: Layout) -> dict[str, object]:
    """With the certificates inside: the file can be copied."""

    def inside(name: str) -> str:
        return base64.b64encode((layout.certificates / name).read_bytes()).decode()

    server = f"https://127.0.0.1:{at.API_PORT}"
    user = {
        "client-certificate-data": inside("admin.crt"),
        "client-key-data": inside("admin.key"),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": at.NODE,
        "contexts": [{"name": at.NODE, "context": {"cluster": at.NODE, "user": at.NODE}}],
        "users": [{"name": at.NODE, "user": user}],
        "clusters": [
            {
                "name": at.NODE,
                "cluster": {"server": server, "certificate-authority-data": inside("ca.crt")},
            }
        ],
    }


def _containerd(layout: Layout) -> str:
    plugin = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "{layout.images}"
state = "{layout.run}/containerd"
disabled_plugins = ["io.containerd.internal.v1.restart", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{layout.socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{layout.images}/opt"
[{plugin}]
  sandbox_image = "{PAUSE}"
  # Without CAP_SYS_RESOURCE no score below our own may be set, and no sandbox would start.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  # One file per container is enough for tests.
  max_container_log_line_size = 65536
  [{plugin}.containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
  [{plugin}.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [{plugin}.containerd.runtimes.runc.options]
    SystemdCgroup = false
  [{plugin}.cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{layout.run}/cni"
"""


def _network(layout: Layout) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": at.BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": at.POD_NETWORK, "rangeStart": "10.244.0.2"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": f"{layout.run}/addresses",
        },
    }
    return {"cniVersion": "0.4.0", "name": "proa-test", "plugins": [bridge]}


def _kubelet(layout: Layout) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": at.NODE_IP,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{layout.certificates}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "containerRuntimeEndpoint": f"unix://{layout.socket}",
        "clusterDNS": [at.NODE_IP],
        "clusterDomain": "cluster.local",
        "resolvConf": f"{layout.run}/resolv.conf",
        "podLogsDir": f"{layout.logs}/pods",
        "healthzPort": 0,
        "serializeImagePulls": False,
        # Images stay between runs, and a full disk of the machine is not the cluster's to mend.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%"},
        "featureGates": {"ImageVolume": True},
    }


def _proxy(layout: Layout) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(layout.kubeconfig)},
        "hostnameOverride": at.NODE,
        "bindAddress": at.NODE_IP,
        "healthzBindAddress": "127.0.0.1:16256",
        "metricsBindAddress": "127.0.0.1:16249",
        # The table's size is the machine's, not ours to change.
        "conntrack": {"maxPerCore": 0, "min": 0},
    }


def _corefile(layout: Layout) -> str:
    return f""".:53 {{
  bind {at.NODE_IP}
  errors
  kubernetes cluster.local in-addr.arpa ip6.arpa {{
    kubeconfig {layout.kubeconfig}
    ttl 5
  }}
}}
"""
