"""`helm test`: one real completion by the engine's identity, and nothing for anybody else."""

import argparse
import json
import urllib.error
import urllib.request
from pathlib import Path


def ask(url: str, body: object, key: str | None) -> tuple[int, str]:
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)  # noqa: S310 (the chart's own URL)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--identity", action="append", required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("--prompt", required=True)
    asked = parser.parse_args()
    key = asked.key_file.read_text().strip()
    url = f"{asked.url}/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": asked.prompt}], "max_tokens": 16}
    for identity in asked.identity:
        status, text = ask(url, {**body, "model": identity}, key)
        if status != 200:
            raise SystemExit(f"{identity} answers {status}: {text[:500]}")
        said = json.loads(text)
        if said["model"] != identity or not said["usage"]["completion_tokens"]:
            raise SystemExit(f"{identity} answered as {said['model']}: {text[:500]}")
        print(f"{identity} says {said['choices'][0]['message']['content']!r}")
    status, text = ask(url, {**body, "model": "eng-0000000000000000"}, key)
    if status != 404:
        raise SystemExit(f"another engine's name is answered {status}, expected 404: {text[:500]}")
    status, text = ask(url, {**body, "model": asked.identity[0]}, None)
    if status != 401:
        raise SystemExit(f"without a key it answers {status}, expected 401: {text[:500]}")
    print("another engine's name: 404; no key: 401")


if __name__ == "__main__":
    main()
