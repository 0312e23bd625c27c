"""Turn outcomes into text: results, errors, hints. It does not know workers."""
