"""A function for an HTTP trigger of Function Compute 3.0. The event is an HTTP request, and the result is its answer.

$ pipe-init run index.handler -C examples/http_trigger --platform fc --request 'PUT /pens?color=red' -e two -i
HTTP/1.1 201 Created
content-type: text/plain

PUT /pens, red: two
"""

import json


def handler(event, context):
    request = json.loads(event)
    http, parameters = request["requestContext"]["http"], request["queryParameters"]
    return {
        "statusCode": 201,
        "headers": {"content-type": "text/plain"},
        "body": f"{http['method']} {http['path']}, {parameters['color']}: {request['body']}\n",
    }
