"""`python paused_run.py PLAN STAGE RECIPE ...`: a stage whose ranks wait as tests/faults/pauses.py
says."""

import runpy
import sys

from runtime import signals
from tests.faults import pauses

signals.install()  # as the stage does first of all; what is imported next takes long
plan, stage = sys.argv.pop(1), sys.argv.pop(1)
pauses.install(plan)
runpy.run_module(stage, run_name="__main__", alter_sys=True)
