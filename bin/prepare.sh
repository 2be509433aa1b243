# Read by bin/fleet and bin/test: finds Python and git, and sets `checkout`, `python` and, by `environments NAME...`, `folders`.
# shellcheck shell=sh

fail() {
    echo "fleet: $1" >&2
    exit "${2:-1}"
}

checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 1

is_new_enough() {
    "$1" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# The system's own Python comes first: unlike one in somebody's home, every uid and every sandbox can run it.
find_python() {
    python='' old=''
    case :$PATH: in *:/usr/bin:*) first=/usr/bin/python3 ;; *) first='' ;; esac
    for name in ${FLEET_PYTHON:-$first python3 python3.14 python3.13 python3.12 python3.11}; do
        found=$(command -v "$name") || continue
        if is_new_enough "$found"; then
            python=$found
            return
        fi
        old=$found
    done
    [ -n "$old" ] && fail "$old is older than Python 3.11; install a newer one and put it on PATH, or name it in FLEET_PYTHON." 2
    [ -n "${FLEET_PYTHON:-}" ] && fail "FLEET_PYTHON names $FLEET_PYTHON, which is no program; correct or unset it." 2
    fail "Python 3.11 or newer is missing; install it (Debian, Ubuntu: apt install python3 python3-venv)." 2
}

find_git() {
    command -v git >/dev/null || fail "git is missing; install version 2.38 or newer (Debian, Ubuntu: apt install git)." 2
    version=$(git --version) && version=${version#git version }
    major=${version%%.*} minor=${version#*.}
    minor=${minor%%[!0-9]*}
    case $major$minor in '' | *[!0-9]*) fail "git --version answers \"$version\"; put git 2.38 or newer on PATH." 2 ;; esac
    if [ "$major" -lt 2 ] || { [ "$major" -eq 2 ] && [ "$minor" -lt 38 ]; }; then
        fail "git $version is too old, since the fleet merges with git merge-tree; install git 2.38 or newer." 2
    fi
}

environments() {
    folders=$("$python" -I -S -B "$checkout/bin/environment.py" "$@") || exit $?
}
