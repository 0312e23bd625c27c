"""Convert outcomes to text: results, errors and hints. This folder does not know workers."""
