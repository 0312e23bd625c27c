"""`python -m pipe_runtime`, and the script that the init starts: the runtime on stdin and stdout.

It does as little as it can before the runtime takes over: the process belongs to the function.
"""

import sys

baseline = frozenset(sys.modules)

if __name__ == "__main__":
    if sys.version_info < (3, 10):
        sys.exit("pipe_runtime needs Python 3.10 or newer; this is %d.%d (%s)" % (sys.version_info[:2] + (sys.executable,)))
    here = __file__.rpartition("/")[0]
    started_as_script = sys.path[:1] == [here]
    if started_as_script:
        sys.path[0] = here.rpartition("/")[0]  # this very package, wherever it lies, before any other of its name
    from pipe_runtime.loop import leave, main

    if started_as_script:
        del sys.path[0]
    leave(main(baseline))
