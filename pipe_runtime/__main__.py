"""Start the runtime on stdin and stdout: `python -m pipe_runtime`, or as the script that the init starts.

Python compiles a script at each start. This module is therefore short: it finds the package and calls its `main`. It
must leave sys.path and sys.modules as the function expects them.
"""

import os
import sys

baseline = frozenset(sys.modules)

if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036  # the user may name any interpreter, even Python 2
        sys.exit("pipe_runtime: Python {}.{} is too old, 3.10 or newer is needed".format(*sys.version_info))
    brought = []
    if __spec__ is None:  # started as a script
        if not getattr(sys.flags, "safe_path", False):
            del sys.path[0]  # the script's folder, which Python has put there
        # First the folder with this package, so that no other package of its name is found; then the init's folders.
        brought = [__file__.rpartition("/")[0].rpartition("/")[0], *sys.argv[1:]]
    elif not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[:1]  # the current folder, which -m has put there; it may not be the function's folder
    path = sys.path[:]  # what the function gets: PYTHONPATH, the standard library, the installed packages
    library = os.__file__.rpartition("/")[0]
    if library in path:
        start = path.index(library)  # the next folder is lib-dynload
        sys.path[:] = path[start : start + 2] + brought + path[start + 2 :] + path[:start]
    else:
        sys.path[:0] = brought
    from pipe_runtime.main import main

    sys.path[:] = path
    __package__ = "pipe_runtime"  # so that a stack that the function logs leaves out the calls of this package
    main(baseline)
