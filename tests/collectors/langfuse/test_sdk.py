"""The Langfuse SDK can record and export traces: nothing of that starts here, whatever the environment says."""

import os
import subprocess
import sys

from tests.collectors.json_web import json_web
from tests.collectors.langfuse.langfuses import HEALTH, V2, VERSION, row

HOSTILE = {
    "LANGFUSE_PUBLIC_KEY": "pk-lf-of-somebody-else",
    "LANGFUSE_SECRET_KEY": "sk-lf-of-somebody-else",
    "LANGFUSE_TRACING_ENABLED": "true",
    "LANGFUSE_DEBUG": "true",
    "OTEL_SDK_DISABLED": "false",
    "OTEL_TRACES_EXPORTER": "otlp",
}
ROUND = """
import socket, sys, threading, time
from datetime import UTC, datetime

from collectors.langfuse.collector import LangfuseCollector
from collectors.langfuse.config import LangfuseConfig
assert "langfuse" not in sys.modules and "opentelemetry" not in sys.modules, "imported before it is needed"

called, connect = [], socket.socket.connect
def remember(self, address):
    called.append(address[:2])
    return connect(self, address)
socket.socket.connect = remember

config = LangfuseConfig(name="it", url="http://127.0.0.1:%(port)d", public_key="pk-lf-1", secret_key="sk-lf-1",
                        backfill_days=0, dimensions=(), details=False)
collector = LangfuseCollector(config)
assert "langfuse" not in sys.modules
before = set(threading.enumerate())
(attempt,) = collector.collect(datetime(2026, 11, 16, 10, 30, tzinfo=UTC), {})
assert attempt.error is None, attempt.error
assert [(one.model, one.requests) for one in attempt.batch.usage] == [("m", 2)]
assert dict(attempt.batch.found)["endpoint"] == "v2/metrics"
collector.close()
time.sleep(0.3)
assert "langfuse" in sys.modules
started = [each.name for each in set(threading.enumerate()) - before]
assert started in ([], ["network"]), started  # the second is this program's own
from opentelemetry import trace
assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider", "somebody set up tracing"
assert set(called) == {("127.0.0.1", %(port)d)}, called
"""


def test_a_round_asks_the_configured_server_and_starts_nothing() -> None:
    with json_web({HEALTH: VERSION, V2: {"data": [row(9)]}}) as elsewhere, json_web(elsewhere.paths) as web:
        names = ("LANGFUSE_BASE_URL", "LANGFUSE_HOST", "OTEL_EXPORTER_OTLP_ENDPOINT")
        done = subprocess.run(
            [sys.executable, "-c", ROUND % {"port": web.port}],
            env={**os.environ, **HOSTILE, **dict.fromkeys(names, elsewhere.url)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert elsewhere.asked == []
        told = {each.headers.get("Authorization") for each in web.asked if each.path == V2}
        assert told == {"Basic cGstbGYtMTpzay1sZi0x"}  # pk-lf-1:sk-lf-1
        assert "somebody-else" not in repr(web.asked)
