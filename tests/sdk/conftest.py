"""The programs under test, started once, and the books of every test."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("books", "rig")

from books import Books  # noqa: E402
from rig import Proxy, Simulator  # noqa: E402

# What must never be found in a log or in the ledger.
API_KEY = "sk-test-d41d8cd98f00b204e9800998ecf8427e"
PROMPT = "Recite the verse of the purple heron."

# The SDKs and the programs take settings from variables such as these; the tests' own must be the only ones.
FOREIGN = re.compile(
    r"^(OPENAI|ANTHROPIC|GOOGLE|GEMINI|OLLAMA|TOLLGATE|CLAUDE)_(?!BIN$)|^(HTTPS?|ALL|NO)_PROXY$", re.IGNORECASE
)


def pytest_configure() -> None:
    for name in [name for name in os.environ if FOREIGN.search(name)]:
        del os.environ[name]


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """The simulated provider."""
    simulator = Simulator(tmp_path_factory.mktemp("simulate") / "simulate.log")
    yield simulator
    simulator.stop()


@pytest.fixture(scope="session")
def proxy(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """tollgate in front of it. After the last test neither its log nor its ledger may hold a key or a prompt."""
    folder = tmp_path_factory.mktemp("tollgate")
    proxy = Proxy(simulator.url, folder)
    yield proxy
    proxy.stop()
    for path in filter(Path.is_file, folder.rglob("*")):
        content = path.read_bytes()
        for secret in (API_KEY, PROMPT):
            assert secret.encode() not in content, f"{path.name} holds {secret!r}"


@pytest.fixture
def books(proxy: Proxy, simulator: Simulator, request: pytest.FixtureRequest) -> Books:
    """This test's books, under a session of its own."""
    name = f"{request.path.stem}.{request.node.name}"
    return Books(proxy, simulator, re.sub(r"[^A-Za-z0-9_.-]", "-", name))
