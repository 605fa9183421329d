#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Secrets at the border, with a Linux network stack as the guest.

    border_test.py NAT_RELAY [CASE ...]

The namespaces are those of nat_test.py. In the world outside there are api.example.org and www.example.org,
HTTPS servers whose certificates an authority of this test signed. Needs root; prints TAP.
"""
import base64
import errno
import http.server
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from nat_test import (HOST, LIMIT, OTHER, OUTSIDE, OUTSIDE6, PRIVATE, Nat, busy, check, descriptors, refused,
                      run_cases)

BORDER = "10.0.2.4"
API, WWW = "api.example.org", "www.example.org"
FOLDER = tempfile.TemporaryDirectory(prefix="dayfly-border-test")


def path(name):
    return os.path.join(FOLDER.name, name)


def value():
    """One that this process never has in one piece but here, so that finding it means something."""
    return "".join(f"{byte:02x}" for byte in os.urandom(20))


# ---- certificates -----------------------------------------------------------------------------------


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_certificates():
    for ca in ("ca", "other-ca"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                path(f"{ca}.key"), "-out", path(f"{ca}.pem"), "-subj", f"/CN={ca}", "-days", "2")
    make_certificate("api", API, "ca")
    make_certificate("www", WWW, "ca")
    make_certificate("forged", API, "other-ca")


def make_certificate(file, name, ca):
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            path(f"{file}.key"), "-out", path(f"{file}.csr"), "-subj", f"/CN={name}")
    with open(path("extensions"), "w") as out:
        out.write(f"subjectAltName=DNS:{name}\n")
    openssl("x509", "-req", "-in", path(f"{file}.csr"), "-CA", path(f"{ca}.pem"), "-CAkey", path(f"{ca}.key"),
            "-CAcreateserial", "-out", path(f"{file}.pem"), "-days", "2", "-extfile", path("extensions"))


# ---- servers ----------------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    """Keeps what it was asked, and says it back: all of the head at /echo, the body at /body."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self):
        body = self.body()
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        self.server.ports.append(self.client_address[1])
        if self.path.startswith("/echo"):
            body = (self.path + "\n" + str(self.headers)).encode()
        elif self.path.startswith("/large"):
            body = b"x" * int(self.path.split("/")[2])
        self.send_response(200)
        if self.path.startswith("/echo"):
            self.send_header("X-Echo", self.headers.get("Authorization", ""))
        if self.path.endswith("/chunked"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for i in range(0, len(body), 7):  # a value in many pieces
                self.wfile.write(b"%x\r\n%s\r\n" % (len(body[i:i + 7]), body[i:i + 7]))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = answer


class Server:
    """In the namespace `outside`, at an address and port; with a certificate it is HTTPS."""

    def __init__(self, world, address, port, certificate=None):
        listener = world.outside.listen(address, port)
        listener.settimeout(None)
        self.http = http.server.ThreadingHTTPServer((address, port), Handler, bind_and_activate=False)
        self.http.socket.close()
        self.http.socket = listener
        self.http.daemon_threads = True
        self.http.asked, self.http.ports = [], []
        self.http.handle_error = lambda *_: None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(path(f"{certificate}.pem"), path(f"{certificate}.key"))
            self.http.socket = context.wrap_socket(listener, server_side=True,
                                                   do_handshake_on_connect=False)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def __enter__(self):
        return self.http

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


# ---- the guest --------------------------------------------------------------------------------------

# A process of its own, so that its memory can be searched: it reads "METHOD HOST PATH HEADERS..." and answers
# with what came. The host's name is resolved by the NAT's resolver, as by any program.
CLIENT = r"""
import http.client, json, socket, ssl, struct, sys

def resolve(name):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(20)
        q = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0"
        s.sendto(struct.pack("!6H", 5, 0x100, 1, 0, 0, 0) + q + struct.pack("!HH", 1, 1), ("10.0.2.3", 53))
        message = s.recv(4096)
        assert struct.unpack_from("!H", message, 6)[0] >= 1, message
        return socket.inet_ntoa(message[-4:])

kept = {}
for line in sys.stdin:
    job = json.loads(line)
    try:
        key = (job["host"], job["port"])
        connection = kept.pop(key, None)
        if connection is None:
            s = socket.create_connection((resolve(job["host"]), job["port"]), 20)
            if job["port"] == 443:
                context = ssl.create_default_context(cafile=job["ca"])
                context.set_alpn_protocols(["h2", "http/1.1"])
                s = context.wrap_socket(s, server_hostname=job["host"])
                assert s.selected_alpn_protocol() == "http/1.1"
            connection = http.client.HTTPConnection(job["host"])
            connection.sock = s
        body = job.get("body")
        connection.request(job["method"], job["path"], iter([body.encode()]) if job.get("chunked") else body,
                           job["headers"], encode_chunked=job.get("chunked", False))
        response = connection.getresponse()
        answer = {"status": response.status, "body": response.read().decode(),
                  "headers": dict(response.getheaders())}
        if not response.will_close:
            kept[key] = connection
    except (OSError, http.client.HTTPException, AssertionError) as error:
        answer = {"error": repr(error)}
    print(json.dumps(answer), flush=True)
"""


class Guest:
    def __init__(self, world):
        with world.guest:
            self.process = subprocess.Popen([sys.executable, "-c", CLIENT], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, text=True)

    def ask(self, host, path_, headers=None, method="GET", port=443, **more):
        job = dict(host=host, path=path_, headers=headers or {}, method=method, port=port, ca=path("border.pem"),
                   **more)
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(LIMIT)


class Border(Nat):
    """A NAT with secrets: HOST=VALUE."""

    def __init__(self, world, *secrets, rules=(), trust="ca.pem", files=0):
        self.log = []
        super().__init__(world, rules=rules, border=[path(trust), path("border.pem"), *secrets], files=files)


def names(world, www=OTHER):
    world.dns.records.clear()
    world.dns.a(API, OUTSIDE)
    world.dns.a(WWW, www)


def children(pid, name):
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as file:
                text = file.read()
        except OSError:
            continue
        comm, rest = text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 2:].split()
        if comm == name and int(rest[1]) == pid:
            found.append(int(entry))
    return found


def memory_has(pid, words):
    """Whether any of the words is anywhere in the memory of a process."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            at, rights = line.split()[:2]
            start, end = (int(x, 16) for x in at.split("-"))
            if rights[0] != "r" or "[v" in line or end - start > 1 << 32:  # a sanitizer's shadow
                continue
            try:
                memory.seek(start)
                data = memory.read(end - start)
            except (OSError, ValueError):
                continue
            if any(word in data for word in words):
                return True
    return False


# ---- cases ------------------------------------------------------------------------------------------


def a_secret_goes_to_its_host_alone(world):
    names(world)
    secret, other = value(), value()
    with Server(world, OUTSIDE, 443, "api") as api, Server(world, OTHER, 443, "www") as www, \
            Border(world, f"{API}={secret}", f"{WWW}={other}") as nat, Guest(world) as guest:
        mine, yours = nat.placeholders
        check(re.fullmatch("dayfly-secret-[0-9a-f]{32}", mine) and mine != yours, nat.placeholders)
        answer = guest.ask(API, f"/v1?key={mine}", {"Authorization": f"Bearer {mine}", "X-Other": yours,
                                                    "Accept-Encoding": "gzip"})
        check(answer.get("status") == 200, answer)
        _, asked, headers, _ = api.asked[0]
        check(asked == f"/v1?key={secret}", asked)
        check(headers["Authorization"] == f"Bearer {secret}", headers)
        check(headers["X-Other"] == yours, "the other host's placeholder stays")
        check(headers["Accept-Encoding"] == "identity" and headers["Host"] == API, headers)
        basic = base64.b64encode(f"user:{mine}".encode()).decode()
        check(guest.ask(API, "/", {"Authorization": f"Basic {basic}"})["status"] == 200, "basic")
        check(base64.b64decode(api.asked[1][2]["Authorization"][6:]) == f"user:{secret}".encode(), "in base64")
        check(guest.ask(WWW, "/", {"Authorization": mine})["status"] == 200, "another host")
        check(www.asked[0][2]["Authorization"] == mine, "gets the placeholder")
        check(guest.ask(API, "/", method="POST", body=f"a={mine}")["status"] == 200, "a body")
        check(api.asked[2][3] == f"a={mine}".encode(), "is left alone")
        check(guest.ask(API, "/", method="POST", body=f"b={mine}", chunked=True)["status"] == 200, "in chunks")
        check(api.asked[3][3] == f"b={mine}".encode(), api.asked[3])
        check(len(set(api.ports)) == 1, "one connection was kept open")
    check(f"{API} 4 2 0 0 0" in nat.report["border"], nat.report["border"])
    check(f"{WWW} 1 0 0 0 0" in nat.report["border"], nat.report["border"])


def what_a_host_says_back(world):
    names(world)
    secret = value()
    with Server(world, OUTSIDE, 443, "api"), Border(world, f"{API}={secret}") as nat, Guest(world) as guest:
        mine, = nat.placeholders
        for asked in (f"/echo?{mine}", f"/echo?{mine}/chunked"):
            answer = guest.ask(API, asked, {"Authorization": f"Bearer {mine}"})
            check(secret not in str(answer), "the value does not come back")
            check(answer["headers"]["X-Echo"] == f"Bearer {mine}", answer)
            body = answer["body"]
            check("Authorization: Bearer dayfly-secret-" in body, body)
            if "chunked" in asked:
                check(f"Authorization: Bearer {mine}\n" in body, body)
        basic = base64.b64encode(f"user:{mine}".encode()).decode()
        answer = guest.ask(API, "/echo", {"Authorization": f"Basic {basic}"})
        check(base64.b64encode(f"user:{secret}".encode()).decode()[12:-4] not in str(answer), answer)
        check("***" in answer["body"], answer)
        large = guest.ask(API, "/large/3000000")
        check(len(large["body"]) == 3000000, "a long one comes whole")
        check(guest.ask(API, "/", {"Authorization": mine})["status"] == 200, "and the connection goes on")
    check(f"{API} 5 4 3 0 0" in nat.report["border"], nat.report["border"])


def nobody_else_has_the_value(world):
    names(world)
    secret = value()
    words = [secret.encode(), base64.b64encode(secret.encode())[:-4]]
    with Server(world, OUTSIDE, 443, "api") as api, Border(world, f"{API}={secret}") as nat, \
            Guest(world) as guest:
        mine, = nat.placeholders
        for _ in range(3):
            answer = guest.ask(API, "/echo", {"Authorization": f"Bearer {mine}"})
            check(answer.get("status") == 200, answer)
            check(api.asked[-1][2]["Authorization"] == f"Bearer {secret}", "it went out")
        border, = children(nat.process.pid, "dayfly-border")
        helper, = children(nat.process.pid, "dayfly-nat")
        check(memory_has(border, words), "the search finds it where it is")
        check(not memory_has(helper, words), "the network's helper does not have it")
        check(not memory_has(guest.process.pid, words), "the guest does not have it")
        with open(f"/proc/{border}/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        check(int(status["CapEff"], 16) == 0 and status["Uid"].split()[0] == "65534", "it is nobody")
        check(status["Seccomp"] == "2" and status["NoNewPrivs"] == "1", "it is locked up")
        if int(status["VmPeak"].split()[0]) < 1 << 30:  # in KiB; a sanitizer makes nothing of mlock
            check(int(status["VmLck"].split()[0]) > 0, "its memory is locked")
        check(os.stat(f"/proc/{border}/mem").st_uid == 0, "and is not for others to look at")
        check(os.listdir(f"/proc/{border}/root") == [], "its root is empty")
        check(sorted(os.listdir(f"/proc/{helper}/root")) == ["border-443", "border-80"], "two sockets")
        try:
            open(f"/proc/{helper}/root/border-443", "w").close()
            raise AssertionError("the helper's root is closed")
        except OSError:
            pass


def hosts_prove_who_they_are(world):
    names(world)
    secret = value()
    with Server(world, OUTSIDE, 443, "forged") as api, Border(world, f"{API}={secret}") as nat, \
            Guest(world) as guest:
        mine, = nat.placeholders
        answer = guest.ask(API, "/", {"Authorization": mine})
        check(answer.get("status") == 502 and "certificate" in answer["body"], answer)
        check(not api.asked, "nothing was sent")
    with Server(world, OUTSIDE, 443, "www") as api, Border(world, f"{API}={secret}") as nat, \
            Guest(world) as guest:
        answer = guest.ask(API, "/", {"Authorization": nat.placeholders[0]})
        check(answer.get("status") == 502 and "mismatch" in answer["body"], answer)
        check(not api.asked, "nothing was sent")
    check(f"{API} 1 1 0 0 1" in nat.report["border"], nat.report["border"])
    with Border(world, f"{API}={secret}") as nat, Guest(world) as guest:
        answer = guest.ask(API, "/")
        check(answer.get("status") == 502 and "cannot be connected to" in answer["body"], answer)


def without_tls(world):
    names(world)
    secret, other = value(), value()
    with Server(world, OUTSIDE, 80) as api, Server(world, OTHER, 80) as www, \
            Border(world, f"{API}={secret}", f"http:{WWW}={other}") as nat, Guest(world) as guest:
        mine, yours = nat.placeholders
        answer = guest.ask(API, "/", {"Authorization": mine}, port=80)
        check(answer.get("status") == 403 and "without TLS" in answer["body"], answer)
        check(not api.asked, "nothing was sent")
        check(guest.ask(API, "/plain", port=80).get("status") == 200, "without a secret it goes")
        check(guest.ask(WWW, "/", {"Authorization": yours}, port=80).get("status") == 200, "where allowed")
        check(www.asked[0][2]["Authorization"] == other, "with the value")


def only_the_hosts_of_secrets(world):
    """By DNS, by SNI, by Host, by port and by address."""
    names(world)
    world.dns.aaaa(API, OUTSIDE6)
    world.dns.a("else.example.org", OUTSIDE)
    world.dns.asked.clear()
    secret = value()
    with Server(world, OUTSIDE, 443, "api") as api, \
            Border(world, f"{API}={secret}", rules=["198.51.100.0/24:9"]) as nat:
        answer = nat.resolve(API)
        check(answer.count == 1 and answer.message.endswith(socket.inet_aton(BORDER)), answer.message)
        check(nat.resolve_tcp(API.upper()).message.endswith(socket.inet_aton(BORDER)), "in any case")
        for kind in (28, 64, 65, 16, 255):
            answer = nat.resolve(API, kind)
            check(answer.code == 0 and answer.count == 0, f"type {kind} has no data")
        check(nat.resolve("else.example.org").code == 3, "another name is under the rules")
        check(API not in world.dns.asked, "nobody was asked for what is known")
        refused(world.guest, OUTSIDE, 443)
        for port in (22, 81, 8080, 53):
            refused(world.guest, BORDER, port)
        context = ssl.create_default_context(cafile=path("border.pem"))
        for name in ("else.example.org", None):
            context.check_hostname = False
            with world.guest.connect(BORDER, 443) as s:
                try:
                    context.wrap_socket(s, server_hostname=name)
                    raise AssertionError("a connection without a host")
                except ssl.SSLError as error:
                    check("UNRECOGNIZED_NAME" in str(error), error)
        with world.guest.connect(BORDER, 443) as s, context.wrap_socket(s, server_hostname=API) as tls:
            tls.sendall(f"GET / HTTP/1.1\r\nHost: else.example.org\r\nA: {nat.placeholders[0]}\r\n\r\n".encode())
            check(tls.recv(100).startswith(b"HTTP/1.1 421 "), "the host must be TLS's own")
        check(not api.asked, "nothing got out")
    # without a border its address is nobody's
    with Nat(world):
        refused(world.guest, BORDER, 443, (errno.EHOSTUNREACH,))


def the_certificate_authority(world):
    names(world)
    with Border(world, f"{API}={value()}", f"{WWW}={value()}"):
        text = subprocess.run(["openssl", "x509", "-in", path("border.pem"), "-noout", "-text"], check=True,
                              capture_output=True, text=True).stdout
        check("CA:TRUE, pathlen:0" in text, text)
        check("Name Constraints: critical" in text and f"DNS:{API}" in text and f"DNS:{WWW}" in text, text)
        check("IP:0.0.0.0/0.0.0.0" in text and "IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0" in text, "nor for addresses")
        with world.guest.connect(BORDER, 443) as s:
            context = ssl.create_default_context(cafile=path("border.pem"))
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            with context.wrap_socket(s, server_hostname=WWW) as tls:
                check(tls.version() == "TLSv1.3", tls.version())
                check(tls.getpeercert()["subjectAltName"] == (("DNS", WWW),), tls.getpeercert())


def private_addresses_need_rules(world):
    """A secret's host cannot be used to reach what the rules keep closed."""
    world.dns.records.clear()
    world.dns.a(API, PRIVATE)
    world.dns.a(WWW, HOST)
    for rules, status in ((["198.51.100.9:1"], 502), (["192.168.0.0/16:443"], 200), ([], 200)):
        with Server(world, PRIVATE, 443, "api") as api, Border(world, f"{API}={value()}", f"{WWW}={value()}",
                                                               rules=rules) as nat, Guest(world) as guest:
            answer = guest.ask(API, "/", {"A": nat.placeholders[0]})
            check(answer.get("status") == status, f"{rules}: {answer}")
            check(len(api.asked) == (status == 200), "and nothing else happened")
            answer = guest.ask(WWW, "/")
            check(answer.get("status") == 502 and "no rule" in answer["body"], f"the host itself: {answer}")
    world.dns.records.clear()
    world.dns.a(API, "127.0.0.1")
    with world.host, Border(world, f"{API}={value()}", rules=["host:443"]) as nat, Guest(world) as guest:
        listener = world.host.listen("127.0.0.1", 443)
        threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
        answer = guest.ask(API, "/")
        check(answer.get("status") == 502 and "no rule" not in answer["body"], "the host where it is named")
        listener.close()


def many_connections(world):
    """More than there is room for: idle ones make room, and the network does not stand still."""
    names(world)
    with Server(world, OUTSIDE, 80) as api, Border(world, f"{API}={value()}"):
        connections = []
        for i in range(200):
            s = world.guest.connect(BORDER, 80)
            s.sendall(f"GET /{i} HTTP/1.1\r\nHost: {API}\r\n\r\n".encode())
            check(s.recv(4096).startswith(b"HTTP/1.1 200 "), f"connection {i} is served")
            connections.append(s)
        check(len(api.asked) == 200, len(api.asked))
        connections[-1].sendall(f"GET /again HTTP/1.1\r\nHost: {API}\r\n\r\n".encode())
        check(connections[-1].recv(4096).startswith(b"HTTP/1.1 200 "), "the last one is kept open")
        for s in connections:
            s.close()


def slow_readers(world):
    """A guest that does not read costs no memory; what it asked for comes when it does."""
    names(world)
    with Server(world, OUTSIDE, 80), Border(world, f"{API}={value()}") as nat:
        border, = children(nat.process.pid, "dayfly-border")

        def resident():
            with open(f"/proc/{border}/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        before, size = resident(), 20_000_000
        connections = [world.guest.connect(BORDER, 80) for _ in range(10)]
        for s in connections:
            s.sendall(f"GET /large/{size} HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\n\r\n".encode())
        check(all(s.recv(15) == b"HTTP/1.1 200 OK" for s in connections), "they begin")
        start, got = time.monotonic(), 15
        while data := connections[0].recv(1 << 20):
            got += len(data)
        check(got > size, f"{got} bytes")
        print(f"# {size / (time.monotonic() - start) / 1e6:.0f} MB/s, without TLS")
        check(resident() < before + 4_000_000, f"{before} and then {resident()} bytes")
        for s in connections:
            s.close()


def more_guests_than_descriptors(world):
    """Who cannot be accepted takes the place of one that is idle, or waits, and the border rests meanwhile."""
    names(world)

    def ask(s, what="GET", more=b""):
        s.sendall(f"{what} / HTTP/1.1\r\nHost: {API}\r\n".encode() + more + b"\r\n")

    def wait_for(condition):
        start = time.monotonic()
        while not condition():
            check(time.monotonic() - start < LIMIT, "in time")
            time.sleep(0.02)

    with Server(world, OUTSIDE, 80), Border(world, f"{API}={value()}", files=64) as nat:
        border, = children(nat.process.pid, "dayfly-border")
        idle = []
        for _ in range(30):
            idle.append(world.guest.connect(BORDER, 80))
            ask(idle[-1])
            check(idle[-1].recv(4096).startswith(b"HTTP/1.1 200 "), "it is served")
        for s in idle:
            s.close()
        wait_for(lambda: descriptors(border) < 20)
        busy_ones = []
        while (now := descriptors(border)) < 60:  # one of the guest's, and one to the host
            busy_ones.append(world.guest.connect(BORDER, 80))
            ask(busy_ones[-1], "POST", b"Content-Length: 1\r\n")
            wait_for(lambda: descriptors(border) >= now + 2)
        for _ in range(6):
            busy_ones.append(world.guest.connect(BORDER, 80))
            busy_ones[-1].sendall(b"G")
        wait_for(lambda: descriptors(border) == 64)
        before = busy(border)
        time.sleep(2)
        check(busy(border) - before < 0.5, f"it computed for {busy(border) - before} of two seconds")
        for s in busy_ones:
            s.close()

        def serves():  # as soon as enough of them have ended
            try:
                with world.guest.connect(BORDER, 80) as s:
                    ask(s)
                    return s.recv(4096).startswith(b"HTTP/1.1 200 ")
            except ConnectionError:
                return False

        wait_for(serves)


def the_end_of_the_border(world):
    """Then connections fail, and the rest of the network goes on."""
    names(world)
    with Server(world, OUTSIDE, 80), Border(world, f"{API}={value()}", f"{WWW}={value()}") as nat:
        with world.guest.connect(BORDER, 80) as s:
            s.sendall(f"GET / HTTP/1.1\r\nHost: {API}\r\n\r\n".encode())
            check(s.recv(4096).startswith(b"HTTP/1.1 200 "), "it serves")
        nat.say("end")
        while "log ended" not in nat.process.stdout.readline():
            pass
        with world.guest.connect(BORDER, 80) as s:
            try:
                check(s.recv(1) == b"", "closed at once")
            except ConnectionResetError:
                pass
        with world.guest.connect(OUTSIDE, 80) as s:
            s.sendall(f"GET / HTTP/1.1\r\nHost: {API}\r\n\r\n".encode())
            check(s.recv(4096).startswith(b"HTTP/1.1 200 "), "the rest goes on")


def dies_with_its_parent(world):
    nat = Border(world, f"{API}={value()}")
    pidfds = [os.pidfd_open(children(nat.process.pid, name)[0]) for name in ("dayfly-border", "dayfly-nat")]
    nat.process.send_signal(signal.SIGKILL)
    nat.process.wait()
    for pidfd in pidfds:
        check(select.select([pidfd], [], [], LIMIT)[0], "it ended")
        os.close(pidfd)


def of_namespace(namespace):
    """The names of the processes in a network namespace."""
    found, wanted = [], os.fstat(namespace.fd).st_ino
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.stat(f"/proc/{entry}/ns/net").st_ino == wanted:
                with open(f"/proc/{entry}/comm") as file:
                    found.append(file.read().strip())
        except OSError:
            pass
    return found


def a_kill_at_any_moment(world):
    """Of the start: both helpers are gone with their parent, however far they have come."""
    names(world)
    seen = set()
    for moment in range(40):
        with world.host:
            process = subprocess.Popen(
                [Nat.relay, str(world.guest.fd), world.resolv_conf.name, "0", "0", "--", "--", path("ca.pem"),
                 path("border.pem"), f"{API}={value()}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                pass_fds=[world.guest.fd])
        time.sleep(moment * 0.004)
        seen.update(of_namespace(world.host))
        process.kill()
        process.communicate()
        start = time.monotonic()
        while left := of_namespace(world.host):
            check(time.monotonic() - start < LIMIT, f"left: {left}")
    check("dayfly-nat" in seen, seen)


CASES = [a_secret_goes_to_its_host_alone, what_a_host_says_back, nobody_else_has_the_value,
         hosts_prove_who_they_are, without_tls, only_the_hosts_of_secrets, the_certificate_authority,
         private_addresses_need_rules, many_connections, slow_readers, more_guests_than_descriptors,
         the_end_of_the_border, dies_with_its_parent, a_kill_at_any_moment]

if __name__ == "__main__":
    make_certificates()
    run_cases(CASES)
