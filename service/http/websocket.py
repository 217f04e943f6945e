"""WebSocket: uvicorn's protocol of it, without a false error in the log."""

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's, which knows that a handshake that was refused has its answer.

    Uvicorn 0.54 logs an error for each (https://github.com/Kludex/uvicorn/pull/3138), which any client can cause.
    """

    async def send(self, message: ASGISendEvent) -> None:
        """Take a message of the application's."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True
