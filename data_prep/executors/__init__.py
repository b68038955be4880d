"""Who runs the units of data preparation: one module each, named as in `launch.executor`.

A module provides `opened(launch, work)`, a context manager that yields a `Run`
(data_prep/executor.py). Whatever it started is ended when the block ends.
"""
