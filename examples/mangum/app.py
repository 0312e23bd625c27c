"""Wrap an ASGI app with mangum. The handler takes API Gateway's event and returns API Gateway's answer.

$ pipe-init run app.handler -C examples/mangum -f examples/mangum/event.json
{"statusCode": 200, "headers": {"content-length": "25", "content-type": "application/json"}, "multiValueHeaders": {}, "body": "{\\"item\\":7,\\"stage\\":\\"prod\\"}", "isBase64Encoded": false}
"""  # noqa: E501

from fastapi import FastAPI, Request
from mangum import Mangum

app = FastAPI()


@app.get("/items/{number}")
def show(number: int, request: Request):
    return {"item": number, "stage": request.scope["aws.event"]["requestContext"]["stage"]}


handler = Mangum(app)
