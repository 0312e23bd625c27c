"""The smallest function: it greets the name in the event.

$ pipe-init run index.handler -C examples/hello -e '{"name": "you"}'
"hello you"
"""


def handler(event, context):
    return f"hello {event.get('name', 'world')}"
