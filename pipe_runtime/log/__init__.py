"""Log the lines that the function prints or logs, each with its request id. It must not know the protocol."""
