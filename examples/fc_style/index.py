"""A function in the style of Alibaba Function Compute. The event is bytes (--raw), and the result may be bytes or text.

$ pipe-init run index.handler -C examples/fc_style --raw -e '{"bucket": "photos", "object": "cat.jpg"}'
{"copied": "photos/cat.jpg", "by": "function", "signed": false}
"""

import json


def handler(event, context):
    request = json.loads(event)
    path = f"{request['bucket']}/{request['object']}"
    context.logger.info("copying %s in %s", path, context.region)
    signed = bool(context.credentials.access_key_id)
    return json.dumps({"copied": path, "by": context.function.name, "signed": signed}) + "\n"
