"""The runtime's descriptors: bytes in, bytes out, and signals between requests. It does not know what frames mean."""
