"""A module with handlers of several kinds, and with objects that cannot be handlers."""

handler = 7


class Class:
    def method(self, event, context):
        return "method"

    @staticmethod
    def static(event, context):
        return "static"


async def coroutine(event, context):
    return "awaited"


def one(event):
    return "one"


def none():
    return "none"


def many(event, context, more):
    return "many"


def optional(event, context=None, *more, **others):
    return [context is not None, more, others]
