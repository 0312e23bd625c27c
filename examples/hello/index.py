"""The smallest function: it greets whom the event names."""


def handler(event, context):
    return f"hello {event.get('name', 'world')}"
