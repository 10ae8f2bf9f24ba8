"""`python -m seedance_async.cli`."""

from seedance_async.cli import main

main()
