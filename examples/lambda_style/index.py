"""A function in AWS Lambda's style. It handles as many orders as its time allows, and says which ones it handled.

$ pipe-init run index.handler -C examples/lambda_style -t 10 -m 256 -e '{"orders": [{"id": 1, "amount": 20}, {"id": 2, "amount": 22}]}'
{"done": [1, 2], "total": 42, "memory": "256"}
"""  # noqa: E501

import logging

logger = logging.getLogger()
logger.setLevel(logging.INFO)

SPARE_MILLISECONDS = 500


def handler(event, context):
    logger.info("request %s: %d orders", context.aws_request_id, len(event["orders"]))
    done, total = [], 0
    for order in event["orders"]:
        if context.get_remaining_time_in_millis() < SPARE_MILLISECONDS:
            logger.warning("no time left after %d orders", len(done))
            break
        done.append(order["id"])
        total += order["amount"]
    return {"done": done, "total": total, "memory": context.memory_limit_in_mb}
