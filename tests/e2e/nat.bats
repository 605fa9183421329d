#!/usr/bin/env bats
# The network that a job has by default, with rules and published ports: in namespaces of the test's own,
# `host`, where dayfly runs, and `world`, with a server of names and one of bytes, joined by a veth pair.

load common

HOST=198.51.100.1
WORLD=198.51.100.2
OTHER=203.0.113.5 # in the world as well

# A process with namespaces of its own, its number in $1.
hold() {
    unshare --net --mount sleep infinity 3>&- &
    printf -v "$1" %s $!
    HELD+=("$!")
    until [ "$(readlink "/proc/$!/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ] &&
        [ "$(readlink "/proc/$!/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do :; done
}

inside() { nsenter -t "$1" -n -m --wd="$PWD" "${@:2}"; }

make_world() {
    [ "$(id -u)" -eq 0 ] || skip "only root makes network namespaces"
    command -v ip >/dev/null || skip "there is no ip (iproute2)"
    HELD=()
    hold NEAR
    hold FAR
    inside "$NEAR" ip link add name veth0 type veth peer name veth0 netns "/proc/$FAR/ns/net" ||
        skip "no veth pairs here"
    inside "$NEAR" sh -ec "ip link set lo up; ip link set veth0 up; ip addr add $HOST/24 dev veth0
        ip route add default via $WORLD; echo nameserver $WORLD >'$TEST_DIR/resolv.conf'
        mount --bind '$TEST_DIR/resolv.conf' \"\$(realpath /etc/resolv.conf)\""
    inside "$FAR" sh -ec "ip link set lo up; ip link set veth0 up; ip addr add $WORLD/24 dev veth0
        ip addr add $OTHER/32 dev lo; ip addr add 169.254.169.254/32 dev lo"
}

teardown() {
    local pid
    for pid in "${HELD[@]}"; do
        if [ -n "$pid" ] && kill "$pid" 2>/dev/null; then wait "$pid" || true; fi
    done
    rm -rf "$TEST_DIR"
}

# A job on `host`: near_job [OPTION ...] -- CMD [ARG ...]
near_job() {
    local options=()
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    inside "$NEAR" timeout -k 10 "$LIMIT" "$DAYFLY" run --engine "$ENGINE" --cpus 1 --memory 256MiB \
        --report "$TEST_DIR/report" "${options[@]}" tests "$@"
}

report() { jq -r "$1" "$TEST_DIR/report"; }

# in_world DESCRIPTOR WORD...: net-peer, which listens on return; the descriptor reads what it says.
in_world() {
    local line fifo=$TEST_DIR/said.$1
    mkfifo "$fifo"
    nsenter -t "$FAR" -n tests/e2e/net-peer "${@:2}" >"$fifo" 3>&- &
    HELD+=("$!")
    eval "exec $1<\"\$fifo\""
    read -rt "$LIMIT" -u "$1" line
    [ "$line" = listening ]
}

serve_files() { # NAMESPACE'S HOLDER [ADDRESS:]PORT FOLDER
    inside "$1" busybox httpd -f -p "$2" -h "$3" 3>&- &
    HELD+=("$!")
    until inside "$1" busybox netstat -ltn | grep -q ":${2##*:} "; do :; done
}

@test "by default there is a network: names are looked up, and megabytes each way are what they were" {
    local bytes=16777216 line peer=()
    [ -z "${DAYFLY_IN_LAB:-}" ] || bytes=2097152 # it takes some minutes there to say what 16 MiB are
    make_world
    in_world 8 dns "$WORLD" bytes.example.org=$OTHER
    in_world 7 serve "$OTHER" "$bytes"
    run near_job -- sh -ec "
        cat /etc/resolv.conf; ip route show default; ping -c 1 10.0.2.2 >/dev/null
        head -c $bytes /dev/urandom >/tmp/up
        nc bytes.example.org 8000 </tmp/up >/tmp/down
        sha256sum </tmp/up; sha256sum </tmp/down"
    echo "$output"
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "nameserver 10.0.2.3" ]
    [[ "$output" == *"default via 10.0.2.2 dev eth0"* ]]
    while read -rt "$LIMIT" line <&7; do
        peer+=("${line#* }")
        [ "${#peer[@]}" -lt 2 ] || break
    done
    [ "${lines[-2]%% *}" = "${peer[1]}" ]
    [ "${lines[-1]%% *}" = "${peer[0]}" ]
    report .network
    [ "$(report .network.mode)" = nat ]
    [ "$(report '.network.names[0].name')" = bytes.example.org ]
    [ "$(report '.network.names[0].opened[0]')" = $OTHER ]
    [ "$(report '.network.bytes_received > '"$bytes")" = true ]
    [ "$(report '.network.refused | length')" -eq 0 ]
    nothing_left
}

@test "the host's loopback, its addresses and the metadata service are out of reach" {
    make_world
    serve_files "$NEAR" 127.0.0.1:9000 /etc
    run near_job -- sh -c "for to in 10.0.2.2:9000 $HOST:9000 169.254.169.254:80; do
            wget -q -O /dev/null http://\$to/hostname && echo reached \$to; done; true"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" != *reached* ]]
    report .network.refused
    [ "$(report '.network.refused[] | select(.address == "10.0.2.2") | .port')" = 9000 ]
    [ "$(report ".network.refused[] | select(.address == \"$HOST\") | .protocol")" = tcp ]
    [ "$(report '.network.refused[] | select(.address == "169.254.169.254") | .port')" = 80 ]
    # Unless the port is named.
    run near_job --allow host:9000 -- wget -q -O - http://10.0.2.2:9000/hostname
    [ "$status" -eq 0 ]
    [ "$output" = "$(cat /etc/hostname)" ]
    nothing_left
}

@test "with --allow nothing else is reached, by name or by address, and the report says what was asked" {
    make_world
    in_world 8 dns "$WORLD" good.example.org=$OTHER bad.example.org=$WORLD
    serve_files "$FAR" 80 /etc
    run near_job --allow good.example.org:80 -- sh -c "
        for to in good.example.org bad.example.org $WORLD good.example.org:53; do
            timeout 5 wget -q -O /dev/null http://\$to/hostname && echo reached \$to
            [ \$? -lt 124 ] || echo time-out; done; true"
    echo "$output"
    [ "$status" -eq 0 ]
    [ "$(grep reached <<<"$output")" = "reached good.example.org" ]
    [[ "$output" != *time-out* ]]
    report .network
    [ "$(report '.network.allow[0]')" = good.example.org:80 ]
    [ "$(report '.network.names[] | select(.name == "good.example.org") | .refused')" -eq 0 ]
    [ "$(report '.network.names[] | select(.name == "bad.example.org") | .refused > 0')" = true ]
    [ "$(report ".network.refused[] | select(.address == \"$WORLD\") | .port")" = 80 ]
    [ "$(report ".network.refused[] | select(.address == \"$OTHER\") | .port")" = 53 ]
    # What nobody may ask for, nobody was asked for.
    while read -rt 1 line <&8; do [ "$line" = "asked good.example.org" ]; done
    nothing_left
}

@test "--publish leads to the machine; a port in use is an error before anything starts" {
    local line
    make_world
    coproc JOB { near_job --publish 8080:80 -i -- sh -c '
        busybox httpd -p 80 -h /etc; echo up; read line' 3>&-; }
    exec 7<&"${JOB[0]}" 8>&"${JOB[1]}"
    read -rt "$LIMIT" line <&7
    [ "$line" = up ]
    run inside "$NEAR" busybox wget -q -O - http://127.0.0.1:8080/marker
    [ "$status" -eq 0 ]
    [ "$output" = "from the image" ]
    run near_job --publish 8080:80 -- true
    echo "$output"
    [ "$status" -eq 125 ]
    [[ "$output" == *"cannot publish 127.0.0.1:8080/tcp"*"in use"* ]]
    echo >&8
    wait "$JOB_PID"
    nothing_left
}

@test "rules that are none are told before anything starts" {
    run job --allow 'not a name' -- true
    echo "$output"
    [ "$status" -eq 125 ]
    [[ "$output" == *--allow*"not a name"* ]]
    run job --publish 80 -- true
    [ "$status" -eq 125 ]
    [[ "$output" == *--publish*80* ]]
    run job --net none --allow example.org -- true
    [ "$status" -eq 125 ]
    [[ "$output" == *"--allow counts with --net nat alone"* ]]
}

# Which of the processes have the value in their memory, and the guest's with it: `memory_has FILE PID...`
memory_has() {
    python3 - "$@" <<'END'
import sys
value = open(sys.argv[1], "rb").read().strip()
for pid in sys.argv[2:]:
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        found = False
        for line in maps:
            start, end = (int(x, 16) for x in line.split()[0].split("-"))
            at, tail = start, b""
            while line.split()[1][0] == "r" and "[v" not in line and at < end and not found:
                try:
                    memory.seek(at)
                    data = memory.read(min(end - at, 1 << 24))
                except (OSError, ValueError):
                    break
                if not data:
                    break
                found = value in tail + data
                tail, at = data[-len(value):], at + len(data)
        if found:
            print(open(f"/proc/{pid}/comm").read().strip())
END
}

# The value of $1, which the guest never has: $2 is a server's notes of what it was told.
serve_echo() {
    inside "$FAR" python3 -c '
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        said = self.headers.get("Authorization", "")
        with open(sys.argv[2], "a") as notes:
            notes.write(said + "\n")
        body = ("you said " + said + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer((sys.argv[1], 80), Handler).serve_forever()' "$1" "$2" 3>&- &
    HELD+=("$!")
    until inside "$FAR" busybox netstat -ltn | grep -q "$1:80 "; do :; done
}

@test "a secret for a host stays on the host: the guest has a placeholder, the host gets the value" {
    local pid child pids=() found
    make_world
    in_world 8 dns "$WORLD" api.example.org=$OTHER
    serve_echo "$OTHER" "$TEST_DIR/notes"
    echo "s3cret-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" >"$TEST_DIR/token"
    near_job --secret TOKEN=file:"$TEST_DIR/token" --secret-env OTHER_TOKEN=file:"$TEST_DIR/token" \
        --for-host TOKEN=api.example.org,http --for-host OTHER_TOKEN=api.example.org -- sh -c '
            ask() { wget -q -O - --header "Authorization: Bearer $1" http://api.example.org/; }
            cat /run/secrets/TOKEN; echo; echo "$OTHER_TOKEN"
            ask "$(cat /run/secrets/TOKEN)"; ask "$OTHER_TOKEN" || echo not without TLS
            grep -c "BEGIN CERTIFICATE" "$SSL_CERT_FILE"
            echo waiting; sleep infinity' >"$TEST_DIR/out" 2>&1 3>&- &
    HELD+=("$!")
    until grep -q waiting "$TEST_DIR/out"; do kill -0 "${HELD[-1]}"; done
    cat "$TEST_DIR/out"
    mapfile -t lines <"$TEST_DIR/out"
    [[ "${lines[0]}" =~ ^dayfly-secret-[0-9a-f]{32}$ ]]
    [[ "${lines[1]}" =~ ^dayfly-secret-[0-9a-f]{32}$ ]]
    [ "${lines[0]}" != "${lines[1]}" ]
    [[ "${lines[2]}" == "you said Bearer dayfly-secret-"* ]]
    [[ "$(cat "$TEST_DIR/out")" == *"not without TLS"* ]]
    ! grep -qF -f "$TEST_DIR/token" "$TEST_DIR/out"
    [ "$(cat "$TEST_DIR/notes")" = "Bearer $(cat "$TEST_DIR/token")" ]
    # The monitor, the guest's memory and the network's helper among them.
    pid=$(pgrep -f "^$DAYFLY run .*$TEST_DIR/token" | head -n 1)
    for child in $(pgrep -P "$pid"); do pids+=("$child"); done
    found=$(memory_has "$TEST_DIR/token" "$pid" "${pids[@]}")
    echo "found in: $found"
    [ "$found" = dayfly-border ]
    kill -INT "$pid"
    wait "${HELD[-1]}" || true
    [ "$(report '.network.secret_hosts[0].name')" = api.example.org ]
    [ "$(report '.network.secret_hosts[0].replaced')" -eq 1 ]
    [ "$(report '.network.secret_hosts[0].masked')" -eq 1 ]
    [ "$(report '.network.secret_hosts[0].refused')" -eq 1 ]
}
