"""A function that takes a CloudEvent in the JSON format, as its annotation says, and returns another one.

$ pipe-init run index.handler -C examples/cloudevent -f examples/cloudevent/event.json
{"specversion": "1.0", "id": "order-17-paid", "source": "/billing", "type": "org.example.order.paid", "subject": "17", "data": {"amount": 42}}
"""  # noqa: E501

from pipe_runtime.cloudevent import CloudEvent


def handler(event: CloudEvent, context):
    print("got", event.type, "of", event.time)
    return CloudEvent(
        {
            "id": f"order-{event.subject}-paid",
            "source": "/billing",
            "type": "org.example.order.paid",
            "subject": event.subject,
        },
        {"amount": event.data["amount"]},
    )
