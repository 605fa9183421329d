#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The NAT with a Linux network stack as its guest.

    nat_test.py NAT_RELAY [CASE ...]

Three network namespaces, made here and gone with this process: `guest` has the tap device, `host` is
where the NAT's helper runs and its sockets are, `outside` is the world, with servers. Host and outside are
joined by a veth pair. Needs root; prints TAP.
"""
import ctypes
import errno
import hashlib
import os
import random
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
LIMIT = 30  # seconds after which something that waits has failed

GATEWAY, RESOLVER, GUEST = "10.0.2.2", "10.0.2.3", "10.0.2.15"
GATEWAY6, RESOLVER6, GUEST6 = (f"fd64:6179:666c:7900::{n}" for n in ("2", "3", "15"))
HOST, HOST6 = "198.51.100.1", "2001:db8:1::1"
OUTSIDE, OUTSIDE6 = "198.51.100.2", "2001:db8:1::2"
OTHER = "203.0.113.5"  # outside as well
PRIVATE = "192.168.77.1"  # outside as well
METADATA = "169.254.169.254"  # outside as well


class Namespace:
    """A network namespace. `with` puts this thread, and what it starts, into it."""

    def __init__(self):
        with open("/proc/thread-self/ns/net") as before:
            if LIBC.unshare(CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            LIBC.setns(before.fileno(), CLONE_NEWNET)
        self.stack = []

    def __enter__(self):
        self.stack.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        LIBC.setns(self.fd, CLONE_NEWNET)

    def __exit__(self, *_):
        before = self.stack.pop()
        LIBC.setns(before, CLONE_NEWNET)
        os.close(before)

    def ip(self, *commands):
        with self:
            for command in commands:
                subprocess.run(["ip"] + command.split(), check=True)

    def open(self, address, kind=socket.SOCK_STREAM):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self:
            s = socket.socket(family, kind)
        s.settimeout(LIMIT)
        return s

    def connect(self, address, port):
        s = self.open(address)
        try:
            s.connect((address, port))
        except OSError:
            s.close()
            raise
        return s

    def listen(self, address, port=0, kind=socket.SOCK_STREAM):
        s = self.open(address, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((address, port))
        if kind == socket.SOCK_STREAM:
            s.listen(1024)
        return s


def serve(listener, handle):
    """Call handle(connection) in a thread for each connection."""

    def run():
        listener.settimeout(None)
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(LIMIT)
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1]


def echo(connection):
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)


def receive_all(s):
    parts = []
    while data := s.recv(1 << 20):
        parts.append(data)
    return b"".join(parts)


# ---- DNS --------------------------------------------------------------------------------------------


def dns_name(name):
    return b"".join(bytes([len(l)]) + l.encode() for l in name.split(".") if l) + b"\0"


def dns_query(name, kind=1, number=7, edns=0):
    flags, extra = 0x0100, b""
    if edns:
        extra = b"\0" + struct.pack("!HHIH", 41, edns, 0, 0)
    return (struct.pack("!6H", number, flags, 1, 0, 0, 1 if edns else 0) + dns_name(name) +
            struct.pack("!HH", kind, 1) + extra)


class DnsServer:
    """Answers from `records`: (name, type) -> list of (owner, type, ttl, data)."""

    def __init__(self, namespace, address):
        self.records, self.asked, self.ids, self.ports = {}, [], [], []
        self.udp = namespace.listen(address, 53, socket.SOCK_DGRAM)
        self.tcp = namespace.listen(address, 53)
        self.silent = self.forged = False
        threading.Thread(target=self.run, daemon=True).start()
        serve(self.tcp, self.run_tcp)

    def answer(self, query, limit):
        number, flags = struct.unpack_from("!HH", query)
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        kind, _ = struct.unpack_from("!HH", query, at + 1)
        question = query[12:at + 5]
        name = ".".join(labels).lower()
        self.asked.append(name)
        self.ids.append(number)
        found = self.records.get((name, kind), [])
        known = any(n == name for n, _ in self.records)
        body = b"".join((b"\xc0\x0c" if owner == name else dns_name(owner)) +
                        struct.pack("!HHIH", k, 1, ttl, len(data)) + data
                        for owner, k, ttl, data in found)
        flags = 0x8180 | (0 if known else 3)
        if 12 + len(question) + len(body) > limit:
            return struct.pack("!6H", number, flags | 0x0200, 1, 0, 0, 0) + question
        return struct.pack("!6H", number, flags, 1, len(found), 0, 0) + question + body

    def run(self):
        self.udp.settimeout(None)
        while True:
            query, peer = self.udp.recvfrom(4096)
            self.ports.append(peer[1])
            if self.forged:  # another id, another question, half an answer
                good = self.answer(query, 4096)[:-4] + socket.inet_aton("192.0.2.66")
                self.udp.sendto(bytes([good[0] ^ 1]) + good[1:], peer)
                self.udp.sendto(good[:13] + b"x" + good[14:], peer)
                self.udp.sendto(good[:-1], peer)
            if not self.silent:
                self.udp.sendto(self.answer(query, 4096), peer)

    def run_tcp(self, connection):
        with connection:
            length, = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))
            answer = self.answer(connection.recv(length, socket.MSG_WAITALL), 65535)
            connection.sendall(struct.pack("!H", len(answer)) + answer)

    def a(self, name, address, ttl=300):
        self.records.setdefault((name, 1), []).append((name, 1, ttl, socket.inet_aton(address)))

    def aaaa(self, name, address, ttl=300):
        data = socket.inet_pton(socket.AF_INET6, address)
        self.records.setdefault((name, 28), []).append((name, 28, ttl, data))


class Answer:
    def __init__(self, message):
        self.number, self.flags, _, self.count = struct.unpack_from("!4H", message)
        self.code, self.truncated = self.flags & 15, bool(self.flags & 0x0200)
        self.message = message


# ---- the world --------------------------------------------------------------------------------------


class World:
    def __init__(self):
        self.guest, self.host, self.outside = Namespace(), Namespace(), Namespace()
        self.outside.ip("link set lo up")
        self.guest.ip("link set lo up")
        there = f"/proc/{os.getpid()}/fd/{self.outside.fd}"
        self.host.ip("link set lo up", f"link add veth0 type veth peer name veth1 netns {there}",
                     "link set veth0 up", f"addr add {HOST}/24 dev veth0",
                     f"addr add {HOST6}/64 dev veth0 nodad")
        self.outside.ip("link set veth1 up", f"addr add {OUTSIDE}/24 dev veth1",
                        f"addr add {OUTSIDE6}/64 dev veth1 nodad", f"addr add {OTHER}/32 dev veth1",
                        f"addr add {PRIVATE}/32 dev veth1", f"addr add {METADATA}/32 dev veth1")
        self.host.ip(f"route add default via {OUTSIDE}", f"-6 route add default via {OUTSIDE6}")
        self.dns = DnsServer(self.outside, OUTSIDE)
        self.resolv_conf = tempfile.NamedTemporaryFile("w", prefix="dayfly-resolv")
        self.other_dns = DnsServer(self.outside, OTHER)
        self.resolv_conf.write(f"search x.example\nnameserver {OUTSIDE}\nnameserver {OTHER}\n")
        self.resolv_conf.flush()


class Nat:
    """A NAT and its guest. Its report is there after `with`."""

    relay = ""  # the program

    def __init__(self, world, rules=(), publish=(), mtu=0, ttl_min=0, border=(), files=0):
        self.world, self.report, self.logged = world, {}, []
        with world.host:
            self.process = subprocess.Popen(
                [*(["prlimit", f"--nofile={files}"] if files else []), self.relay, str(world.guest.fd), world.resolv_conf.name, str(ttl_min), str(mtu), *rules, "--",
                 *publish, "--", *border],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[world.guest.fd])
        line = self.process.stdout.readline().strip()
        if not line.startswith("ready"):
            self.process.wait()
            raise RuntimeError(line or "the relay ended")
        self.mtu, self.ipv6 = (int(word) for word in line.split()[1:3])
        self.placeholders = line.split()[3:]

    def __enter__(self):
        self.world.guest.ip(f"link set guest0 mtu {self.mtu} up", f"addr add {GUEST}/24 dev guest0",
                            f"addr add {GUEST6}/64 dev guest0 nodad",
                            f"route add default via {GATEWAY}", f"-6 route add default via {GATEWAY6}")
        return self

    def helper(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            return int(file.read().split()[0])

    def memory(self):
        with open(f"/proc/{self.helper()}/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))

    def say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def __exit__(self, *_):
        self.process.stdin.close()
        for line in self.process.stdout:
            kind, _, rest = line.strip().partition(" ")
            self.report.setdefault(kind, []).append(rest)
        self.process.wait(LIMIT)
        check("end" in self.report, f"the relay printed its report: {self.report}")

    def resolve(self, name, kind=1, server=RESOLVER, edns=0, limit=LIMIT):
        with self.world.guest.open(server, socket.SOCK_DGRAM) as s:
            s.settimeout(limit)
            s.sendto(dns_query(name, kind, random.randrange(65536), edns), (server, 53))
            return Answer(s.recv(65536))

    def resolve_tcp(self, name, kind=1, server=RESOLVER):
        with self.world.guest.connect(server, 53) as s:
            query = dns_query(name, kind)
            s.sendall(struct.pack("!H", len(query)) + query)
            length, = struct.unpack("!H", s.recv(2, socket.MSG_WAITALL))
            return Answer(s.recv(length, socket.MSG_WAITALL))


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def refused(namespace, address, port, codes=(errno.ECONNREFUSED,)):
    """That a connection fails, at once, and how."""
    start = time.monotonic()
    try:
        namespace.connect(address, port).close()
    except OSError as error:
        check(error.errno in codes, f"{address}:{port}: {error}")
        check(time.monotonic() - start < 5, f"{address}:{port} failed at once")
        return
    raise AssertionError(f"{address}:{port} can be reached")


def copy(source, sink, size):
    """Random bytes through a pair of connected sockets; both ends' digests."""
    digest, block = hashlib.sha256(), os.urandom(1 << 20)
    received = hashlib.sha256()

    def send():
        left = size
        while left:
            n = min(left, len(block))
            source.sendall(block[:n])
            digest.update(block[:n])
            left -= n
        source.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    total = 0
    while data := sink.recv(1 << 20):
        received.update(data)
        total += len(data)
    sender.join(LIMIT)
    check(total == size, f"{total} of {size} bytes came")
    check(digest.digest() == received.digest(), "what came is what was sent")


# ---- cases ------------------------------------------------------------------------------------------

BYTES = int(os.environ.get("DAYFLY_TEST_NET_BYTES", 32 << 20))


def pair(namespace, world, address, port=0):
    """A connection from `namespace` to a fresh listener outside: (client, server)."""
    with world.outside.listen(address) as listener:
        client = namespace.connect(address, listener.getsockname()[1])
        server, _ = listener.accept()
        server.settimeout(LIMIT)
        return client, server


def downloads_and_uploads(world):
    for mtu in (0, 1500):
        with Nat(world, mtu=mtu):
            for address in (OUTSIDE, OUTSIDE6):
                client, server = pair(world.guest, world, address)
                with client, server:
                    start = time.monotonic()
                    copy(server, client, BYTES)
                    down = time.monotonic()
                    copy(client, server, BYTES)
                    up = time.monotonic()
                print(f"# mtu {mtu or 65520} {address}: down {BYTES / (down - start) / 1e6:.0f} MB/s, "
                      f"up {BYTES / (up - down) / 1e6:.0f} MB/s")


def a_thousand_connections(world):
    port = serve(world.outside.listen(OUTSIDE), echo)
    with Nat(world) as nat:
        connections = []
        for i in range(1000):
            connections.append(world.guest.connect(OUTSIDE, port))
        for i, connection in enumerate(connections):
            connection.sendall(b"%d" % i)
        for i, connection in enumerate(connections):
            check(connection.recv(64) == b"%d" % i, f"connection {i} has its own echo")
        for connection in connections:
            connection.close()


def half_closed_connections(world):
    with Nat(world):
        client, server = pair(world.guest, world, OUTSIDE)
        with client, server:
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            check(receive_all(server) == b"question", "the question came, and its end")
            server.sendall(b"answer" * 1000)
            server.shutdown(socket.SHUT_WR)
            check(receive_all(client) == b"answer" * 1000, "the answer came afterwards")
        client, server = pair(world.guest, world, OUTSIDE)
        with client, server:
            server.shutdown(socket.SHUT_WR)
            check(client.recv(10) == b"", "the end came")
            client.sendall(b"late")
            client.shutdown(socket.SHUT_WR)
            check(receive_all(server) == b"late", "what was said after it came")


def udp_there_and_back(world):
    with Nat(world):
        for address in (OUTSIDE, OUTSIDE6):
            with world.outside.listen(address, 0, socket.SOCK_DGRAM) as server, \
                    world.guest.open(address, socket.SOCK_DGRAM) as client:
                for size in (0, 1, 1400, 9000, 60000):
                    data = os.urandom(size)
                    client.sendto(data, server.getsockname()[:2])
                    got, peer = server.recvfrom(65536)
                    check(got == data, f"{size} bytes came")
                    server.sendto(got[::-1], peer)
                    check(client.recv(65536) == data[::-1], f"{size} bytes came back")


def names(world):
    world.dns.records.clear()
    world.dns.a("www.example.org", OUTSIDE)
    world.dns.aaaa("www.example.org", OUTSIDE6)
    with Nat(world) as nat:
        for server in (RESOLVER, RESOLVER6):
            answer = nat.resolve("www.example.org", server=server)
            check(answer.code == 0 and answer.count == 1, "an address came")
            check(socket.inet_aton(OUTSIDE) in answer.message, "the right one")
            check(nat.resolve("WWW.example.ORG", 28, server).count == 1, "one of IPv6 too")
            check(nat.resolve("gone.example.org", server=server).code == 3, "a name that is none")
            check(nat.resolve_tcp("www.example.org", server=server).count == 1, "by TCP")
        check(len(set(world.dns.ids[-6:])) > 3, "ids are drawn")
        check(len(set(world.dns.ports[-6:])) > 3, "ports are drawn")
    check("www.example.org 6 0" in nat.report["name"], nat.report["name"])


def servers_that_fail(world):
    world.dns.records.clear()
    world.dns.a("www.example.org", OTHER)
    world.other_dns.records = world.dns.records
    with Nat(world) as nat:
        world.dns.forged = True
        check(socket.inet_aton(OTHER) in nat.resolve("www.example.org").message, "only the answer counts")
        world.dns.forged, world.dns.silent = False, True
        before = len(world.other_dns.asked)
        check(nat.resolve("www.example.org").count == 1, "the next server is asked")
        check(len(world.other_dns.asked) == before + 1, "once")
        world.dns.silent = False
        # More questions than there is room for: each gets an answer, if a bad one.
        with world.guest.open(RESOLVER, socket.SOCK_DGRAM) as s:
            s.setsockopt(socket.SOL_SOCKET, 33, 1 << 20)  # SO_RCVBUFFORCE: for all of them
            for number in range(300):
                s.sendto(dns_query("www.example.org", 1, number), (RESOLVER, 53))
            answers = {Answer(s.recv(4096)).number for _ in range(300)}
            check(len(answers) == 300, "each has its answer")


def without_ipv6(world):
    world.host.ip(f"-6 addr del {HOST6}/64 dev veth0")
    try:
        nat = Nat(world)
        check(not nat.ipv6, "the host has no IPv6")
        with nat:
            world.guest.connect(OUTSIDE, serve(world.outside.listen(OUTSIDE), echo)).close()
            refused(world.guest, OUTSIDE6, 80, (errno.EHOSTUNREACH, errno.ENETUNREACH))
    finally:
        world.host.ip(f"addr add {HOST6}/64 dev veth0 nodad", f"-6 route replace default via {OUTSIDE6}")


def long_answers(world):
    world.dns.records.clear()
    text = bytes([255]) + b"t" * 255
    world.dns.records[("long.example.org", 16)] = [("long.example.org", 16, 60, text)] * 10
    world.dns.records[("huge.example.org", 16)] = [("huge.example.org", 16, 60, text)] * 200
    with Nat(world) as nat:
        check(nat.resolve("long.example.org", 16).truncated, "too long for 512 bytes")
        check(nat.resolve("long.example.org", 16, edns=4096).count == 10, "not for 4096")
        check(nat.resolve("huge.example.org", 16, edns=4096).truncated, "too long for the server")
        check(nat.resolve_tcp("long.example.org", 16).count == 10, "by TCP")
        for _ in range(20):
            answer = nat.resolve_tcp("huge.example.org", 16)
            check(answer.count == 200 and len(answer.message) > 50000, "by TCP")
    with Nat(world, mtu=1500) as nat:
        check(nat.resolve_tcp("huge.example.org", 16).count == 200, "by TCP in small segments")


def only_what_rules_allow(world):
    world.dns.records.clear()
    world.dns.a("www.example.org", OTHER)
    world.dns.a("www.example.net", OUTSIDE)
    port = serve(world.outside.listen(OTHER), echo)
    world.outside.listen(OUTSIDE, port)
    with Nat(world, ["*.example.org", "192.0.2.0/24:80"]) as nat:
        refused(world.guest, OTHER, port)
        answer = nat.resolve("www.example.net")
        check(answer.code == 3, "a name that is not allowed does not exist")
        check("www.example.net" not in world.dns.asked, "and is not asked for")
        check(nat.resolve_tcp("www.example.net").code == 3, "nor by TCP")
        check(nat.resolve("www.example.org").count == 1, "one that is")
        with world.guest.connect(OTHER, port) as s:
            s.sendall(b"hello")
            check(s.recv(5) == b"hello", "its address is open")
        refused(world.guest, OUTSIDE, port)
        refused(world.guest, OUTSIDE6, port)
        with world.guest.open(OUTSIDE, socket.SOCK_DGRAM) as s:
            s.connect((OUTSIDE, 9))
            s.send(b"x")
            start = time.monotonic()
            try:
                s.recv(1)
                check(False, "UDP is refused")
            except OSError as error:
                check(error.errno in (errno.EHOSTUNREACH, errno.EACCES), f"UDP: {error}")
            check(time.monotonic() - start < 5, "at once")
    check("www.example.net 2 2" in nat.report["name"], nat.report["name"])
    check(f"{OTHER} 1" in nat.report["addr"], nat.report["addr"])
    check(f"{OUTSIDE}:{port} 1 no rule allows it" in nat.report["refused"], nat.report["refused"])
    check(any("refused TCP to " + OUTSIDE in line for line in nat.report["log"]), nat.report["log"])


def rebinding(world):
    world.dns.records.clear()
    ports = {a: serve(world.outside.listen(a), echo) for a in (PRIVATE, OTHER)}
    host_port = serve(world.host.listen(HOST), echo)
    for i, address in enumerate((PRIVATE, HOST, "127.0.0.1", METADATA, GATEWAY)):
        world.dns.a(f"n{i}.example.org", address)
    alias = [("alias.example.org", 5, 60, dns_name("cdn.example.net")),
             ("cdn.example.net", 1, 60, socket.inet_aton(OTHER)),
             ("other.example.net", 1, 60, socket.inet_aton(OUTSIDE))]
    world.dns.records[("alias.example.org", 1)] = alias
    listener = world.outside.listen(OUTSIDE)
    with Nat(world, ["*.example.org"]) as nat:
        for i in range(5):
            check(nat.resolve(f"n{i}.example.org").count == 1, "the answer itself is passed on")
        refused(world.guest, PRIVATE, ports[PRIVATE])
        refused(world.guest, HOST, host_port)
        refused(world.guest, METADATA, 80)
        refused(world.guest, GATEWAY, host_port)
        check(nat.resolve("alias.example.org").count == 3, "an alias")
        world.guest.connect(OTHER, ports[OTHER]).close()
        refused(world.guest, OUTSIDE, listener.getsockname()[1])
    check(f"{PRIVATE} 0" in nat.report["addr"], nat.report["addr"])
    with Nat(world, ["*.example.org", "192.168.0.0/16"]) as nat:
        world.guest.connect(PRIVATE, ports[PRIVATE]).close()
    with Nat(world) as nat:  # no rules: private networks are part of everything
        world.guest.connect(PRIVATE, ports[PRIVATE]).close()


def opened_addresses_expire(world):
    world.dns.records.clear()
    world.dns.a("www.example.org", OTHER, ttl=0)
    port = serve(world.outside.listen(OTHER), echo)
    with Nat(world, ["www.example.org"], ttl_min=1) as nat:
        nat.resolve("www.example.org")
        opened = time.monotonic()
        kept = world.guest.connect(OTHER, port)
        while True:  # a time to live of nothing, and ten seconds more
            try:
                world.guest.connect(OTHER, port).close()
            except ConnectionRefusedError:
                break
            check(time.monotonic() - opened < LIMIT, "it is closed in the end")
            time.sleep(0.2)
        check(time.monotonic() - opened > 9, "but not before its time")
        with kept:
            kept.sendall(b"still")
            check(kept.recv(5) == b"still", "a connection that was there stays")
        nat.resolve("www.example.org")
        world.guest.connect(OTHER, port).close()


def the_host_is_out_of_reach(world):
    services = {a: serve(world.host.listen(a), echo) for a in ("127.0.0.1", HOST, "::1", HOST6)}
    with Nat(world) as nat:
        refused(world.guest, HOST, services[HOST])
        for address in (GATEWAY, RESOLVER):
            refused(world.guest, address, services["127.0.0.1"])
        for address in (GATEWAY6, HOST6):
            refused(world.guest, address, services["::1"])
            refused(world.guest, address, services[HOST6])
        # An address that the host gets later is its own from then on.
        world.host.ip("addr add 203.0.113.77/32 dev veth0")
        late = serve(world.host.listen("203.0.113.77"), echo)
        refused(world.guest, "203.0.113.77", late)
        world.host.ip("addr del 203.0.113.77/32 dev veth0", "addr add 2001:db8:2::77/128 dev veth0 nodad")
        late = serve(world.host.listen("2001:db8:2::77"), echo)
        refused(world.guest, "2001:db8:2::77", late)
        world.host.ip("addr del 2001:db8:2::77/128 dev veth0")
        # What a translator would bring back to it, and its network's broadcast address.
        refused(world.guest, "64:ff9b::c633:6401", services[HOST])
        with world.guest.open(HOST, socket.SOCK_DGRAM) as s:
            s.connect(("198.51.100.255", 9))
            s.send(b"x")
            try:
                s.recv(1)
                check(False, "its broadcast address is its own")
            except OSError as error:
                check(error.errno in (errno.EHOSTUNREACH, errno.EACCES), f"broadcast: {error}")
    check(any(line.endswith("the host itself") for line in nat.report["refused"]), nat.report["refused"])
    port = services["127.0.0.1"]
    with Nat(world, [f"host:{port}"]) as nat:
        with world.guest.connect(GATEWAY, port) as s:
            s.sendall(b"hello")
            check(s.recv(5) == b"hello", "a port that was named is reached")
        refused(world.guest, GATEWAY, services[HOST])
        refused(world.guest, HOST, services[HOST])


def metadata_is_refused(world):
    serve(world.outside.listen(METADATA, 80), echo)
    with Nat(world) as nat:
        refused(world.guest, METADATA, 80)
        world.guest.ip("addr add 169.254.1.1/16 dev guest0",
                       f"route add {METADATA}/32 via {GATEWAY} src {GUEST}")
        refused(world.guest, METADATA, 80)
    with Nat(world, [f"{METADATA}:80"]) as nat:
        world.guest.connect(METADATA, 80).close()


def published_ports(world):
    with world.host.listen("127.0.0.1") as taken:
        port = taken.getsockname()[1]
        try:
            Nat(world, publish=[f"{port}:80"])
            check(False, "a port in use is an error")
        except RuntimeError as error:
            check(f"127.0.0.1:{port}" in str(error) and "in use" in str(error), str(error))
    free = []
    for address in ("127.0.0.1", HOST, "::1"):
        with world.host.listen(address) as s:
            free.append(s.getsockname()[1])
    with Nat(world, ["192.0.2.1"], [f"{free[0]}:80", f"{HOST}:{free[1]}:80", f"[::1]:{free[2]}:80",
                                    f"{free[0]}:5353/udp"]) as nat:
        serve(world.guest.listen("0.0.0.0", 80), echo)
        serve(world.guest.listen(GUEST6, 80), echo)
        for namespace, address, port in ((world.host, "127.0.0.1", free[0]), (world.host, HOST, free[1]),
                                         (world.outside, HOST, free[1]), (world.host, "::1", free[2])):
            with namespace.connect(address, port) as s:
                s.sendall(b"hello")
                check(s.recv(5) == b"hello", f"{address}:{port} leads to the guest")
        refused(world.outside, HOST, free[0])  # loopback only
        clients = [world.host.connect("127.0.0.1", free[0]) for _ in range(100)]
        for client in clients:
            client.sendall(b"x")
        for client in clients:
            check(client.recv(1) == b"x", "a hundred at once")
            client.close()
        with world.guest.listen("0.0.0.0", 5353, socket.SOCK_DGRAM) as server, \
                world.host.open("127.0.0.1", socket.SOCK_DGRAM) as client:
            client.sendto(b"ping", ("127.0.0.1", free[0]))
            data, peer = server.recvfrom(100)
            server.sendto(data[::-1], peer)
            check(client.recv(100) == b"gnip", "a datagram there and back")


def slow_readers_cost_no_memory(world):
    with Nat(world) as nat:
        pairs = [pair(world.guest, world, OUTSIDE) for _ in range(20)]
        before = nat.memory()
        # Nobody reads at either end; each end is filled until it takes no more for a while.
        ends = [end for both in pairs for end in both]
        block, idle = b"z" * (1 << 16), 0
        for end in ends:
            end.setblocking(False)
        while idle < 10:
            idle += 1
            for end in select.select([], ends, [], 0.05)[1]:
                try:
                    end.send(block)
                    idle = 0
                except BlockingIOError:
                    pass
        grown = nat.memory() - before
        check(grown < 20 * (2 * 160 << 10) + (8 << 20), f"grown by {grown} bytes")
        for end in ends:
            end.close()
        # And the guest's wire stands still while the world has much to say.
        client, server = pair(world.guest, world, OUTSIDE)
        client.sendall(b"x")
        check(server.recv(1) == b"x", "it works before")
        with world.outside.open(OUTSIDE, socket.SOCK_DGRAM) as flood, \
                world.guest.open(OUTSIDE, socket.SOCK_DGRAM) as sink:
            flood.bind((OUTSIDE, 0))
            sink.sendto(b"here", flood.getsockname())
            _, peer = flood.recvfrom(10)
            nat.say("stop")
            before = nat.memory()
            for _ in range(2000):
                flood.sendto(b"f" * 30000, peer)
            grown = nat.memory() - before
            check(grown < 12 << 20, f"a flood grew it by {grown} bytes")
            nat.say("go")
        with client, server:
            server.sendall(b"y")
            check(client.recv(1) == b"y", "it works afterwards")


def ping(namespace, address, number):
    """The ICMP type and code that come back for an echo request."""
    v6 = ":" in address
    with namespace:
        s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW,
                          socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP)
    with s:
        s.settimeout(LIMIT)
        head = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, number, 1)
        total = sum(struct.unpack("!4H", head))  # the kernel makes that of IPv6
        s.sendto(head[:2] + struct.pack("!H", ~total & 0xffff) + head[4:], (address, 0))
        while True:
            message = s.recv(2048)[0 if v6 else 20:]
            if message[0] in (0, 129) and struct.unpack_from("!H", message, 4)[0] == number:
                return message[0], 0
            if message[0] in (1, 3):
                return message[0], message[1]


def dhcp(world):
    """A client of DHCP gets what the agent would set."""
    with Nat(world), tempfile.TemporaryDirectory(prefix="dayfly-dhcp") as folder:
        script = os.path.join(folder, "bound")
        with open(script, "w") as file:
            file.write('#!/bin/sh\n[ "$1" != bound ] || echo $ip $router $dns $mask $mtu\n')
        os.chmod(script, 0o755)
        with world.guest:
            client = subprocess.run(["busybox", "udhcpc", "-i", "guest0", "-f", "-q", "-n", "-O", "mtu", "-s", script],
                                    capture_output=True, text=True, timeout=LIMIT)
        check(client.stdout.split()[:4] == [GUEST, GATEWAY, RESOLVER, "24"], client.stdout + client.stderr)


def pings(world):
    with world.host, open("/proc/sys/net/ipv4/ping_group_range", "w") as file:
        file.write("0 2147483647")
    with Nat(world, [OUTSIDE, OUTSIDE6]) as nat:
        check(ping(world.guest, GATEWAY, 1) == (0, 0), "the gateway answers")
        check(ping(world.guest, GATEWAY6, 2) == (129, 0), "also by IPv6")
        check(ping(world.guest, OUTSIDE, 3) == (0, 0), "so do others, where the host allows it")
        check(ping(world.guest, OTHER, 4) == (3, 13), "prohibited")
        check(ping(world.guest, "2001:db8:1::99", 5) == (1, 1), "prohibited")


def packet_socket(world):
    """For frames beside those of the guest's stack."""
    with world.guest:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw.bind(("guest0", 0))
    return raw


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xffff) + (total >> 16)
    return ~((total & 0xffff) + (total >> 16)) & 0xffff


def ipv4_frame(protocol, source, destination, payload):
    h = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0,
                    socket.inet_aton(source), socket.inet_aton(destination))
    return (bytes.fromhex("52550a000202020000000001") + b"\x08\0" + h[:10] + struct.pack("!H", checksum(h)) +
            h[12:] + payload)


def tcp_frame(source, source_port, destination, port, sequence, flags):
    h = struct.pack("!HHIIBBHHH", source_port, port, sequence, 0, 0x50, flags, 65000, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack("!HH", 6, len(h))
    return ipv4_frame(6, source, destination, h[:16] + struct.pack("!H", checksum(pseudo + h)) + h[18:])


def echo_frame(source, destination, number, sequence):
    h = struct.pack("!BBHHH", 8, 0, 0, number, sequence)
    return ipv4_frame(1, source, destination, h[:2] + struct.pack("!H", checksum(h)) + h[4:])


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def short_connections(world):
    """More of them, one after the other, than there may be at once."""
    port = serve(world.outside.listen(OUTSIDE), echo)
    with Nat(world):
        for _ in range(2500):
            world.guest.connect(OUTSIDE, port).close()


def conversations_are_bounded(world):
    """By what libslirp has of them, not by what the guest says."""
    silent = "10.0.2.77"  # that answers nothing, ARP included
    world.dns.records.clear()
    world.dns.a("www.example.org", OTHER)

    def works(nat):  # a flood may have the tap lose what comes behind it
        for _ in range(10):
            try:
                return nat.resolve("www.example.org", limit=3).count == 1
            except TimeoutError:
                pass
        return False

    def flood(nat, frames):
        for number, frame in enumerate(frames):
            raw.send(frame)
            if number % 500 == 0:  # as many as the tap keeps
                check(works(nat), f"names resolve, {number} frames on")
        check(works(nat), "names resolve")

    with world.host, open("/proc/sys/net/ipv4/ping_group_range", "w") as file:
        file.write("0 2147483647")
    with world.host.listen("127.0.0.1") as s:
        published = s.getsockname()[1]
    with Nat(world, publish=[f"{published}:81"]) as nat, packet_socket(world) as raw:
        serve(world.guest.listen("0.0.0.0", 81), echo)
        # One conversation, and a socket for each of its echoes.
        flood(nat, (echo_frame(silent, "198.51.100.99", 7, number) for number in range(9000)))
        check(6000 < descriptors(nat.helper()) < 7000, f"{descriptors(nat.helper())} descriptors")
        with world.host.connect("127.0.0.1", published) as s:
            s.sendall(b"x")
            check(s.recv(1) == b"x", "a published port is served")
    check(any(line.endswith("too many connections") for line in nat.report["refused"]), nat.report["refused"])
    with Nat(world) as nat, packet_socket(world) as raw, world.outside.listen(OUTSIDE) as listener:
        # With a reset behind each that is outside of its window.
        port = listener.getsockname()[1]
        flood(nat, (tcp_frame(silent, 1000 + number, OUTSIDE, port, sequence, flags) for number in range(4000)
                    for sequence, flags in ((100, 2), (0x40000000, 4))))
        check(1000 < descriptors(nat.helper()) < 7000, f"{descriptors(nat.helper())} descriptors")
    with Nat(world) as nat, packet_socket(world) as raw:
        # Whose answers find nobody, and wait for that.
        flood(nat, (echo_frame(silent, GATEWAY, 8, number) for number in range(10000)))


def busy(pid):
    """The seconds that a process has computed for."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def more_callers_than_room(world):
    """Those who ask for a published port wait, and the helper rests meanwhile."""
    with world.host.listen("127.0.0.1") as s:
        port = s.getsockname()[1]
    with Nat(world, publish=[f"{port}:82"], files=512) as nat:
        serve(world.guest.listen("0.0.0.0", 82), echo)
        callers = [world.host.connect("127.0.0.1", port)]
        callers[0].sendall(b"x")
        check(callers[0].recv(1) == b"x", "the first one is served")
        for _ in range(400):
            s = world.host.open("127.0.0.1")
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", port))
            callers.append(s)
        helper, start = nat.helper(), time.monotonic()
        while descriptors(helper) < 140 and time.monotonic() - start < LIMIT:
            time.sleep(0.05)
        time.sleep(2)  # until it has noticed
        before = busy(helper)
        time.sleep(2)
        check(busy(helper) - before < 0.5, f"it computed for {busy(helper) - before} of two seconds")
        check(descriptors(helper) < 500, f"{descriptors(helper)} descriptors")
        for s in callers[1:]:
            s.close()
        callers[0].sendall(b"y")
        check(callers[0].recv(1) == b"y", "the first one still is")
        with world.host.connect("127.0.0.1", port) as s:
            s.sendall(b"z")
            check(s.recv(1) == b"z", "and there is room again")
        callers[0].close()


def strangers(world):
    """A datagram reaches the guest only from where it sent one."""
    with Nat(world), world.outside.listen(OUTSIDE, 0, socket.SOCK_DGRAM) as server, \
            world.outside.listen(OTHER, 0, socket.SOCK_DGRAM) as stranger, \
            world.guest.open(OUTSIDE, socket.SOCK_DGRAM) as client:
        client.sendto(b"question", server.getsockname())
        _, peer = server.recvfrom(100)
        stranger.sendto(b"forged", peer)
        server.sendto(b"answer", peer)
        check(client.recvfrom(100) == (b"answer", server.getsockname()), "the answer is the first to come")


def hostile_frames(world):
    """Frames that no stack makes, from a packet socket beside the stack."""
    with Nat(world) as nat:
        raw = packet_socket(world)
        head = bytes.fromhex("52550a000202") + b"\x02\0\0\0\0\1"

        def ipv4(payload, protocol=17, total=None, fragment=0, dst=OUTSIDE, header=0x45, wrong=None):
            h = struct.pack("!BBHHHBBH4s4s", header, 0, total or 20 + len(payload), 1, fragment, 64, protocol,
                            0, socket.inet_aton(GUEST), socket.inet_aton(dst))
            h = h[:10] + struct.pack("!H", checksum(h) if wrong is None else wrong) + h[12:]
            return head + b"\x08\0" + h + payload

        udp = struct.pack("!4H", 5, 6, 12, 0) + b"text"
        frames = [head + b"\x08\0", head + b"\x08\0" + b"\x45", ipv4(udp, total=2000), ipv4(udp, total=19),
                  ipv4(udp, fragment=0x2000), ipv4(udp, fragment=5), ipv4(udp, header=0x46),
                  ipv4(udp, header=0x44), ipv4(udp, wrong=1), ipv4(udp[:7]),
                  ipv4(struct.pack("!4H", 5, 6, 400, 0)), ipv4(b"\0" * 19, 6), ipv4(b"\xff" * 20, 6),
                  ipv4(b"x" * 50, 132), head + b"\x86\xdd" + b"\x60" + b"\0" * 39,
                  head + b"\x81\0" + b"\0" * 60, head + b"\x08\x06" + b"\0" * 28,
                  head + b"\x86\xdd" + b"\x60\0\0\0\0\x08\x2c\x40" + b"\x20" * 32 + b"\0" * 8]
        rng = random.Random(1)
        good = ipv4(udp)
        for _ in range(3000):
            frame = bytearray(rng.choice(frames + [good]))
            for _ in range(rng.randrange(4)):
                frame[rng.randrange(12, len(frame))] = rng.randrange(256)
            frames.append(bytes(frame))
        for frame in frames:
            try:
                raw.send(frame)
            except OSError:
                pass
        client, server = pair(world.guest, world, OUTSIDE)
        with client, server:
            copy(client, server, 1 << 20)
        raw.close()
    invalid = int(nat.report["counter"][5].split()[1])
    check(invalid > 16, f"{invalid} frames were invalid")


def dies_with_its_parent(world):
    nat = Nat(world)
    helper = nat.helper()
    with open(f"/proc/{helper}/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    check(status["Name"] == "dayfly-nat", status["Name"])
    check(int(status["CapEff"], 16) == 0 and int(status["CapPrm"], 16) == 0, "it has no capabilities")
    check(status["Uid"].split()[0] == "65534", "it is nobody")
    check(status["Seccomp"] == "2" and status["NoNewPrivs"] == "1", "it is locked up")
    check(len(os.listdir(f"/proc/{helper}/root")) == 0, "its root is empty")
    pidfd = os.pidfd_open(helper)
    nat.process.kill()
    nat.process.wait()
    check(select.select([pidfd], [], [], LIMIT)[0], "it ended")
    os.close(pidfd)


CASES = [downloads_and_uploads, a_thousand_connections, half_closed_connections, udp_there_and_back, dhcp, names,
         servers_that_fail,
         long_answers, only_what_rules_allow, rebinding, opened_addresses_expire,
         the_host_is_out_of_reach, metadata_is_refused, published_ports, slow_readers_cost_no_memory, pings,
         hostile_frames, short_connections, conversations_are_bounded, more_callers_than_room, strangers, without_ipv6,
         dies_with_its_parent]


def run_cases(cases):
    """The named ones, or all: `cases` and what stands on the command line behind the relay."""
    wanted = [case for case in cases if not sys.argv[2:] or case.__name__ in sys.argv[2:]]
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        print("1..0 # SKIP needs root and /dev/net/tun")
        return
    print(f"1..{len(wanted)}", flush=True)
    Nat.relay = sys.argv[1]
    world, failed = World(), False
    for number, case in enumerate(wanted, 1):
        try:
            case(world)
            print(f"ok {number} - {case.__name__}", flush=True)
        except Exception:  # the next case has a NAT of its own
            import traceback
            failed = True
            print(f"not ok {number} - {case.__name__}")
            for line in traceback.format_exc().splitlines():
                print(f"# {line}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    run_cases(CASES)
