"""One test's requests, seen from both ends: what the simulated provider sent and what tollgate booked."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import prices
from rig import Proxy, Simulator, until

# Figures that both sides know, by the simulator's name and the ledger's.
FIGURES = {
    "input": "input",
    "cached": "cached_read",
    "cache_write": "cache_write",
    "output": "output",
    "reasoning": "reasoning",
}

Answer = dict[str, Any]


class Books:
    """The books of one session, which is one test's own."""

    def __init__(self, proxy: Proxy, simulator: Simulator, session: str) -> None:
        self.proxy = proxy
        self.session = session
        self.headers = {"x-tollgate-session": session}
        self._simulator = simulator
        self.settled()
        self._ended_before = simulator.ended()

    def settled(self) -> None:
        """Waits until the provider has nothing more to do."""
        until("the provider to be idle", lambda: self._simulator.in_flight() == 0)

    def arrived(self) -> None:
        """Waits until a request of this test is being answered."""
        until("a request to arrive at the provider", self._simulator.in_flight)

    def sent(self, count: int = 1) -> list[Answer]:
        """What the provider knows of this test's requests, in the order of their ends, once there are `count`."""

        def ended() -> int | None:
            new = self._simulator.ended() - self._ended_before
            return new if new >= count and self._simulator.in_flight() == 0 else None

        new = until(f"{count} requests to end at the provider", ended)
        assert new == count, f"{count} requests were made, and {new} arrived"
        return self._simulator.requests(count)

    def booked(self, headers: Any) -> Answer:
        """The ledger's record of the answer with these headers."""
        return self.proxy.record(headers["x-tollgate-request-id"])

    def agree(self, count: int = 1) -> list[Answer]:
        """Demands that the ledger's sums are the figures that the provider has sent; returns the provider's view."""
        sent = self.sent(count)
        billed = [answer for answer in sent if answer["outcome"] == "complete" and answer["usage"]]
        expected = {ours: sum(a["usage"][theirs] for a in billed) for theirs, ours in FIGURES.items()}
        expected |= {"requests": count, "estimated_requests": 0, "partial_requests": 0}

        def report() -> Answer | None:
            total = self.proxy.usage(by="session", session=self.session)["total"]
            return total if total["requests"] >= count else None

        total = until(f"{count} requests in the ledger", report)
        assert {figure: total[figure] for figure in expected} == expected
        told = self.proxy.usage_command("--by", "session", "--session", self.session)
        assert told["total"] == total, "the command and the API tell the same"
        return sent

    def agree_on(self, headers: Any, provider: str, model: str, *, price: tuple[str, str] | None = None) -> Answer:
        """`agree` for a test with one complete request; returns the ledger's record, checked to token and price.

        `price` names the entry of the catalogue that the model's price is in; without it the price is not known.
        """
        [sent] = self.agree()
        record = self.booked(headers)
        assert sent["usage_sent"]
        assert {ours: record["usage"][ours] for ours in FIGURES.values()} == {
            ours: sent["usage"][theirs] for theirs, ours in FIGURES.items()
        }
        facts = {
            "session": self.session,
            "provider": provider,
            "model": model,
            "requested_model": model,
            "outcome": "complete",
            "status": 200,
            "provenance": "reported",
            "stream": sent["stream"],
        }
        assert {fact: record[fact] for fact in facts} == facts
        if price is None:
            assert (record["cost_usd"], record["cost_source"]) == (None, "unknown")
        else:
            assert (Decimal(record["cost_usd"]), record["cost_source"]) == (prices.cost(*price, sent["usage"]), "table")
        return record

    def failed(self, headers: Any, status: int) -> Answer:
        """The record of an answer that was an error of the provider: nothing is booked for it."""
        [sent] = self.sent()
        assert (sent["outcome"], sent["status"]) == ("error", status)
        record = self.booked(headers)
        assert (record["outcome"], record["status"]) == ("provider_error", status)
        assert record["provenance"] == "none"
        assert not any(record["usage"].values())
        return record

    def broken(self, headers: Any, outcome: str, provider_outcome: str) -> Answer:
        """The record of a stream that did not reach its end: its figures say that they are not the provider's last."""
        [sent] = self.sent()
        assert sent["outcome"] == provider_outcome
        record = self.booked(headers)
        assert record["outcome"] == outcome
        assert record["provenance"] in ("partial", "estimated")
        assert record["usage"]["input"] > 0
        assert 0 < record["usage"]["output"] <= sent["usage"]["output"]
        return record
