"""Another msgpack, in a version that pipe-init could not work with."""

version = (0, 0, 1)
NAME = "msgpack of the function"
