#!/usr/bin/env bats
# dayfly bench: the shape of its table, not its figures.

load common

bench() { # OPTION...
    timeout -k 10 $((LIMIT * 2)) "$DAYFLY" bench --image tests --dir "$TEST_DIR" -n 1 --disk-time 1s "$@"
}

# The row of the test's engine has figures in these columns, in the table on stdin.
has_figures() { # COLUMN...
    python3 -c '
import json, sys
table = json.load(sys.stdin)
row = {r["name"]: r for r in table["rows"]}[sys.argv[1]]
assert row["works"] and row["why"] is None, row
for column in sys.argv[2:]:
    figure = row["figures"][column]
    assert 0 < figure["least"] <= figure["median"] <= figure["most"], (column, figure)
    assert figure["ratio"] is None or figure["ratio"]["count"] > 0, (column, figure)
' "$@"
}

@test "a row of this engine beside bare metal" {
    [ "$ENGINE" != user ] || [ "$(id -u)" -eq 0 ] || skip "images are root's"
    bench --rows "none,$ENGINE" --columns start,memory,destroy --json >"$TEST_DIR/table.json"
    has_figures "$ENGINE" start memory destroy <"$TEST_DIR/table.json"
    has_figures none start memory destroy <"$TEST_DIR/table.json"
    # A place that is made takes longer than none.
    jq -e '.rows[1].figures.start.median > .rows[0].figures.start.median' "$TEST_DIR/table.json"
    nothing_left
}

@test "disks and a build, in a place of this engine" {
    [ "$ENGINE" != user ] || [ "$(id -u)" -eq 0 ] || skip "images are root's"
    [ "$ENGINE" = user ] || long
    mkdir "$TEST_DIR/source"
    echo one >"$TEST_DIR/source/file"
    bench --rows "none,$ENGINE" --columns build,cpu,read,write --source "$TEST_DIR/source" \
        --build 'sleep 0.1 && grep -q one file' --json >"$TEST_DIR/table.json"
    has_figures "$ENGINE" build read write <"$TEST_DIR/table.json"
    jq -e '.settings.disk_tool == "dayfly'"'"'s own"' "$TEST_DIR/table.json" # the image has no fio
    nothing_left
}

@test "a row that cannot run says why, and is a failure when it was asked for" {
    mkdir "$TEST_DIR/bin"
    PATH=$TEST_DIR/bin run "$DAYFLY" bench --dir "$TEST_DIR" -n 1 --image none-such --columns start --rows none,user,podman
    [ "$status" -eq 125 ]
    [[ "$output" == *"podman  cannot run here: podman is not installed: apt-get install podman"* ]]
    [[ "$output" == *"there is no image none-such: dayfly image build --debian bookworm --include gcc,libc6-dev,make,fio none-such"* ]] ||
        [ "$(id -u)" -ne 0 ]
    [[ "$output" == *"to first command"* ]]
}

@test "a start phase by phase, in order and adding up" {
    [ "$ENGINE" != user ] || [ "$(id -u)" -eq 0 ] || skip "images are root's"
    timeout -k 10 $((LIMIT * 2)) "$DAYFLY" bench boot --engine "$ENGINE" --image tests -n 1 --json \
        --memory 256MiB --cpus 1 >"$TEST_DIR/boot.json"
    python3 - "$ENGINE" "$TEST_DIR/boot.json" <<'END'
import json, sys
engine, table = sys.argv[1], json.load(open(sys.argv[2]))
assert table["engine"] == engine and table["rounds"] == 1 and len(table["cases"]) == 1, table
case = table["cases"][0]
phases = {p["until"]: p["ms"]["median"] for p in case["phases"]}
since = {p["until"]: p["since_ms"]["median"] for p in case["phases"]}
wanted = ["main", "opened", "created", "agent", "hello", "ready", "started", "words", "ended", "destroyed", "gone"]
if engine != "user":
    wanted += ["engine", "devices", "vm", "entered", "kernel"]
if engine == "kvm":
    wanted += ["loaded"]
assert set(wanted) <= set(phases), (wanted, phases)
assert abs(sum(phases.values()) - since["gone"]) < 0.01, (phases, since)
assert 0 < since["main"] < since["created"] < since["hello"] < since["words"] < since["gone"], since
figures = {name: figure and figure["median"] for name, figure in case["figures"].items()}
assert abs(figures["to_agent"] - since["hello"]) < 0.001, figures
for name in ["to_command", "destroy", "memory", "idle_open", "idle_create", "idle_destroy"]:
    assert figures[name] > 0, (name, figures)
assert (case["exits"] is not None) == (engine == "kvm"), case["exits"]
if engine == "kvm":
    assert case["exits"]["all"]["memory"] >= case["exits"]["boot"]["memory"] > 0, case["exits"]
END
    nothing_left
}
