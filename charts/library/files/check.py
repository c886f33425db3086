"""`helm test`: the Service answers, with the release it says, under its own model's name."""

import argparse
import json
import sys
import urllib.error
import urllib.request


def ask(url: str, body: object = None) -> tuple[int, dict[str, str], object]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, data, headers)  # noqa: S310 (the chart's own URL)
    try:
        answer = urllib.request.urlopen(request, timeout=60)  # noqa: S310
    except urllib.error.HTTPError as error:
        answer = error
    text = answer.read()
    try:
        value = json.loads(text)
    except ValueError:
        value = text.decode(errors="replace")
    return answer.status, {k.lower(): v for k, v in answer.headers.items()}, value


def main() -> str:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--request", type=json.loads)
    asked = parser.parse_args()
    status, _, said = ask(f"{asked.url}/readyz")
    if status != 200:
        raise SystemExit(f"/readyz answers {status}: {said}")
    status, _, said = ask(f"{asked.url}/release")
    if status == 503 and "no_release" in json.dumps(said):
        return f"ready, no release yet; next: proa promote {asked.model}/1"
    if status != 200 or not isinstance(said, dict):
        raise SystemExit(f"/release answers {status}: {said}")
    release = str(said["release"])
    if release.partition("/")[0] != asked.model:
        raise SystemExit(f"it serves {release}, expected a release of {asked.model}")
    if asked.request is None:
        return f"ready with {release}; set test.request and it is asked for an answer too"
    status, headers, said = ask(f"{asked.url}{asked.path}", asked.request)
    if status != 200:
        raise SystemExit(f"{asked.path} answers {status}: {json.dumps(said)[:500]}")
    if headers.get("x-proa-release") != release:
        raise SystemExit(f"the answer is of {headers.get('x-proa-release')}, expected {release}")
    return f"{release} answered: {json.dumps(said)[:300]}"


if __name__ == "__main__":
    print(main())
    sys.exit(0)
