"""`python -m zerocopy` is the command line."""

from zerocopy.cli import main

main()
