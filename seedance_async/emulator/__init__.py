"""A local Seedance 2.0 Open API, to develop and test against without spending credits.

It shares no code with the SDK: it is written from the vendor's pages alone, so that a
misunderstanding cannot be on both sides and go unnoticed.

>>> async with Emulator(EmulatorOptions(speed=600, seed=7)) as emulator:  # doctest: +SKIP
...     print(emulator.url, emulator.api_key)
"""

from seedance_async.emulator.accounts import Account, Accounts
from seedance_async.emulator.fault_kinds import KINDS
from seedance_async.emulator.faults import Fault
from seedance_async.emulator.injection import FaultRates, Faults, Script
from seedance_async.emulator.jobs import Jobs, SimulatedJob
from seedance_async.emulator.ledger import Ledger, LedgerEntry, Refund
from seedance_async.emulator.model_cards import cards_in
from seedance_async.emulator.options import EmulatorOptions
from seedance_async.emulator.request_log import MediaRequest, RequestLog, RequestRecord
from seedance_async.emulator.server import Emulator, run, serve
from seedance_async.emulator.webhooks import Delivery

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
    "cards_in",
    "run",
    "serve",
]
