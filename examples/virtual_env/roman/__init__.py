"""A package for a virtual environment: numbers as the Romans wrote them."""

SIGNS = {1000: "M", 900: "CM", 500: "D", 400: "CD", 100: "C", 90: "XC", 50: "L", 40: "XL", 10: "X", 9: "IX", 5: "V"}


def roman(number):
    text = ""
    for value, sign in {**SIGNS, 4: "IV", 1: "I"}.items():
        text += sign * (number // value)
        number %= value
    return text
