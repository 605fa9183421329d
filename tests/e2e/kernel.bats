#!/usr/bin/env bats
# Dayfly's own guest kernel, where it has been built (`make kernel`; tests/e2e/prepare takes it over): what
# container engines and package builds want of a kernel is there and works, without modules.

load common

# The one that is default. Its report is in $TEST_DIR/report after report_of.
own_kernel() {
    [ "$ENGINE" != user ] || skip "engine user has the host's kernel"
    "$DAYFLY" kernel ls --json | grep -q '"name": ".*-dayfly' || skip "not built here: make kernel"
}

@test "it is the default, and the report names it" {
    own_kernel
    job --report "$TEST_DIR/report" -- uname -r >"$TEST_DIR/release"
    grep -q -- '-dayfly' "$TEST_DIR/release"
    grep -q "\"kernel_release\": \"$(cat "$TEST_DIR/release")\"" "$TEST_DIR/report"
    [ "$("$DAYFLY" kernel ls | awk '$NF == "yes" {print $2}')" = "$(cat "$TEST_DIR/release")" ]
}

@test "Debian's kernel still runs a job, when it is asked for" {
    own_kernel
    local debian
    debian=$("$DAYFLY" kernel ls | awk '/cloud-amd64/ {print $1; exit}')
    [ -n "$debian" ] || skip "none imported"
    run job --kernel "$debian" -- uname -r
    [ "$status" -eq 0 ]
    [ "$output" = "$debian" ]
}

@test "file systems, namespaces and cgroup controllers are all there" {
    own_kernel
    run job -- sh -ec '
        for fs in ext4 erofs overlay fuse virtiofs tmpfs vfat hugetlbfs; do
            grep -qw $fs /proc/filesystems || echo "no $fs"
        done
        for ns in cgroup ipc mnt net pid time user uts; do [ -e /proc/self/ns/$ns ] || echo "no $ns"; done
        mkdir -p /tmp/cg && mount -t cgroup2 cgroup2 /tmp/cg
        for c in cpuset cpu io memory pids; do
            grep -qw $c /tmp/cg/cgroup.controllers || echo "no controller $c"
        done
        for c in devices freezer hugetlb misc perf_event; do
            grep -qw ^$c /proc/cgroups || echo "no controller $c"
        done
        for f in /dev/loop-control /dev/net/tun /dev/fuse /dev/vsock /proc/sys/kernel/yama /proc/pressure/cpu; do
            [ -e $f ] || echo "no $f"
        done
        grep -qw landlock /sys/kernel/security/lsm 2>/dev/null ||
            { mount -t securityfs s /sys/kernel/security && grep -qw landlock /sys/kernel/security/lsm; } || echo "no landlock"
        [ ! -e /proc/modules ] || echo "it has modules"
        echo looked'
    echo "$output"
    [ "$status" -eq 0 ]
    [ "$output" = looked ]
}

# Not on the layer itself: that is an overlay already, as in any container.
@test "an overlay mounts, also in a user namespace" {
    own_kernel
    run job -- sh -ec '
        mount -t tmpfs t /tmp
        overlay() {
            mkdir /tmp/$1 && cd /tmp/$1 && mkdir low up work all && echo below >low/file
            $2 sh -ec "mount -t overlay -o lowerdir=low,upperdir=up,workdir=work o all && echo above >all/file"
            cat low/file up/file
        }
        overlay root ""
        overlay user "unshare -Urm"'
    echo "$output"
    [ "$status" -eq 0 ]
    [ "$output" = $'below\nabove\nbelow\nabove' ]
}

@test "a container's network: veth, bridge, another network namespace, and a packet through" {
    own_kernel
    run job -- sh -ec '
        ip link add name bridge0 type bridge
        ip addr add 10.9.0.1/24 dev bridge0 && ip link set bridge0 up
        unshare -n sh -c "touch /tmp/apart; while ! ip link set veth0 up 2>/dev/null; do usleep 10000; done
            ip addr add 10.9.0.2/24 dev veth0; touch /tmp/up; sleep 60" &
        inner=$!
        while [ ! -e /tmp/apart ]; do usleep 10000; done
        ip link add outer type veth # the other end is veth0
        ip link set veth0 netns $inner
        brctl addif bridge0 outer && ip link set outer up
        while [ ! -e /tmp/up ]; do usleep 10000; done
        ping -c 1 -W 10 10.9.0.2
        kill $inner'
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"1 packets received"* ]]
}

# The host's own iptables, in the guest: it speaks to nf_tables, or with the other name to the old tables.
@test "network address translation by nftables and by the tables of old" {
    own_kernel
    command -v iptables-nft iptables-legacy >/dev/null || skip "this host has no iptables"
    run job --share "/:/host:ro" -- sh -ec '
        mount -t tmpfs t /host/run; mount -t proc proc /host/proc
        for iptables in iptables-nft iptables-legacy; do
            table() { chroot /host /usr/sbin/$iptables -w "$@"; }
            table -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
            table -t nat -A PREROUTING -m addrtype --dst-type LOCAL -p tcp --dport 80 -j DNAT --to-destination 172.17.0.2:80
            table -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            table -A FORWARD -i docker0 ! -o docker0 -m comment --comment out -j ACCEPT
            table -t nat -S | grep -c MASQUERADE
            table -S FORWARD | grep -c ESTABLISHED
        done'
    echo "$output"
    [ "$status" -eq 0 ]
    [ "$output" = $'1\n1\n1\n1' ]
}
