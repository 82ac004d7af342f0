#!/usr/bin/env bash
# Sees to what building needs of the system: Python with venv, pkg-config, LuaJIT.
# Installs what is missing where it may (root, on Debian and its kin); else says what to do.
# Arguments: further Debian packages to see to, as COMMAND:PACKAGE.
set -euo pipefail

python=${PYTHON:-python3}
missing=()
pkg-config --exists luajit 2>/dev/null || missing+=(pkg-config libluajit-5.1-dev)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing from Debian: ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    else
        cat >&2 <<'TEXT'
LuaJIT 2.1 with its headers, pkg-config and Python's venv are needed. Install them:
  Debian, Ubuntu   sudo apt install pkg-config libluajit-5.1-dev python3-venv
  Fedora           sudo dnf install pkgconf-pkg-config luajit-devel python3
  macOS            brew install pkg-config luajit python
  conda, pixi      conda install -c conda-forge pkg-config luajit python
TEXT
        echo "Missing here: ${missing[*]}" >&2
        exit 1
    fi
fi

"$python" - <<'TEXT'
import sys
if sys.version_info < (3, 11):
    sys.exit(f"Python 3.11 or later is needed, {sys.executable} is {sys.version.split()[0]}; say which: make PYTHON=python3.12")
TEXT
