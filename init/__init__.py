"""Supervise function runtimes: the package of pipe-init and its command line.

Importing the package imports nothing else: the command starts its worker before anything slow is loaded.
"""


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("pipe-init")
    raise AttributeError(f"module 'pipe_init' has no attribute {name!r}")
