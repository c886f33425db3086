"""Where a platform answers: a platform file, a home, and which of them counts."""

from __future__ import annotations

from pathlib import Path

import pytest

import proa
from proa.embedded.home import Home
from proa.embedded.platform_file import Platform, write_platform
from proa.embedded.ports import PortChoice
from proa.errors import Conflict, InvalidInput, NotFound
from proa.fleet import PLATFORM
from proa.fleet.preset import Preset, read_preset

CLUSTER = """\
gateway: https://proa.example/
controller: http://proa-controller.proa.svc:8080
mlflow: http://proa-mlflow.proa.svc:5000
bundles: s3://bundles/proa
key_file: key
"""


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PROA_HOME", PLATFORM, "PROA_KEY", "PROA_PERSON"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "platform.yaml"
    path.write_text(CLUSTER)
    (tmp_path / "key").write_text("proa_cluster\n")
    return path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_platform(Platform(home=home, ports=PortChoice({}, auto=True).resolve(None)))
    home.key("admin").write_text("proa_local")
    return home


def test_a_file_says_where_the_parts_are(file: Path) -> None:
    found = read_preset(file)
    assert found.endpoints.gateway == "https://proa.example"
    assert (found.endpoints.monitor, found.endpoints.engine) == ("", "")
    assert found.key_file == file.parent / "key"
    assert found.pipelines is None


def test_files_it_names_lie_beside_it(file: Path, tmp_path: Path) -> None:
    section = "pipelines: {url: 'https://kfp', token_file: t/token, ca_file: /etc/ca.pem}\n"
    file.write_text(CLUSTER + section)
    found = read_preset(file).pipelines
    assert found is not None
    assert found.token_file == str(tmp_path / "t" / "token")
    assert found.ca_file == "/etc/ca.pem"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected keys with values"),
        ("gateway: proa.example\n", "gateway = 'proa.example': expected a URL that begins"),
        (CLUSTER.replace("mlflow", "mlfow"), r"mlflow is missing|mlfow is not a key"),
        (CLUSTER + "pipelines: {}\n", r"pipelines\.url is missing"),
        (CLUSTER + "pipelines: {url: 'http://x', gpus: 1}\n", r"pipelines\.gpus is not a key"),
        (CLUSTER + "version: 2\n", "version = 2: expected 1"),
        (CLUSTER + "key: secret\n", "key is not a key"),
    ],
)
def test_a_mistake_names_file_and_key(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidInput, match=said) as raised:
        read_preset(file)
    assert raised.value.message.startswith("platform.yaml: ")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"platform file .*nothing\.yaml: No such file"):
        proa.connect(platform=tmp_path / "nothing.yaml")


def test_both_presets_give_the_same_fleet(file: Path, home: Home) -> None:
    with proa.connect(platform=file) as there, proa.connect(home.root) as here:
        assert there.endpoints.controller == "http://proa-controller.proa.svc:8080"
        assert there._key == "proa_cluster"
        assert there.home is None
        assert here.endpoints == Preset.of(home).endpoints
        assert here._key == "proa_local"


def test_what_is_said_counts_more_than_the_environment(
    file: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROA_HOME", str(home.root))
    with proa.connect() as fleet:
        assert fleet._key == "proa_local"
    monkeypatch.setenv(PLATFORM, str(file))
    with proa.connect() as fleet:
        assert fleet._key == "proa_cluster"
    with proa.connect(home.root) as fleet:  # nobody meant production by naming a home
        assert fleet._key == "proa_local"
    monkeypatch.setenv("PROA_KEY", "proa_mine")
    with proa.connect() as fleet:
        assert fleet._key == "proa_mine"


def test_a_key_is_needed(file: Path, tmp_path: Path) -> None:
    (tmp_path / "key").unlink()
    with pytest.raises(Conflict, match=r"no key: set PROA_KEY, or mend .*key: No such file"):
        proa.connect(platform=file)
    file.write_text(CLUSTER.replace("key_file: key\n", ""))
    with pytest.raises(Conflict, match="no key: set PROA_KEY, or name key_file in"):
        proa.connect(platform=file)


def test_what_needs_a_home_says_so(file: Path, tmp_path: Path) -> None:
    with proa.connect(platform=file) as fleet:
        with pytest.raises(Conflict, match="a list of environments needs the home folder"):
            fleet.environments()
        with pytest.raises(NotFound, match="no project of m is known here") as raised:
            fleet.exam_of("m")
        assert raised.value.hint == "proa gate … --exam FOLDER"
        with pytest.raises(Conflict, match="names no Kubeflow Pipelines: expected a section"):
            fleet.retrain("m", reason="drift")
    file.write_text(CLUSTER.replace("bundles: s3://bundles/proa\n", ""))
    with (
        proa.connect(platform=file) as fleet,
        pytest.raises(Conflict, match="bundle store cannot be reached from here"),
    ):
        fleet.bundles  # noqa: B018 (asking is what fails)
    file.write_text(CLUSTER.replace("s3://bundles/proa", f"file://{tmp_path}/bundles"))
    with proa.connect(platform=file) as fleet:
        with pytest.raises(Conflict, match=r"bundle store file://.* is not mounted here"):
            fleet.bundles  # noqa: B018 (asking is what fails)
        (tmp_path / "bundles").mkdir()
        assert fleet.bundles is not None
    with proa.connect(tmp_path / "work", platform=file) as fleet:
        assert fleet.home == Home(tmp_path / "work")
