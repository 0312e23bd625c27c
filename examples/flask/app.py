"""A Flask app. The handler is the app itself.

$ pipe-init run app.app -C examples/flask --request '/hello/Ada?shout=1'
HELLO ADA

$ pipe-init run app.app -C examples/flask --request '/notes' -H 'Content-Type: application/json' -e '{"text": "buy milk"}' -i
HTTP/1.1 201 CREATED
Content-Type: application/json
Content-Length: 27
Location: /notes/1

{"id":1,"text":"buy milk"}
"""  # noqa: E501

from flask import Flask, request

app = Flask(__name__)
notes = []


@app.get("/hello/<name>")
def hello(name):
    text = f"hello {name}\n"
    return text.upper() if request.args.get("shout") else text


@app.post("/notes")
def add():
    notes.append(request.json["text"])
    number = len(notes)
    return {"id": number, "text": notes[-1]}, 201, {"Location": f"/notes/{number}"}


@app.get("/busy")
def busy():
    return "try again later\n", 503
