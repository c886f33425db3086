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


class Server(ThreadingHTTPServer):
    """A thread for each connection."""

    request_queue_size = 512  # 5 by default: a burst of connections would time out


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--answer", type=float, default=0.5)
    parser.add_argument("--error-ratio", type=float, default=0.0)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--pieces", type=int, default=3, help="of a streamed answer")
    parser.add_argument("--pace-ms", type=float, default=100.0, help="between two of them")
    parser.add_argument("--exit", type=int)
    return parser.parse_args()


def main() -> int:
    """Serve until SIGTERM."""
    options = parsed()
    if options.exit is not None:
        print("told to fail", file=sys.stderr)
        return int(options.exit)
    release = os.environ["PROA_RELEASE"]
    facts = f'1;{int(options.answer > 0.5)};{{"{round(10 * options.answer)}":1}}'
    numbers, stopping = count(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            selftest = {"cases": 0, "passed": True}
            self._answer(200, {"release": release, "kind": "classic", "selftest": selftest})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            time.sleep(options.delay_ms / 1000)
            if not release:
                error = {"message": "no release", "type": "unavailable", "code": "no_release"}
                self._answer(503, {"error": error})
                return
            if next(numbers) % 100 < options.error_ratio * 100:
                self._answer(500, {"error": {"message": "told to fail", "type": "internal"}})
                return
            if self.path.endswith("/chat/completions"):
                stream(self, release, options.pieces, options.pace_ms / 1000)
            elif self.path.endswith("/infer"):
                output = {"name": "probability", "datatype": "FP64", "shape": [1]}
                outputs = [{**output, "data": [options.answer]}]
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
            if stopping.is_set():  # as uvicorn does: whoever comes again must go elsewhere
                self.send_header("connection", "close")
            if status == 200:
                self.send_header("x-proa-facts", facts)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    serve_until_told(Server((options.host, options.port), Handler), stopping)
    return 0


def stream(handler: BaseHTTPRequestHandler, release: str, pieces: int, pace: float) -> None:
    """A streamed chat completion in OpenAI's shape, a piece every `pace` seconds."""
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("transfer-encoding", "chunked")
    handler.send_header("x-proa-release", release)
    handler.end_headers()
    for number in range(pieces + 1):
        choice = {"index": 0, "delta": {"content": f"{number} "}, "finish_reason": None}
        data = json.dumps({"id": "a", "choices": [choice]}) if number < pieces else "[DONE]"
        event = f"data: {data}\n\n".encode()
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        handler.wfile.flush()
        time.sleep(pace)
    handler.wfile.write(b"0\r\n\r\n")


def serve_until_told(server: ThreadingHTTPServer, stopping: threading.Event | None = None) -> None:
    """Serve; on SIGTERM set `stopping`, finish what is being answered and return."""
    server.daemon_threads = False

    def stop(*_: object) -> None:
        if stopping is not None:
            stopping.set()
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    server.serve_forever(poll_interval=0.05)
    server.server_close()


if __name__ == "__main__":
    sys.exit(main())
