"""The service as a process: signals, sockets, start and stop."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from service.runtime import SWITCH
from testing.fakes import RED_FACE
from testing.live import until
from testing.processes import ROOT, listens, serving


def test_sigterm_loses_nothing_that_was_accepted() -> None:
    with serving(held=True) as service, ThreadPoolExecutor(12) as clients:
        answers = [
            clients.submit(httpx.post, f"{service.address}/predict", files={"image": RED_FACE}, timeout=20)
            for _ in range(12)
        ]
        service.wait_for("manet_images_in_flight", 12)
        service.process.send_signal(signal.SIGTERM)
        until(lambda: not listens(service.port))
        service.let_go()

        assert [answer.result().status_code for answer in answers] == [200] * 12
        assert service.process.wait(timeout=15) == 0


def _upload(head: bytes, length: int) -> bytes:
    return b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n" + (
        head or b"Content-Length: %d\r\n" % length
    )


FORM = b'--x\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + RED_FACE + b"\r\n--x--\r\n"


def test_a_client_that_disconnects_costs_the_network_nothing() -> None:
    with serving(held=True) as service, ThreadPoolExecutor(1) as clients:
        first = clients.submit(httpx.post, f"{service.address}/predict", files={"image": RED_FACE}, timeout=20)
        service.wait_for("manet_queue_seconds_count", 1)  # it is in the network, and no other can be
        with socket.create_connection(("127.0.0.1", service.port)) as leaving:
            leaving.sendall(_upload(b"", len(FORM)) + b"\r\n" + FORM)
            service.wait_for("manet_queue_depth", 1)
        service.wait_for("manet_queue_depth", 0)
        service.wait_for("manet_images_in_flight", 1)
        service.let_go()

        assert first.result().status_code == 200
        time.sleep(0.1)
        assert service.metric("manet_batch_size_count") == 1
        assert service.metric('manet_requests_total{route="/predict",status="499"}') == 1


def test_a_chunked_upload_over_the_limit_is_refused_while_it_is_still_being_sent() -> None:
    with serving(held=False) as service, socket.create_connection(("127.0.0.1", service.port), timeout=20) as sender:
        sender.sendall(_upload(b"Transfer-Encoding: chunked\r\n", 0) + b"\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            for part in [FORM[: FORM.index(RED_FACE)], *[bytes(50_000)] * 60]:
                sender.sendall(b"%x\r\n%b\r\n" % (len(part), part))
                sent += len(part)
        answer = b""
        while not answer.endswith(b"}"):
            answer += sender.recv(4096)

        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"payload-too-large" in answer
        assert sent < 4_000_000, "nothing stopped the sender, and the body never ended"
        assert service.metric("manet_images_in_flight") == 0


def test_the_service_is_imported_without_torch() -> None:
    program = "import sys, service.app, service.__main__; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_the_network_is_loaded_before_the_framework_is_imported_and_threads_take_turns_often() -> None:
    program = """if True:
        import sys
        from service import __main__ as main
        from manet.errors import ManetError

        sys.argv = ["manet-serve"]
        early = sorted({"fastapi", "uvicorn", "limits"} & set(sys.modules))
        from service.inference import engine

        def load(settings):
            print(early, sys.getswitchinterval())
            raise ManetError("enough")

        engine.load_recognizer = load
        main.main()
    """
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (2, "manet-serve: enough\n")
    assert done.stdout == f"[] {SWITCH}\n"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--weights", "nothing"], "unknown weights 'nothing'"),
        (["--weights", "raf_db"], "not installed"),
        (["--port", "70000"], "port: Input should be less than or equal to 65535"),
    ],
)
def test_what_keeps_it_from_starting_is_said_in_a_line(flags: list[str], words: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", *flags]
    environment = {**os.environ, "MANET_WEIGHTS_DIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=60)

    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
