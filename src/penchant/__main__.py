"""Run the command as ``python -m penchant``."""

from penchant.cli import main

main()
