"""vLLM's own parser takes every argument list that the chart renders."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.charts import render

PYTHON = render.ROOT / ".venv-engine/bin/python"
PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser
for arguments in json.load(sys.stdin):
    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
    validate_parsed_serve_args(parsed)
    print(json.dumps({
        "name": parsed.served_model_name, "drain": parsed.shutdown_timeout,
        "prefix": parsed.enable_prefix_caching, "queue": parsed.max_num_queued_reqs,
        "adapters": [module.name for module in parsed.lora_modules or []],
    }))
"""


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_vllm_takes_the_arguments() -> None:
    if not PYTHON.exists():
        if os.environ.get("PROA_TEST_ENGINE") == "required":
            pytest.fail("no engine's environment: make setup-engine")
        pytest.skip("no engine's environment: make setup-engine")
    lists = []
    for case in render.cases():
        if case.chart == "vllm":
            (deployment,) = render.kinds(render.objects(case), "Deployment")
            lists.append(deployment["spec"]["template"]["spec"]["containers"][0]["args"])
    done = subprocess.run(
        [str(PYTHON), "-c", PARSE],
        input=json.dumps(lists),
        env={**os.environ, "VLLM_NO_USAGE_STATS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    parsed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(parsed) == len(lists)
    for arguments, seen in zip(lists, parsed, strict=True):
        assert f"--served-model-name={seen['name'][0]}" in arguments
        assert f"--shutdown-timeout={seen['drain']}" in arguments
        assert f"--max-num-queued-reqs={seen['queue']}" in arguments
        assert seen["prefix"] is ("--enable-prefix-caching" in arguments)
        modules = [json.loads(text)["name"] for text in arguments if text.startswith("{")]
        assert seen["adapters"] == modules
