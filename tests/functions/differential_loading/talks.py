"""It prints and logs while it loads."""

import logging

print("printed")
logging.getLogger().warning("warned")
logging.getLogger().info("told")


def handler(event, context):
    return "loaded"
