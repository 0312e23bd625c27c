"""A module in it."""


def handler(event, context):
    return __name__
