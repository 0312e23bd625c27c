"""A typed function. pydantic makes the event an object of the annotated type. An event that does not fit is refused.

$ pipe-init run index.handler -C examples/typed -e '{"id": 7, "placed": "2026-01-31T12:00:00Z", "items": [{"name": "pen", "price": "1.20", "count": 2}]}'
{"id": 7, "placed": "2026-01-31T12:00:00+00:00", "total": 2.40}
"""  # noqa: E501

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass
class Item:
    name: str
    price: Decimal
    count: int = 1


@dataclass
class Order:
    id: int
    placed: datetime
    items: list[Item]


@dataclass
class Bill:
    id: int
    placed: datetime
    total: Decimal


def handler(order: Order, context):
    return Bill(order.id, order.placed, sum(item.price * item.count for item in order.items))
