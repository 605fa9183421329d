# Shared by the scripts that measure in a guest: what they boot, and how the guest's figures come back.
# shellcheck shell=bash
# The caller is in the repository's root and has set `name` and `dayfly`, and later `work`, a folder of its own.
: "${name:?}" "${dayfly:?}"

say() { echo "$name: $*" >&2; }
die() { say "$*" && exit 1; }

# A kernel, and an image with the tools. Made once.
prepare_guest() {
    export DAYFLY_HOME=$PWD/build/bench/home
    mkdir -p "$DAYFLY_HOME"
    "$dayfly" kernel ls --json | grep -q '"name"' || "$dayfly" kernel import "$(scripts/kernel-package)"
    "$dayfly" image inspect bench >/dev/null 2>&1 ||
        "$dayfly" image build --debian bookworm --include gcc,libc6-dev,make,git,fio bench
    # TCG's clock is the host's TSC. Left alone the guest takes another, whose every reading is an exit.
    clock="tsc=reliable no_timer_check tsc_early_khz=$(lab/prepare | sed -n 's/^TSC_KHZ=//p')"
    kernel=$(find "$DAYFLY_HOME/kernels" -name vmlinux | head -n 1)
    image=$(find "$DAYFLY_HOME/roots" -name '*.erofs' | head -n 1)
    : "$clock" "$kernel" "$image" # the caller's
}

# make_initramfs FILE SCRIPT [MORE]: an initramfs that runs SCRIPT in the image, as /work, with the words of
# `work=` on the command line, cut at colons. MORE is beside it.
make_initramfs() {
    local root=${work:?}/initramfs file=$1
    shift
    mkdir -p "$root"/{bin,dev,proc,sys,root,rw,modules,given}
    cp "$(command -v busybox)" "$root/bin/busybox"
    cp "$DAYFLY_HOME"/kernels/*/modules/*.ko "$root/modules/"
    cp "$1" "$root/given/work"
    [ $# -eq 1 ] || cp "${@:2}" "$root/given/"
    cat >"$root/init" <<'INIT'
#!/bin/busybox sh
busybox() { /bin/busybox "$@"; }
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
for module in /modules/*.ko; do busybox insmod "$module" 2>/dev/null; done
busybox mount -t erofs -o ro /dev/vda /root
busybox mount -t tmpfs tmpfs /rw
busybox mkdir /rw/upper /rw/work
busybox mount -t overlay -o lowerdir=/root,upperdir=/rw/upper,workdir=/rw/work overlay /root
for place in proc sys dev; do busybox mount --move /$place /root/$place; done
busybox mv /given/* /root/
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
busybox chroot /root bash /work $(busybox sed -n 's/.*work=\([^ ]*\).*/\1/p' /root/proc/cmdline | busybox tr : ' ')
busybox poweroff -f
INIT
    chmod +x "$root/init"
    (cd "$root" && find . | cpio -o -H newc --quiet) >"$file"
    rm -rf "$root"
}

# The guest's lines "@ WORK WHO FIGURE" go to $work/raw; what else it says is shown.
collect() {
    while read -r line; do
        line=${line%$'\r'}
        case $line in
        "@ "*) echo "${line#@ }" | tee -a "$work/raw" >&2 ;;
        *) echo "guest: $line" >&2 ;;
        esac
    done
}

# compare NAMES OURS PEER RATIO: a row for each of NAMES: the medians of both, and of the rounds' ratios
# (peer/ours for seconds, ours/peer for rates) the median, the least and the most.
compare() {
    local what
    for what in $1; do
        awk -v name="$what" -v ours="$2" -v peer="$3" -v kind="$4" '
            function median(list, n,   i, j, t) {
                for (i = 2; i <= n; i++)
                    for (j = i; j > 1 && list[j - 1] > list[j]; j--) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
                return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
            }
            $1 == name && $2 == ours { a[++n] = $3 }
            $1 == name && $2 == peer { b[++m] = $3 }
            END {
                if (n == 0 || n != m) { printf "%-10s not measured\n", name; exit }
                for (i = 1; i <= n; i++) ratio[i] = kind == "peer/ours" ? b[i] / a[i] : a[i] / b[i]
                middle = median(ratio, n)
                printf "%-10s %10.3f %10.3f %8.2f   %.2f..%.2f\n", name, median(a, n), median(b, n), middle, ratio[1], ratio[n]
            }' "$work/raw"
    done
}
