"""Hold the arms of the measurement: each module is one way to send an event to a handler and take its answer.

Each arm runs as `python -m arms.NAME` in a process of its own. It starts one child and sends it the same small event
again and again. driver.py has the loop that all arms share.
"""
