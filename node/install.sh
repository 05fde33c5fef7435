#!/bin/bash
# Installs or upgrades a soundranger node on a computer with Pi OS or Debian: run it from a clone, as often as you like.
#
#   sudo node/install.sh            installs, says each step
#   node/install.sh --dry-run       says the steps and changes nothing
#
# A configuration that is there stays as it is. Without one the example is put in its place, and the service starts only
# once the example has been edited: it describes no real place.
set -euo pipefail

readonly NAME=soundranger-node
readonly USER_NAME=soundranger
readonly VENV=/opt/soundranger
readonly COMMAND=/usr/local/bin/$NAME
readonly CONFIG_FOLDER=/etc/soundranger
readonly CONFIG=$CONFIG_FOLDER/$NAME.toml
readonly INSTALLED_EXAMPLE=$CONFIG_FOLDER/$NAME.example.toml
readonly UNIT=/etc/systemd/system/$NAME.service
CLONE=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
readonly CLONE
readonly EXAMPLE=$CLONE/node/$NAME.example.toml
# From a 3.11 on, which Bookworm has.
readonly NEEDS_PYTHON='import sys; assert sys.version_info >= (3, 11)'

dry_run=no
restart=no

main() {
    read_options "$@"
    refuse_what_cannot_work
    install_packages
    make_user
    stop_service
    install_program
    install_config
    install_service
    check
    start_service
}

say() { printf '%s\n' "$*"; }

# One sentence: what is wrong, and what to do.
fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

# Say a step and do it.
step() {
    say "  $*"
    if [ "$dry_run" = no ]; then "$@"; fi
}

read_options() {
    case "${1-}" in
        "") ;;
        --dry-run) dry_run=yes ;;
        *) printf 'install.sh: %s is no option; there is only --dry-run\n' "$1" >&2; exit 2 ;;
    esac
}

refuse_what_cannot_work() {
    [ -f "$CLONE/pyproject.toml" ] || fail "$CLONE is no clone of soundranger; run node/install.sh where it was cloned to"
    command -v apt-get >/dev/null || fail "this is neither Pi OS nor Debian; see docs/install-a-node.md for the steps"
    command -v python3 >/dev/null || fail "Python is not installed; sudo apt-get install python3"
    python3 -c "$NEEDS_PYTHON" 2>/dev/null ||
        fail "Python 3.11 or later is needed and this is $(python3 -V); put Pi OS Bookworm or later on the card"
    [ "$dry_run" = yes ] || [ "$(id -u)" = 0 ] || fail "this needs root; sudo node/install.sh"
}

install_packages() {
    local wanted=(libportaudio2 alsa-utils chrony python3-venv) missing=() package
    # A 64-bit kernel may carry a 32-bit system: what counts is what its packages are built for.
    if [ "$(dpkg --print-architecture)" = armhf ]; then
        wanted+=(libsndfile1 libopenblas0)
    fi
    for package in "${wanted[@]}"; do
        dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            missing+=("$package")
    done
    if [ ${#missing[@]} = 0 ]; then
        say "Packages: all there (${wanted[*]})."
        return
    fi
    say "Packages (chrony takes the place of systemd-timesyncd):"
    step apt-get update --quiet=2 || say "  the lists of packages could not be renewed: going on with the old ones"
    step env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "${missing[@]}" ||
        fail "the packages ${missing[*]} cannot be installed; mend what apt-get says above and run this again"
}

make_user() {
    say "User $USER_NAME, in the group audio:"
    getent group audio >/dev/null || step groupadd --system audio
    if ! getent passwd "$USER_NAME" >/dev/null; then
        step useradd --system --user-group --home-dir /var/lib/soundranger --no-create-home \
            --shell /usr/sbin/nologin "$USER_NAME"
    fi
    step usermod --append --groups audio "$USER_NAME"
    step install --directory --mode 750 --owner "$USER_NAME" --group "$USER_NAME" /var/lib/soundranger
}

# The program is not to change under a node that runs; if anything fails below, that node goes on with what is there.
stop_service() {
    if has_systemd && systemctl is-active --quiet "$NAME"; then
        say "The service that runs:"
        restart=yes
        trap start_again EXIT
        step systemctl stop "$NAME"
    fi
}

install_program() {
    say "Program in $VENV (some minutes on a small Pi):"
    if ! "$VENV/bin/python" -c "$NEEDS_PYTHON; import pip" 2>/dev/null; then
        # Also after an upgrade of the system, whose older Python the folder was made for, and after a power cut.
        step python3 -m venv --clear "$VENV" || fail "$VENV cannot be made; see above, and look at the free space: df -h /"
    fi
    # A wheel that is a little older is better than an hour of compiling.
    step "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --prefer-binary \
        --upgrade "$CLONE" ||
        fail "pip could not install soundranger; see above, look at the network and the free space, and run this again"
    step ln --symbolic --force --no-dereference "$VENV/bin/$NAME" "$COMMAND"
}

install_config() {
    say "Configuration:"
    step install --directory --mode 750 --owner root --group "$USER_NAME" "$CONFIG_FOLDER"
    # Passwords stand in it: for root and the node only.
    if is_edited; then
        say "  $CONFIG is yours and stays as it is"
    else
        step install --mode 640 --owner root --group "$USER_NAME" "$EXAMPLE" "$CONFIG"
    fi
    step install --mode 640 --owner root --group "$USER_NAME" "$EXAMPLE" "$INSTALLED_EXAMPLE"
}

install_service() {
    say "Service:"
    step install --mode 644 "$CLONE/node/systemd/$NAME.service" "$UNIT"
    if has_systemd; then
        step systemctl daemon-reload
        step systemctl --quiet enable chrony "$NAME"
        step systemctl start chrony
    else
        say "  systemd does not run here: enable $NAME yourself"
    fi
}

check() {
    is_edited || return 0
    say "Check (microphone, clock, broker and so on):"
    # Its findings are for whoever reads them; the installation is well either way.
    step runuser --user "$USER_NAME" -- "$COMMAND" check --config "$CONFIG" || true
}

start_service() {
    trap - EXIT
    if ! is_edited; then
        say "Next, say where the microphone is and which broker to use, look whether all is well, and start:"
        say "    sudo nano $CONFIG"
        say "    sudo -u $USER_NAME $NAME check"
        say "    sudo systemctl start $NAME"
    elif has_systemd; then
        say "Start:"
        step systemctl start "$NAME" || fail "the service does not start; journalctl --unit $NAME says why"
        say "It runs. Its log: journalctl --unit $NAME --follow"
    fi
}

start_again() {
    [ "$restart" = no ] || [ "$dry_run" = yes ] || systemctl start "$NAME" || true
}

has_systemd() { [ -d /run/systemd/system ]; }

# What is still the example, of this installation or of the one before, was never edited.
is_edited() {
    [ -e "$CONFIG" ] && ! cmp --quiet "$EXAMPLE" "$CONFIG" && ! cmp --quiet "$INSTALLED_EXAMPLE" "$CONFIG"
}

main "$@"
