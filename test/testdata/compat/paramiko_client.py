"""A client like ssh(1) made of paramiko, for the tests of compatibility."""

import argparse
import logging
import os
import shutil
import signal
import socket
import sys
import termios
import threading
import tty

import paramiko

p = argparse.ArgumentParser()
p.add_argument("--gateway", required=True)  # host:port
p.add_argument("--hop", help="the login name of the first hop; then --login is at --target")
p.add_argument("--target", default="")
p.add_argument("--login", required=True)
p.add_argument("--key", required=True)
p.add_argument("--cert")
p.add_argument("--reason")
p.add_argument("--tty", action="store_true")
p.add_argument("--env", action="store_true")
p.add_argument("--keep-alive", action="store_true")
p.add_argument("--rekey", action="store_true")
p.add_argument("--put", nargs=2)
p.add_argument("--get", nargs=2)
p.add_argument("command", nargs="*")
a = p.parse_args()


def log_in(sock, login):
    t = paramiko.Transport(sock)
    if a.rekey:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
        t.packetizer.REKEY_BYTES = 1_000_000
    t.start_client(timeout=20)
    t.auth_timeout = 60
    key = paramiko.Ed25519Key.from_private_key_file(a.key)
    if a.cert:
        key.load_certificate(a.cert)
    if a.reason:
        answered = threading.Event()
    banner = threading.Event()

    def show():
        # paramiko keeps the last banner, and tells nobody that one has come.
        last = None
        while not banner.wait(0.05):
            now = t.get_banner()
            if now and now != last:
                last = now
                sys.stderr.write(now.decode())
                sys.stderr.flush()

    threading.Thread(target=show, daemon=True).start()
    more = t.auth_publickey(login, key)
    if more:
        t.auth_interactive(login, lambda title, text, fields: [a.reason] * len(fields))
    banner.set()
    if a.keep_alive:
        t.set_keepalive(1)
    return t


host, port = a.gateway.rsplit(":", 1)
sock = socket.create_connection((host, int(port)))
if a.hop:
    reason, a.reason = a.reason, None
    outer = log_in(sock, a.hop)
    a.reason = reason
    sock = outer.open_channel("direct-tcpip", (a.target, 22), ("127.0.0.1", 0))
t = log_in(sock, a.login)
if a.put or a.get:
    sftp = paramiko.SFTPClient.from_transport(t)
    sftp.put(*a.put) if a.put else sftp.get(*a.get)
    sys.exit(0)

c = t.open_session()
if a.env:
    c.set_environment_variable("LC_STORY", os.environ["LC_STORY"])
if a.tty:
    size = os.get_terminal_size()
    c.get_pty("xterm", size.columns, size.lines)

    def resized(*_):
        size = os.get_terminal_size()
        c.resize_pty(size.columns, size.lines)

    signal.signal(signal.SIGWINCH, resized)
    tty.setraw(0, termios.TCSANOW)
if a.command:
    c.exec_command(" ".join(a.command))
else:
    c.invoke_shell()


def send():
    with open(0, "rb", buffering=0, closefd=False) as f:
        while b := f.read(32768):
            c.sendall(b)
    c.shutdown_write()


def errors():
    shutil.copyfileobj(c.makefile_stderr("rb"), sys.stderr.buffer)
    sys.stderr.flush()


threading.Thread(target=send, daemon=True).start()
e = threading.Thread(target=errors)
e.start()
received = 0
while b := c.recv(32768):
    received += len(b)
    if received > 4_000_000:
        # No new keys at the end of the channel: paramiko answers CHANNEL_CLOSE in the thread
        # that reads, where it would wait for the KEXINIT that it has yet to read.
        t.packetizer.REKEY_BYTES = 1 << 40
    sys.stdout.buffer.write(b)
    sys.stdout.buffer.flush()
e.join()
code = c.recv_exit_status()
sys.stdout.flush()
os._exit(code)
