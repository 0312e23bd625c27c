HELLO = {"de": "Hallo", "en": "Hello", "fr": "Bonjour"}


def hello(language):
    return HELLO.get(language, HELLO["en"])
