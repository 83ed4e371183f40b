# Runs the steps of a script. The script sources this file, sets STEPS, defines a function for each step, and ends with `run_steps "$@"`.
#
# A failed step does not stop the others. The last line counts each test of a step that ends with a line `N passed, N failed`, and each other step
# as one test.
set -uo pipefail
set -m # each step is a process group, so that it can be stopped together with everything it started
cd "$(dirname "$0")/.." || exit

mkdir -p "${CARGO_TARGET_DIR:=$PWD/target}"
CARGO_TARGET_DIR=$(cd "$CARGO_TARGET_DIR" && pwd)
export CARGO_TARGET_DIR
tools=$CARGO_TARGET_DIR/tools
SKIPPED=77 # a step that returns this was skipped

# Installs a component of the toolchain, unless it is there: `component clippy clippy`.
component() {
    cargo "$1" --version >/dev/null 2>&1 || rustup component add "$2"
}

# Installs one version of a cargo tool into "$tools/bin", unless it is there: `tool cargo-hack 0.6.46`.
tool() {
    grep -qsF "\"$1 $2 " "$tools/.crates2.json" || cargo install --quiet --locked --root "$tools" "$1@$2"
}

log=$(mktemp)
job=
stop() {
    trap '' EXIT HUP INT TERM
    exec 2>/dev/null # bash reports the terminated job
    if [ -n "$job" ]; then
        kill -TERM -- "-$job"
        for _ in {1..100}; do kill -0 -- "-$job" && sleep 0.1 || break; done # `tests/run` stops its servers meanwhile
        kill -KILL -- "-$job"
    fi
    rm -f "$log"
}
trap stop EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

run_steps() {
    local steps rows passed failed skipped step begun status result p f s
    steps=("$@")
    [ $# -gt 0 ] || steps=("${STEPS[@]}")
    for step in "${steps[@]}"; do
        [[ " ${STEPS[*]} " == *" $step "* ]] || { echo "unknown step: $step; the steps are: ${STEPS[*]}" >&2; exit 2; }
    done

    rows=() passed=0 failed=0 skipped=0
    for step in "${steps[@]}"; do
        echo "=== $step"
        begun=$SECONDS
        (
            set +m
            "$step" 2>&1 | tee "$log"
            exit "${PIPESTATUS[0]}"
        ) </dev/null &
        job=$!
        wait "$job"
        status=$?
        job=

        case $status in
            0) result=passed ;;
            "$SKIPPED") result=skipped ;;
            *) result=failed ;;
        esac
        if [[ $(tail -n 1 "$log") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed(,\ ([0-9]+)\ skipped)?$ ]]; then
            p=${BASH_REMATCH[1]} f=${BASH_REMATCH[2]} s=${BASH_REMATCH[4]:-0}
            [ "$status" -eq 0 ] || [ "$f" -gt 0 ] || f=1
        elif [ "$status" -eq 0 ]; then
            p=1 f=0 s=0
        elif [ "$status" -eq "$SKIPPED" ]; then
            p=0 f=0 s=1
        else
            p=0 f=1 s=0
        fi
        passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
        rows+=("$(printf '%-16s %-7s %5d s' "$step" "$result" $((SECONDS - begun)))")
        echo "=== $step $result"
    done

    echo
    printf '%s\n' "${rows[@]}"
    if [ "$skipped" -gt 0 ]; then
        echo "$passed passed, $failed failed, $skipped skipped"
    else
        echo "$passed passed, $failed failed"
    fi
    [ "$failed" -eq 0 ]
}
