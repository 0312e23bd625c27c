"""Wrap a WSGI app with apig-wsgi. The handler takes the event of an HTTP API and returns its answer.

$ pipe-init run app.handler -C examples/apig_wsgi -f examples/apig_wsgi/event.json
{"statusCode": 201, "cookies": [], "headers": {"content-type": "application/json", "content-length": "36"}, "isBase64Encoded": false, "body": "{\\"by\\":\\"function\\",\\"text\\":\\"buy milk\\"}\\n"}
"""  # noqa: E501

from apig_wsgi import make_lambda_handler
from flask import Flask, request

app = Flask(__name__)


@app.post("/notes")
def add():
    context = request.environ["apig_wsgi.context"]
    return {"text": request.json["text"], "by": context.function_name}, 201


handler = make_lambda_handler(app)
