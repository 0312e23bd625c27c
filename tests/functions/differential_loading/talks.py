"""A module that prints and logs while it is loaded."""

import logging

print("printed")
logging.getLogger().warning("warned")
logging.getLogger().info("told")


def handler(event, context):
    return "loaded"
