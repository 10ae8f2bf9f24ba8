"""The torture run: a batch under random faults whose process is killed again and again.

`worker` is the program that is killed, `killing` starts and kills it, `judge` compares the journal
and the videos with the emulator's ledger, `faults` has the faults, `__main__` is the command.
`bucket` kills the batch of the command line instead, whose videos go to a bucket; `shelf` is where
videos are found. `film` kills a film of shots.

`fleet` is the command for many workers of one queue: `fleet_worker` is the program, `fleet_chaos`
what is done to it, `fleet_run` puts both together, and `fleet_judge` compares the outcomes with the
ledger.
"""
