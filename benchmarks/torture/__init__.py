"""The torture run: a batch under random faults whose process is killed again and again.

`worker` is the program that is killed, `killing` starts it and kills it, `judge` compares what is
left with the emulator's ledger, `faults` is what goes wrong, `__main__` the command.
"""
