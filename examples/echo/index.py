"""Return the event. With --raw the event is bytes, and any bytes are returned as they are.

$ pipe-init run index.handler -C examples/echo -e '[1, "two", null]'
[1, "two", null]

$ pipe-init run index.handler -C examples/echo --raw -e 'any text'
any text

$ seq 3 | pipe-init run index.handler -C examples/echo --events -
1
2
3
"""


def handler(event, context):
    return event
