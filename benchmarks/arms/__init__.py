"""The arms of the measurement: one module each, run as `python -m arms.NAME` in a process of its own.

Each starts one child, hands it the same small event again and again, and takes its answer. driver.py says how.
"""
