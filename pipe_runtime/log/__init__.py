"""Log the lines that the function prints or logs, each with its request. It does not know the protocol."""
