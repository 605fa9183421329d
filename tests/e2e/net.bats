#!/usr/bin/env bats
# A guest's network: by a tap interface, in a network namespace of the test's own, and by a socket.

load common

# A network namespace with a tap interface that has 10.9.0.1 and fd09::1. Nothing of it has a name.
make_tap() { # [WHAT IP TUNTAP TAKES BESIDES]
    [ "$(id -u)" -eq 0 ] || skip "only root makes network namespaces"
    command -v ip >/dev/null || skip "there is no ip (iproute2)"
    modprobe -q tun 2>/dev/null || true
    unshare --net sleep infinity 3>&- &
    HOLDER=$!
    # unshare has done its work when the process is elsewhere.
    until [ "$(readlink /proc/$HOLDER/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
    inside ip link set lo up
    inside ip tuntap add dev tap0 mode tap "${@}" || skip "no tap interfaces here"
    inside ip addr add 10.9.0.1/24 dev tap0
    inside ip addr add fd09::1/64 dev tap0 nodad
    inside ip link set tap0 up
}

inside() { nsenter -t "$HOLDER" -n "$@"; }

end_tap() {
    kill "$HOLDER"
    wait "$HOLDER" || true
}

teardown() {
    if [ -n "${HOLDER:-}" ] && kill -0 "$HOLDER" 2>/dev/null; then end_tap; fi
    if [ -n "${PEER_PID:-}" ] && kill -0 "$PEER_PID" 2>/dev/null; then kill "$PEER_PID"; fi
    rm -rf "$TEST_DIR"
}

GUEST=address=10.9.0.2/24,address=fd09::2/64,gateway=10.9.0.1,gateway=fd09::1

# dayfly run in the namespace: net_job [OPTION ...] -- CMD [ARG ...]
net_job() {
    local options=()
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    inside timeout -k 10 "$LIMIT" "$DAYFLY" run --engine "$ENGINE" --memory 256MiB "${options[@]}" tests "$@"
}

# start_peer COMMAND...: net-peer, which listens on return; descriptor 7 is what it says.
start_peer() {
    local line
    coproc PEER { exec "$@" 3>&-; }
    exec 7<&"${PEER[0]}" # which is gone with the peer
    read -rt "$LIMIT" line <&7
    [ "$line" = listening ]
}

@test "by a tap: addresses, routes, names, and an echo by IPv4 and IPv6" {
    make_tap
    run net_job --net "tap:tap0,$GUEST,dns=10.9.0.1,dns=fd09::1,search=example.org,mtu=1400" --cpus 1 -- sh -ec '
        cat /etc/resolv.conf; hostname; grep dayfly /etc/hosts
        cat /sys/class/net/eth0/mtu
        ip route show default; ip -6 route show default
        ping -c 2 10.9.0.1; ping -6 -c 2 fd09::1'
    echo "$output"
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "search example.org" ]
    [ "${lines[1]}" = "nameserver 10.9.0.1" ]
    [ "${lines[2]}" = "nameserver fd09::1" ]
    [ "${lines[3]}" = dayfly ]
    [ "${lines[5]}" = 1400 ]
    [[ "$output" == *"default via 10.9.0.1 dev eth0"* ]]
    [[ "$output" == *"default via fd09::1 dev eth0"* ]]
    [ "$(grep -c "2 packets received" <<<"$output")" -eq 2 ]
    end_tap
    nothing_left
}

# What each side says that it sent is what the other says that it got.
transfer() { # ADDRESS TAP'S KIND...
    local bytes=16777216 line peer=()
    make_tap "${@:2}"
    start_peer nsenter -t "$HOLDER" -n tests/e2e/net-peer serve "$1" "$bytes"
    run net_job --net "tap:tap0,$GUEST" --cpus 2 -- sh -ec "
        head -c $bytes /dev/urandom >/tmp/up
        nc $1 8000 </tmp/up >/tmp/down
        sha256sum </tmp/up; sha256sum </tmp/down"
    echo "$output"
    [ "$status" -eq 0 ]
    while read -rt "$LIMIT" line <&7; do
        echo "$line"
        peer+=("${line#* }")
        [ "${#peer[@]}" -lt 2 ] || break
    done
    [ "${lines[0]%% *}" = "${peer[1]}" ]
    [ "${lines[1]%% *}" = "${peer[0]}" ]
    end_tap
    nothing_left
}

@test "by a tap: 16 MiB each way at once over TCP are what they were" {
    transfer 10.9.0.1
}

@test "by a tap with several queues, by IPv6: the same" {
    long
    transfer fd09::1 multi_queue
}

@test "by a socket: a program of the host answers a guest's echo requests" {
    start_peer tests/e2e/net-peer wire "$TEST_DIR/wire" 10.9.0.1
    run job --net "socket:$TEST_DIR/wire,address=10.9.0.2/24" -- ping -c 3 -s 1400 10.9.0.1
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"3 packets received"* ]]
    for i in 1 2 3; do
        read -rt "$LIMIT" line <&7
        [ "$line" = "echo $i" ]
    done
    nothing_left
}

@test "without a network there is loopback, and all else fails at once" {
    run job --net none -- sh -c 'ip addr show lo; ls /sys/class/net; ping -c 1 127.0.0.1; ping -c 1 10.9.0.1'
    echo "$output"
    [ "$status" -ne 0 ]
    [[ "$output" == *"1 packets received"* ]]
    [[ "$output" == *"Network is unreachable"* ]]
    [[ "$output" != *eth0* ]]
    run job --net none --report "$TEST_DIR/report" -- sh -c '
        read a _ </proc/uptime; nslookup example.org; wget -O - http://example.org/; read b _ </proc/uptime
        echo $((${b%.*} - ${a%.*}))'
    echo "$output"
    [ "${lines[-1]}" -le 2 ]
    [ "$(jq -r .network.mode "$TEST_DIR/report")" = none ]
    nothing_left
}

@test "an interface that is not there, and one that is no tap, are errors that say what to do" {
    run job --net tap:nosuch0 -- true
    [ "$status" -eq 125 ]
    [[ "$output" == *"no network interface nosuch0"*"ip tuntap add"* ]]
    run job --net tap:lo -- true
    echo "$output"
    [ "$status" -eq 125 ]
    if [ -w /dev/net/tun ]; then [[ "$output" == *"lo is no tap"* ]]; fi
}
