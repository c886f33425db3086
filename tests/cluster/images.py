"""The images that the charts run, built here: of services/Dockerfile, and a few for tests alone.

Built with buildah on a base that debootstrap makes, and kept outside the work tree: buildah keeps
layers, the base lies in the cache, and an image whose inputs have not changed is neither built nor
loaded again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests import go, tools
from tests.cluster.loading import Destination

ROOT = Path(__file__).resolve().parents[2]
CONTAINERS = Path(__file__).parent / "containers"
SUITE = "bookworm"
BASE = f"localhost/proa-base:{SUITE}"
SERVICES = ("gateway", "predictor", "assistant", "monitor", "controller", "pipelines", "mlflow")
# What a small base does without; apt brings its lists again.
UNUSED = (
    "var/cache/apt/archives/*.deb",
    "var/lib/apt/lists/*",
    "var/cache/debconf/*",
    "usr/share/doc/*",
    "usr/share/locale/*",
    "usr/share/man/*",
    "usr/share/info/*",
)


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        name: with its tag, as charts write it.
        file: its Dockerfile.
        context: the folder it copies from.
        inputs: files and folders with an effect on it.
        arguments: build arguments.
        base: the image it stands on.
        tool: a command of tests/tools.py that it carries.
    """

    name: str
    file: Path
    context: Path
    inputs: tuple[Path, ...]
    arguments: dict[str, str] = field(default_factory=dict)
    base: str = BASE
    tool: str = ""


def all_images() -> dict[str, Image]:
    """Every image by its short name, in the order in which they can be built."""
    version = str(yaml.safe_load((ROOT / "charts/proa/Chart.yaml").read_text())["appVersion"])
    found = {name: _service(name, version) for name in SERVICES}
    gateway = f"localhost/{found['gateway'].name}"
    for name, tag, base in (
        ("postgres", "15", BASE),
        ("prometheus", "3.11", BASE),
        ("engine", "0", gateway),
        ("release", "0", BASE),
    ):
        file = CONTAINERS / f"{name}.Dockerfile"
        inputs: tuple[Path, ...] = (file,)
        context = CONTAINERS
        if name == "postgres":
            inputs += (CONTAINERS / "postgres.sh",)
        if name == "prometheus":
            context = tools.folder_of(name)
        if name == "engine":
            context = ROOT / "tests/standins"
            inputs += (context / "engine.py", *found["gateway"].inputs)
        if name == "release":
            context = ROOT / "tests/standins"
            inputs += (context / "release_pod.py", context / "release_server.py")
        tool = name if name in tools.TOOLS else ""
        found[name] = Image(f"proa-test-{name}:{tag}", file, context, inputs, base=base, tool=tool)
    return found


def build(names: Sequence[str]) -> dict[str, int]:
    """Build what has changed; returns each image's name with its bytes, its base included.

    Raises:
        RuntimeError: debootstrap or buildah fails; with its last lines.
    """
    every = all_images()
    for short in names:
        _build(every[short], every)
    return {every[short].name: size_of(f"localhost/{every[short].name}") for short in names}


def provide(names: Sequence[str], destination: Destination) -> dict[str, str]:
    """Build what has changed and load it; returns the names as charts write them.

    Args:
        names: keys of `all_images`.

    Raises:
        RuntimeError: debootstrap, buildah or the loading fails; with its last lines.
    """
    every = all_images()
    state = go.cache().parent / "cluster/images.json"
    for short in names:
        image = every[short]
        key = _key(image)
        # `present`: a developer changes tests, not images.
        loaded = _read(state, destination.name)
        same = loaded.get(image.name) == key or os.environ.get("PROA_TEST_IMAGES") == "present"
        if same and destination.has(image.name):
            continue
        _build(image, every)
        begun = time.monotonic()
        destination.load(f"localhost/{image.name}")
        _say(f"{image.name} is loaded", begun)
        with _alone("state"):
            _write(state, destination.name, _read(state, destination.name) | {image.name: key})
    return {short: every[short].name for short in names}


def sizes(names: Sequence[str]) -> dict[str, int]:
    """Bytes of each image that is built, its base included, by its name."""
    every = all_images()
    return {every[short].name: size_of(f"localhost/{every[short].name}") for short in names}


def size_of(reference: str) -> int:
    """Bytes of an image that buildah has, `reference` with its registry."""
    size = json.loads(_run("buildah", "images", "--json", reference))[0]["size"]
    number, unit = size.split()
    return int(float(number) * {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}[unit.upper()])


def _service(name: str, version: str) -> Image:
    services = ROOT / "services"
    inputs = [services / part for part in ("Dockerfile", "install.sh", f"locks/{name}.txt")]
    inputs += [services / "locks/bootstrap.txt", services / "locks/build.txt"]
    # What the wheel of this image takes, as services/install.sh says.
    if name != "mlflow":
        inputs += [ROOT / "pyproject.toml", ROOT / "platform/src/proa"]
        own = ROOT / "pipelines" if name == "pipelines" else services
        inputs.append(own / f"proa_{name}")
    arguments = {"SERVICE": name, "VERSION": version}
    file = services / "Dockerfile"
    return Image(f"proa-{name}:{version}", file, ROOT, tuple(inputs), arguments)


def _key(image: Image) -> str:
    tool = tools.folder_of(image.tool).name if image.tool else ""
    told = (SUITE, UNUSED, image.name, sorted(image.arguments.items()), image.base, tool)
    digest = hashlib.sha256(repr(told).encode())
    for given in image.inputs:
        files = sorted(given.rglob("*")) if given.is_dir() else [given]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"\0{file.relative_to(ROOT)}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _build(image: Image, every: Mapping[str, Image]) -> None:
    """Build an image unless buildah has it; two that want the same build it once."""
    for other in every.values():
        if image.base == f"localhost/{other.name}":
            _build(other, every)
    label = f"dev.proa.inputs={_key(image)}"
    with _alone("images"):
        same = _run("buildah", "images", "-q", "--filter", f"label={label}")
        if same:
            _run("buildah", "tag", same.split()[0], f"localhost/{image.name}")
            return
        _make_base()
        if image.tool:
            tools.path(image.tool)
        begun = time.monotonic()
        print(f"==> building {image.name}", file=sys.stderr, flush=True)
        with secrets() as given:
            _run(
                *("nice", "buildah", "bud", "--quiet", "--layers"),
                *("--isolation", "chroot", "--network", "host"),
                *("--file", str(image.file), "--label", label),
                *("--build-arg", f"BASE={image.base}"),
                *(f"--build-arg={name}={value}" for name, value in image.arguments.items()),
                *(f"--secret={secret}" for secret in given),
                *("--tag", f"localhost/{image.name}", str(image.context)),
            )
        _say(f"{image.name} is built", begun)


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """One process at a time: two builds at once take longer than one after the other."""
    file = go.cache().parent / f"cluster/{name}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def secrets() -> Iterator[list[str]]:
    """This machine's authorities and package index, for single steps of a build."""
    given = []
    authorities = Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt")
    if authorities.is_file():
        given.append(f"id=certificates,src={authorities}")
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL")
    with tempfile.TemporaryDirectory() as folder:
        if index:
            # An address may carry a password: in a file only this user reads.
            file = Path(folder) / "index"
            file.touch(mode=0o600)
            file.write_text(index)
            given.append(f"id=index,src={file}")
        yield given


def _make_base() -> None:
    """A small Debian with Python 3.11, as the official slim image is."""
    if _run("buildah", "images", "-q", "--filter", f"reference={BASE}"):
        return
    begun = time.monotonic()
    print(f"==> debootstrap {SUITE} (once; about a minute)", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="proa-base-") as folder:
        root = Path(folder) / "root"
        packages = "python3,python3-venv,ca-certificates"
        _run("debootstrap", "--variant=minbase", f"--include={packages}", SUITE, str(root))
        for pattern in UNUSED:
            for path in sorted(root.glob(pattern), reverse=True):
                _run("rm", "-rf", str(path))
        container = _run("buildah", "from", "scratch")
        try:
            _run("buildah", "add", "--quiet", container, str(root), "/")
            path = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            _run("buildah", "config", "--env", path, container)
            _run("buildah", "commit", "--quiet", container, BASE)
        finally:
            _run("buildah", "rm", container)
    _say(f"{BASE} is made", begun)


def _read(state: Path, destination: str) -> dict[str, str]:
    with contextlib.suppress(FileNotFoundError):
        found: dict[str, str] = json.loads(state.read_text()).get(destination, {})
        return found
    return {}


def _write(state: Path, destination: str, loaded: dict[str, str]) -> None:
    every = json.loads(state.read_text()) if state.exists() else {}
    fresh = state.with_suffix(".new")
    fresh.write_text(json.dumps({**every, destination: loaded}, indent=1))
    fresh.replace(state)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise RuntimeError(f"{' '.join(command[:3])} … failed:\n{last}")
    return done.stdout.strip()


def _say(what: str, begun: float) -> None:
    print(f"==> {what} ({time.monotonic() - begun:.0f} s)", file=sys.stderr, flush=True)
