"""A client like ssh(1) made of asyncssh, for the tests of compatibility."""

import argparse
import asyncio
import logging
import os
import signal
import sys
import termios
import tty

import asyncssh

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
p.add_argument("--signal")
p.add_argument("--put", nargs=2)
p.add_argument("--get", nargs=2)
p.add_argument("--scp", action="store_true")
p.add_argument("command", nargs="*")
a = p.parse_args()


class Client(asyncssh.SSHClient):
    def auth_banner_received(self, msg, lang):
        sys.stderr.write(msg)
        sys.stderr.flush()

    def kbdint_auth_requested(self):
        return "" if a.reason else None

    def kbdint_challenge_received(self, name, instructions, lang, prompts):
        return [a.reason] * len(prompts)


async def forward(process):
    """Passes the input on, as it comes."""
    loop = asyncio.get_running_loop()
    while b := await loop.run_in_executor(None, os.read, 0, 32768):
        process.stdin.write(b)
        await process.stdin.drain()
    process.stdin.write_eof()


async def copy(reader, fd):
    while b := await reader.read(32768):
        os.write(fd, b)


async def main():
    if a.rekey:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
        asyncssh.set_debug_level(2)
    key = (a.key, a.cert) if a.cert else a.key
    options = dict(client_factory=Client, known_hosts=None, client_keys=[key], agent_path=None, config=None, login_timeout=120)
    host, port = a.gateway.rsplit(":", 1)
    tunnel = None
    if a.hop:
        tunnel = await asyncssh.connect(host, int(port), username=a.hop, **options)
        host, port = a.target, 22
    if a.keep_alive:
        options["keepalive_interval"] = 1
    if a.rekey:
        options["rekey_bytes"] = 1 << 20
    c = await asyncssh.connect(host, int(port), username=a.login, tunnel=tunnel, **options)
    if a.put or a.get:
        if a.scp:
            await asyncssh.scp(a.put[0], (c, a.put[1])) if a.put else await asyncssh.scp((c, a.get[0]), a.get[1])
        else:
            async with c.start_sftp_client() as sftp:
                await sftp.put(*a.put) if a.put else await sftp.get(*a.get)
        os._exit(0)
    more = {}
    if a.env:
        more["env"] = {"LC_STORY": os.environ["LC_STORY"]}
    if a.tty:
        size = os.get_terminal_size()
        more.update(term_type="xterm", term_size=(size.columns, size.lines))
    process = await c.create_process(" ".join(a.command) or None, encoding=None, **more)
    if a.tty:
        def resized():
            size = os.get_terminal_size()
            process.change_terminal_size(size.columns, size.lines)

        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, resized)
        tty.setraw(0, termios.TCSANOW)
    asyncio.ensure_future(forward(process))
    if a.signal:
        line = await process.stdout.readline()
        os.write(1, line)
        process.send_signal(a.signal)
    await asyncio.gather(copy(process.stdout, 1), copy(process.stderr, 2))
    await process.wait()
    # Not return: a thread may still read the input.
    os._exit(process.exit_status if process.exit_status is not None else 255)


asyncio.run(main())
