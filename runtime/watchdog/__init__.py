"""Finds ranks that are lost, stopped, hung or out of reach, names them and ends the run."""
