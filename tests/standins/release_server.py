"""A release of any kind as a bare process: the HTTP contract on the standard library.

Stands in for predictor and assistant where a test is about rollouts: it starts in 0.1 s. Its
release comes from the environment, as a container gets it. `--error-ratio`, `--delay-ms` and
`--exit` make it a bad one.
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
from itertools import count


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--answer", type=float, default=0.5)
    parser.add_argument("--error-ratio", type=float, default=0.0)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--exit", type=int)
    options = parser.parse_args()
    if options.exit is not None:
        print("told to fail", file=sys.stderr)
        return int(options.exit)
    release = os.environ["PROA_RELEASE"]
    numbers = count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            selftest = {"cases": 0, "passed": True}
            self._answer(200, {"release": release, "kind": "classic", "selftest": selftest})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            time.sleep(options.delay_ms / 1000)
            if next(numbers) % 100 < options.error_ratio * 100:
                self._answer(500, {"error": {"message": "told to fail", "type": "internal"}})
                return
            if self.path.endswith("/infer"):
                outputs = [
                    {
                        "name": "probability",
                        "datatype": "FP64",
                        "shape": [1],
                        "data": [options.answer],
                    }
                ]
                self._answer(200, {"model_name": "m", "outputs": outputs})
            else:
                prediction = {"probability": options.answer, "label": options.answer > 0.5}
                self._answer(200, {"predictions": [prediction], "release": release})

        def _answer(self, status: int, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.send_header("x-proa-release", release)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    serve_until_told(ThreadingHTTPServer(("127.0.0.1", options.port), Handler))
    return 0


def serve_until_told(server: ThreadingHTTPServer) -> None:
    """Serve; on SIGTERM finish what is being answered and return."""
    server.daemon_threads = False
    signal.signal(
        signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown, daemon=True).start()
    )
    server.serve_forever(poll_interval=0.05)
    server.server_close()


if __name__ == "__main__":
    sys.exit(main())
