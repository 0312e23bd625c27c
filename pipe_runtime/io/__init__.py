"""Handle the runtime's descriptors and signals: bytes in, bytes out. It must not know what frames mean."""
