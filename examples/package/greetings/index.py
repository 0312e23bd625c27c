"""A handler in a package. Its name has dots, and relative imports work.

$ pipe-init run greetings.index.handler -C examples/package -e '{"name": "Ada", "language": "fr"}'
"Bonjour, Ada!"
"""

from . import words
from .words import hello


def handler(event, context):
    language = event.get("language", "en")
    print("languages:", ", ".join(sorted(words.HELLO)))
    return f"{hello(language)}, {event['name']}!"
