"""`python -m petavox`: the same as the console script."""

from petavox.cli.app import main

main()
