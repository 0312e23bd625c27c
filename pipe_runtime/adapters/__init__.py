"""Connect functions that are more than a plain handler, such as WSGI applications, to the runtime.

The runtime loads each of these modules only for a function that needs it.
"""
