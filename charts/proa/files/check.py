"""`helm test`: every part answers, and nobody without a key gets anything."""

import argparse
import json
import time
import urllib.error
import urllib.request
from pathlib import Path


def ask(url: str, key: str | None = None) -> tuple[int, str]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (the chart's own URL)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


def expect(what: str, url: str, status: int, key: str | None = None) -> str:
    """A part may have just been restarted: it gets half a minute."""
    deadline = time.monotonic() + 30
    while (found := ask(url, key))[0] != status:
        if time.monotonic() > deadline:
            raise SystemExit(
                f"{what}: {url} answers {found[0]}, expected {status}: {found[1][:500]}"
            )
        time.sleep(1)
    print(f"{what}: {status}")
    return found[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--monitor", required=True)
    parser.add_argument("--controller", required=True)
    parser.add_argument("--mlflow")
    parser.add_argument("--key-file", type=Path)
    asked = parser.parse_args()
    for part in ("gateway", "monitor", "controller"):
        expect(f"{part} is ready", f"{getattr(asked, part)}/readyz", 200)
    expect("the user door without a key", f"{asked.gateway}/v1/models", 401)
    expect("the controller without a key", f"{asked.controller}/v1/models", 401)
    if asked.mlflow:
        search = f"{asked.mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
        expect("MLflow without a password", search, 401)
    if asked.key_file:
        key = asked.key_file.read_text().strip()
        said = expect("the user door with a key", f"{asked.gateway}/v1/models", 200, key)
        print("models:", [model["id"] for model in json.loads(said)["data"]] or "none yet")
        expect("the controller with a key", f"{asked.controller}/v1/models", 200, key)


if __name__ == "__main__":
    main()
