"""hold.py PORT COUNT TEXT: opens so many connections, sends the text on each, and keeps them until it is killed.

A process of its own, since a test that opened a thousand files would take them from the tests beside it. A server
that lets no more in has ten seconds: then it prints how many it holds all the same.
"""
import resource
import selectors
import signal
import socket
import sys
import time

port, count, text = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 100)), hard))
connecting, held = selectors.DefaultSelector(), []
for _ in range(count):
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex(("127.0.0.1", port))
    connecting.register(connection, selectors.EVENT_WRITE)
end = time.monotonic() + 10
while len(held) < count and time.monotonic() < end:
    for key, _ in connecting.select(timeout=0.1):
        connecting.unregister(key.fileobj)
        held.append(key.fileobj)
        try:
            key.fileobj.send(text)
        except OSError:
            pass  # It was closed for another one.
print("held", len(held), flush=True)
signal.pause()
