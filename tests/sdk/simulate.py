"""How a test tells the simulated provider what to do: by headers that tollgate passes on."""

from __future__ import annotations


def simulate(**behaviour: str | int) -> dict[str, str]:
    """The headers for that behaviour: `simulate(output_tokens=5)`."""
    return {f"x-simulate-{name.replace('_', '-')}": str(value) for name, value in behaviour.items()}
