"""Runs tollgate's programs for the tests and asks them what they have seen and booked.

Every port is chosen by the system, everything is on the loopback interface, and every wait ends after `PATIENCE`.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import httpx

ROOT = Path(__file__).resolve().parents[2]

# Seconds that anything may take before a test fails.
PATIENCE = 30.0

# Every provider that tollgate mounts by itself.
PROVIDERS = (
    *("anthropic", "openai", "openrouter", "gemini", "ollama", "groq"),
    *("mistral", "deepseek", "xai", "together", "llamacpp", "vllm"),
)

T = TypeVar("T")


def binary() -> Path:
    """The program under test: `$TOLLGATE_BIN`, else the debug build."""
    path = Path(os.environ.get("TOLLGATE_BIN") or ROOT / "target/debug/tollgate").resolve()
    assert path.is_file(), f"{path} is missing: run `cargo build`, or set TOLLGATE_BIN"
    return path


def until(what: str, look: Callable[[], T | None]) -> T:
    """Looks again and again until there is something to see."""
    deadline = time.monotonic() + PATIENCE
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:.0f} s"
        time.sleep(0.01)


class Program:
    """A child process that says on its first lines of output where it listens."""

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        self.log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self._process.stdout is not None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        self.url = self._listening()
        self._http = httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)

    def _read(self, output: IO[str]) -> None:
        for line in output:
            self._lines.put(line)
        self._lines.put(None)

    def _listening(self) -> str:
        deadline = time.monotonic() + PATIENCE
        try:
            while (line := self._lines.get(timeout=deadline - time.monotonic())) is not None:
                if line.startswith("listening on "):
                    return line.removeprefix("listening on ").strip()
        except (queue.Empty, ValueError):
            pass
        self._process.kill()
        self._process.wait()
        raise AssertionError(f"{self._process.args} did not say where it listens:\n{self.log.read_text()}")

    def get(self, path: str, **params: Any) -> Any:
        """A JSON answer of the program itself."""
        answer = self._http.get(path, params=params)
        assert answer.status_code == 200, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def stop(self) -> None:
        """Asks the program to end, and demands that it does so in order."""
        assert self._process.stdout is not None
        self._http.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        self._reader.join()
        self._process.stdout.close()
        assert code == 0, f"{self._process.args} ended with {code}:\n{self.log.read_text()}"


class Simulator(Program):
    """The simulated provider."""

    def __init__(self, log: Path, *options: str) -> None:
        super().__init__([binary(), "simulate", "--listen", "127.0.0.1:0", *options], log)

    def in_flight(self) -> int:
        """How many requests it is answering."""
        return self.get("/_simulate/stats")["in_flight"]

    def ended(self) -> int:
        """How many requests have ended so far."""
        stats = self.get("/_simulate/stats")
        return stats["requests"] - stats["in_flight"]

    def requests(self, last: int) -> list[dict[str, Any]]:
        """The requests that ended last, oldest first."""
        return self.get("/_simulate/requests", last=last)


class Proxy(Program):
    """tollgate in front of one upstream for every provider."""

    def __init__(self, upstream: str, folder: Path, config: str = "") -> None:
        self.ledger = folder / "ledger"
        upstreams = [option for name in PROVIDERS for option in ("--set", f"providers.{name}.base_url={upstream}")]
        file = folder / "tollgate.toml"
        file.write_text(config)
        command = [binary(), "serve", "--config", file, "--listen", "127.0.0.1:0", "--ledger-dir", self.ledger, *upstreams]
        # What the provider answers is what the SDK gets, unless a test is about retries.
        command += ["--set", "send.max_retries=0"]
        super().__init__(command, folder / "tollgate.log")

    def record(self, request_id: str) -> dict[str, Any]:
        """The ledger's record of a request."""

        def look() -> dict[str, Any] | None:
            answer = self._http.get(f"/api/v1/requests/{request_id}")
            return answer.json() if answer.status_code == 200 else None

        return until(f"request {request_id} in the ledger", look)

    def usage(self, **query: str) -> dict[str, Any]:
        """A report, by HTTP."""
        return self.get("/api/v1/usage", **query)

    def usage_command(self, *options: str) -> dict[str, Any]:
        """A report, by `tollgate usage --json` beside the running proxy."""
        command = [binary(), "usage", "--json", "--ledger-dir", self.ledger, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, f"tollgate usage ended with {done.returncode}: {done.stderr}"
        return json.loads(done.stdout)
