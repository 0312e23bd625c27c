"""A msgpack of the function in a version that pipe-init could not use."""

version = (0, 0, 1)
NAME = "msgpack of the function"
