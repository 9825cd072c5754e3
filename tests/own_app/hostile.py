"""An ASGI app that does what no app should, by the path that is asked for."""

import time
from typing import Any

import trio


async def _answer(send: Any, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket":
        await _websocket(scope, receive, send)
    else:
        await _http(scope, receive, send)


async def _lifespan(receive: Any, send: Any) -> None:
    await receive()
    print("the app has started", flush=True)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("the app has ended", flush=True)
    await send({"type": "lifespan.shutdown.complete"})


async def _websocket(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    if scope["path"] == "/fails":
        raise ValueError
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"].upper()})


async def _http(scope: Any, receive: Any, send: Any) -> None:
    path = scope["path"]
    if path == "/raises":
        raise ValueError
    if path == "/exits":
        raise SystemExit(3)
    if path == "/blocks":
        time.sleep(0.5)  # noqa: ASYNC251 - that is the fault
    elif path == "/too-much":
        await _answer(send, b"hello", (b"content-length", b"2"))
    elif path == "/too-little":
        await _answer(send, b"hello", (b"content-length", b"9"))
    elif path == "/splits":
        await _answer(send, b"hello", (b"location", b"/\r\nset-cookie: a=b"))
    elif path == "/endless":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    elif path == "/never":
        while True:
            try:
                with trio.CancelScope(shield=True):
                    await trio.sleep_forever()
            except BaseException:
                await trio.lowlevel.checkpoint()
    elif path == "/whose":
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        found = [scope["client"][0], scope["scheme"], headers.get("host", ""), headers.get("x-forwarded-for", "")]
        await _answer(send, " ".join(found).encode())
        return
    elif path in ("/early", "/alone"):
        length = len(f"{scope['method']} {path}")
        await _answer(send, f"{scope['method']} {path}".encode(), (b"content-length", b"%d" % length))
        return
    await _answer(send, f"{scope['method']} {path}".encode())
