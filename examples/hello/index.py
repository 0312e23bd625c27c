"""The smallest function: it greets whom the event names.

$ pipe-init run index.handler -C examples/hello -e '{"name": "you"}'
"hello you"
"""


def handler(event, context):
    return f"hello {event.get('name', 'world')}"
