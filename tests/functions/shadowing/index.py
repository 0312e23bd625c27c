"""A function that imports modules of its own whose names are also used by pipe-init or the standard library."""

import json
import token

import click
import msgpack

import init


def handler(event, context):
    found = [module.NAME for module in (init, click, token, json, msgpack)]
    if event.get("fail"):
        raise ValueError(found)
    import datetime

    return {"found": found, "version": msgpack.version, "day": datetime.date(2026, 1, 31), "bytes": b"\0"}
