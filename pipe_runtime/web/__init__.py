"""Bridges to HTTP applications: what a server does for WSGI and ASGI, without HTTP."""
