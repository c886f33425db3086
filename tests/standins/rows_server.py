"""A classic release as a bare process that answers rows by their column `x`.

Stands in for the predictor where a test must know how often each row was asked: it appends the
`n` of every row it answered to `--log`, one line per call, and `--delay-ms` makes an exam long
enough to be killed in the middle. `--noise` blurs the answer, so that two releases differ.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    options = parser.parse_args()
    release = os.environ["PROA_RELEASE"]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            selftest = {"cases": 0, "passed": True}
            self._answer({"release": release, "kind": "classic", "selftest": selftest})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            inputs = {item["name"]: item["data"] for item in body["inputs"]}
            time.sleep(options.delay_ms / 1000 if len(inputs["n"]) > 1 else 0)
            with open(options.log, "a", encoding="utf-8") as log:  # noqa: PTH123
                log.write(json.dumps({"release": release, "rows": inputs["n"]}) + "\n")
            values = [
                min(max(x + options.noise * ((n * 37 % 11) - 5) / 5, 0.01), 0.99)
                for x, n in zip(inputs["x"], inputs["n"], strict=True)
            ]
            output = {"name": "probability", "datatype": "FP64", "shape": [len(values)]}
            self._answer({"model_name": "m", "outputs": [{**output, "data": values}]})

        def _answer(self, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.send_header("x-proa-release", release)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    server.daemon_threads = False
    signal.signal(
        signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown, daemon=True).start()
    )
    server.serve_forever(poll_interval=0.05)
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
