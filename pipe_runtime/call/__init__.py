"""Do the parts of one call of the function: event, context, result, errors. It must not know descriptors, or how frames
are made."""
