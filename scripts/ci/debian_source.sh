# What upstream has released, from Debian's archive of source packages; sourced.
# shellcheck shell=bash

# debian_source PACKAGE SUITE DIRECTORY LOG: unpacks what upstream released of the package of that Debian suite there. Fails where
# the archive does not give it; what apt-get said is in LOG.
debian_source() {
    local apt status=0
    apt=$(mktemp -d)
    mkdir -p "$apt/lists/partial" "$apt/unpacked"
    printf 'deb-src http://deb.debian.org/debian %s main\n' "$2" >"$apt/sources.list"
    (
        cd "$apt" || exit
        package=$1
        set -- -qq -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$apt/lists"
        apt-get "$@" update
        # It fails for any file of the package, and only one is needed.
        apt-get "$@" source --download-only "$package"
        tar -xf "$package"_*.orig.tar.* -C unpacked --strip-components 1
    ) >"$4" 2>&1 || status=1
    if [ "$status" = 0 ]; then
        mkdir -p "$(dirname "$3")"
        mv "$apt/unpacked" "$3"
    fi
    rm -rf "$apt"
    return "$status"
}
