"""A module of a package."""


def handler(event, context):
    return __name__
