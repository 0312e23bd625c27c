"""A method as the handler. The class is instantiated once, without arguments, and keeps its state between requests.

$ seq 3 | pipe-init run index:Counter.add -C examples/class_method --events -
1
3
6
"""


class Counter:
    def __init__(self):
        self.total = 0

    def add(self, event, context):
        self.total += event
        return self.total
