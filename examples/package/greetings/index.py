"""A handler in a package: relative imports work, and the name is dotted.

$ pipe-init run greetings.index.handler -C examples/package -e '{"name": "Ada", "language": "fr"}'
"Bonjour, Ada!"
"""

from . import words
from .words import hello


def handler(event, context):
    language = event.get("language", "en")
    print("languages:", ", ".join(sorted(words.HELLO)))
    return f"{hello(language)}, {event['name']}!"
