"""Works costs out from the shipped catalogue apart from the program: plain rates, exact decimals, no tiers."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import cache
from typing import Any

from rig import ROOT

# Prompts above the lowest threshold of any tier are not for this file.
LARGEST_PROMPT = 100_000


@cache
def _models() -> dict[tuple[str, str], dict[str, Any]]:
    with (ROOT / "config/models.json").open() as file:
        return {(model["provider"], model["id"]): model for model in json.load(file)["models"]}


def cost(provider: str, model: str, usage: dict[str, int]) -> Decimal:
    """What that usage costs in USD at the standard rates of a model in the catalogue."""
    entry = _models()[provider, model]
    assert not entry.keys() & {"upcoming", "time_of_day"}, f"{model} has a price that changes with time"
    assert usage["input"] <= LARGEST_PROMPT
    price = {kind: Decimal(rate) for kind, rate in entry["price"].items() if isinstance(rate, str)}
    write_5m = price.get("cache_write_5m", price["input"])
    long_writes = usage["cache_write_1h"]
    return (
        (usage["input"] - usage["cached"] - usage["cache_write"]) * price["input"]
        + usage["cached"] * price.get("cache_read", price["input"])
        + (usage["cache_write"] - long_writes) * write_5m
        + long_writes * price.get("cache_write_1h", write_5m)
        + usage["output"] * price["output"]
    ) / 1_000_000
