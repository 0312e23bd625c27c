"""Two handlers that are not functions: a callable object, and a functools.partial.

$ pipe-init run index.handler -C examples/callable_object -e '{"name": "Ada"}'
"Good morning, Ada"

$ pipe-init run index.evening -C examples/callable_object -e '{"name": "Ada"}'
"Good evening, Ada"
"""

from functools import partial


class Greeter:
    def __init__(self, greeting):
        self.greeting = greeting

    def __call__(self, event, context):
        return f"{self.greeting}, {event['name']}"


def greet(greeting, event, context):
    return f"{greeting}, {event['name']}"


handler = Greeter("Good morning")
evening = partial(greet, "Good evening")
