"""Ranks on this machine and on others: who they are, how they are started, watched and ended."""
