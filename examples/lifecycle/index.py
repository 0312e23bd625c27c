"""Hooks: one runs before the first request, one when a platform would freeze the worker, one at the end.

$ seq 3 | pipe-init run index.handler -C examples/lifecycle --initializer index.initialize --pre-freeze index.flush --pre-stop index.close --events - -q
{"loaded": 3, "request": 1, "seen": 1}
{"loaded": 3, "request": 2, "seen": 2}
{"loaded": 3, "request": 3, "seen": 3}
"""  # noqa: E501

model = {}
seen = []


def initialize(context):
    model.update({1: "one", 2: "two", 3: "three"})  # for example, from a large file
    print("loaded the model")


def handler(event, context):
    seen.append(event)
    return {"loaded": len(model), "request": event, "seen": len(seen)}


def flush(context):
    print(f"flushed after {len(seen)} requests")


def close(context):
    print("closed the model")
    model.clear()
