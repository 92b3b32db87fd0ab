"""`python -m component` is `mixpam`."""

from component.cli import main

main()
