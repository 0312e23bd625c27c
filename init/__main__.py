"""The command `pipe-init`: cleans the path of modules, then carries out the command line.

Before the path is clean, nothing may be imported here that an interpreter has not loaded by itself.
"""

from . import paths


def main() -> None:
    """Entry point of the command `pipe-init` and of `python -m pipe_init`. Does not return."""
    paths.clean()
    from . import entry

    entry.main()


if __name__ == "__main__":
    main()
