"""What the tasks of labelled texts share: reading, windows, calibration, errors."""
