"""An ASGI app without a framework. It has a lifespan, and sends the body back as it arrives.

$ printf 'here and back' | pipe-init run index.app -C examples/asgi --request 'POST /echo' -f - -i
HTTP/1.1 200 OK
content-type: application/octet-stream
x-greeting: hello

here and back
"""


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await live(scope, receive, send)
    elif scope["type"] == "http":
        await echo(scope, receive, send)
    else:
        raise ValueError(f"this application serves HTTP, not {scope['type']}")


async def live(scope, receive, send):
    await receive()  # lifespan.startup
    scope["state"]["greeting"] = b"hello"
    await send({"type": "lifespan.startup.complete"})
    await receive()  # lifespan.shutdown
    print("goodbye")
    await send({"type": "lifespan.shutdown.complete"})


async def echo(scope, receive, send):
    headers = [(b"content-type", b"application/octet-stream"), (b"x-greeting", scope["state"]["greeting"])]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})
