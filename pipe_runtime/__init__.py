"""The child's side of pipe-init: the protocol, and the runtime that serves a Python handler.

Importing the package imports nothing else. It must not know `pipe_init`, the supervisor.
"""
