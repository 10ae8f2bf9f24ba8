"""Accounts: the API keys, the balances and the price table. The ledger records who paid what."""

import hmac
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from attrs import define, field

DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {"duration": 5, "aspectRatio": "16:9", "resolution": "720p"}
)
"""The value of a field that a submit leaves out. ASSUMPTION: the vendor documents no defaults."""

CREDITS_PER_SECOND: Mapping[tuple[str, str], int] = MappingProxyType(
    {
        ("seedance-2.0", "480p"): 4,
        ("seedance-2.0", "720p"): 8,
        ("seedance-2.0", "1080p"): 16,
        ("seedance-2.0-fast", "480p"): 4,
        ("seedance-2.0-fast", "720p"): 8,
        ("seedance-2.0-fast", "1080p"): 16,
        ("seedance-1.5-pro", "480p"): 2,
        ("seedance-1.5-pro", "720p"): 4,
        ("seedance-1.5-pro", "1080p"): 8,
    }
)
"""Credits per second by model and resolution.

ASSUMPTION. The vendor's examples ("Image to Video", "Success Response", and its text-to-video page)
charge 40 credits for 5 s and 64 for 8 s at 720p, which fits 8 credits per second for the two 2.0
models. The other prices are invented; only their order (fewer pixels and the older model cost less)
is plausible.
"""

DURATIONS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "seedance-2.0": tuple(range(4, 16)),
        "seedance-2.0-fast": tuple(range(4, 16)),
        "seedance-1.5-pro": (5, 10),
    }
)
"""Durations of each model in seconds: "Image to Video", table "Request Body", row ``duration``."""


def price(body: Mapping[str, Any]) -> int:
    """The credits that a validated submit body costs, by the assumed table."""
    full = {**DEFAULTS, **body}
    return CREDITS_PER_SECOND[full["model"], full["resolution"]] * int(full["duration"])


def model_entries() -> list[dict[str, Any]]:
    """The entries of the models endpoint (API overview). Their field names are an ASSUMPTION."""
    return [
        {
            "id": model,
            "name": model.replace("-", " ").title(),
            "durations": list(durations),
            "aspectRatios": ["16:9", "9:16", "1:1"],
            "resolutions": ["480p", "720p", "1080p"],
            "pricing": {
                "unit": "credits_per_second",
                **{size: cost for (of, size), cost in CREDITS_PER_SECOND.items() if of == model},
            },
        }
        for model, durations in DURATIONS.items()
    ]


@define
class Account:
    """One customer: a name for the records, the secret key and the remaining credits."""

    name: str
    key: str = field(repr=False)
    balance: int


class Accounts:
    """The accounts by key."""

    def __init__(self) -> None:
        self._accounts: list[Account] = []

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts)

    def add(self, key: str, balance: int, name: str | None = None) -> Account:
        """Open an account; ``name`` defaults to ``account-1``, ``account-2`` and so on."""
        account = Account(name or f"account-{len(self._accounts) + 1}", key, balance)
        self._accounts.append(account)
        return account

    def revoke(self, key: str) -> None:
        """Make the key invalid."""
        self._accounts = [account for account in self._accounts if account.key != key]

    def refund(self, name: str, credits: int) -> None:
        """Return credits to the account of that name, unless its key has been revoked."""
        for account in (each for each in self._accounts if each.name == name):
            account.balance += credits

    def by_header(self, authorization: str | None) -> Account | None:
        """The account of an ``Authorization: Bearer …`` header with a known key, else ``None``.

        API overview, "Authentication": a missing, revoked, expired or wrong key is refused.
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        sent = key.strip().encode("utf-8", "surrogateescape")
        found = (a for a in self._accounts if hmac.compare_digest(a.key.encode(), sent))
        return next(found, None)
