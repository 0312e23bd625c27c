"""A FastAPI app. It sets up its items before the first request, and streams one of its answers.

$ pipe-init run app.app -C examples/fastapi --request '/items/2?currency=EUR'
{"name":"pen","price":1.2,"currency":"EUR"}

$ pipe-init run app.app -C examples/fastapi --request '/items' -H 'Content-Type: application/json' -e '{"name": "cup"}'
{"detail":[{"type":"missing","loc":["body","price"],"msg":"Field required","input":{"name":"cup"}}]}

$ pipe-init run app.app -C examples/fastapi --request '/countdown?start=3'
3
2
1
"""

from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel


class Item(BaseModel):
    name: str
    price: float


@asynccontextmanager
async def lifespan(app):
    app.state.items = {1: Item(name="ink", price=3.5), 2: Item(name="pen", price=1.2)}
    yield
    app.state.items.clear()


app = FastAPI(lifespan=lifespan)


@app.get("/items/{number}")
async def show(number: int, currency: str):
    return {**app.state.items[number].model_dump(), "currency": currency}


@app.post("/items")
def add(item: Item):  # a plain function, which FastAPI runs in a thread of its own
    number = len(app.state.items) + 1
    app.state.items[number] = item
    return {"number": number}


@app.get("/countdown")
async def countdown(start: int):
    async def lines():
        for number in range(start, 0, -1):
            yield f"{number}\n"

    return StreamingResponse(lines(), media_type="text/plain")
