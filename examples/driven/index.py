"""A function for client.py, a program that calls it many times and starts pipe-init only once.

$ python3 examples/driven/client.py pipe-init run index.handler -C examples/driven --events - --unordered -q
4 / 2 = 2.0
1 / 0: ZeroDivisionError: division by zero
9 / 3 = 3.0
exit code 1
"""


def handler(event):
    return event["a"] / event["b"]
