"""Contain the arms of the measurement: each is a way to send an event to a handler and to get the answer.

Each arm runs as `python -m arms.NAME` in its own process. It starts one child and sends it the same small event again
and again. driver.py has the loop that all arms share.
"""
