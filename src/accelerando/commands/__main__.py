"""``python -m accelerando.commands`` is ``accelerando``."""

from accelerando.commands import main

main()
