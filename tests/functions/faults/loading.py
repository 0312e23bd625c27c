"""A function that cannot be loaded. The variable FAULT names the reason."""

import os
import time

with open(os.environ["STARTS"], "a", encoding="ascii") as starts:
    starts.write("start\n")

if os.environ["FAULT"] == "exits":
    os._exit(9)
elif os.environ["FAULT"] == "hangs":
    time.sleep(1000)  # <- hangs
elif os.environ["FAULT"] == "raises":
    raise LookupError("no configuration")  # <- raises
elif os.environ["FAULT"] == "leaves":
    raise SystemExit(4)  # <- leaves


def handler(event, context):
    return event
