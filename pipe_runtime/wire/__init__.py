"""Define the protocol and the other code that the init and the runtime share. Nothing here reads or writes frames."""
