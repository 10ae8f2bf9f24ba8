"""Random programs over the public API, in universes of a simulated server, disk and clock.

A universe is a plan made from one seed (`plan`), played by `world` in virtual time: processes with
event loops of their own (`process`), a server with a ledger (`server`), and a disk that loses what
was not flushed when its process is killed (`store`, the only file that knows how a journal keeps
its data). `program` is the user's code, `judge` says what must hold afterwards, `shrink` looks for
a smaller plan that fails in the same way, and `mutants` removes one safeguard at a time.
"""
