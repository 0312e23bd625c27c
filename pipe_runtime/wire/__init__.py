"""Define the protocol, and what else the init and the runtime share. It does no input or output of frames."""
