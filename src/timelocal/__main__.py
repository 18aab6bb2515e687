"""`python -m timelocal`."""

from timelocal.cli import main

main()
