"""A local Seedance 2.0 Open API, to develop and test against without spending credits.

It shares no code with the SDK: it is written from the API's pages alone, so that one wrong idea
cannot sit on both sides.

>>> async with Emulator(EmulatorOptions(speed=600, seed=7)) as emulator:  # doctest: +SKIP
...     print(emulator.url, emulator.api_key)
"""

from .accounts import Account, Accounts
from .faults import Fault
from .injection import FaultRates, Faults, Script
from .jobs import Jobs, SimulatedJob
from .kinds import KINDS
from .ledger import Ledger, LedgerEntry, Refund
from .options import EmulatorOptions
from .request_log import MediaRequest, RequestLog, RequestRecord
from .server import Emulator, run, serve
from .webhooks import Delivery

__all__ = [
    "KINDS",
    "Account",
    "Accounts",
    "Delivery",
    "Emulator",
    "EmulatorOptions",
    "Fault",
    "FaultRates",
    "Faults",
    "Jobs",
    "Ledger",
    "LedgerEntry",
    "MediaRequest",
    "Refund",
    "RequestLog",
    "RequestRecord",
    "Script",
    "SimulatedJob",
    "run",
    "serve",
]
