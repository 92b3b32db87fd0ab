# shellcheck shell=bash
# Builds the image of deploy/Dockerfile and makes a container of it, by buildah, which needs
# no container engine. Read by tests/run, whose functions it uses.
#
# Everything is in a storage of its own, below $IMAGES, and an image is found again by a
# hash of what it was built from. Its base is the one the Dockerfile names. Where that
# cannot be had, a stand-in gets its name: Debian 12 by debootstrap with CPython built from
# source in /usr/local, which is what the real one is, too.

IMAGES=$CACHE/images
DOCKERFILE=$HERE/deploy/Dockerfile
LARGEST_MB=150

# The stand-in's Python. Ubuntu's archive keeps the very file under another name, and
# debootstrap knows where that is.
PYTHON=3.12.3
PYTHON_SHA256=56bfef1fdfc1221ce6720e43a661e3eb41785dd914ce99698d8c7896af4bdaa1

image_tool() {
    as_root env BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs \
        buildah --root "$IMAGES/storage" --runroot "$IMAGES/run" "$@"
}

need_image_packages() {
    local missing=()
    command -v buildah > /dev/null || missing+=(buildah)
    command -v curl > /dev/null || missing+=(curl)
    command -v xz > /dev/null || missing+=(xz-utils)
    [ -x /usr/sbin/debootstrap ] || missing+=(debootstrap)
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    apt_install "${missing[@]}"
}

python_source() {
    local file=$IMAGES/Python-$PYTHON.tar.xz ubuntu from
    ubuntu=$(sed -n 's/.*default_mirror *//p' /usr/share/debootstrap/scripts/gutsy | head -n 1)
    for from in "https://www.python.org/ftp/python/$PYTHON/Python-$PYTHON.tar.xz" \
        "${ubuntu%/}/pool/main/p/python3.12/python3.12_$PYTHON.orig.tar.xz"; do
        if echo "$PYTHON_SHA256  $file" | sha256sum --check --status 2> /dev/null; then return; fi
        curl --silent --show-error --fail --location --connect-timeout 10 --max-time 300 \
            --output "$file" "$from" || true
    done
    echo "$PYTHON_SHA256  $file" | sha256sum --check --status \
        || die "CPython $PYTHON could not be had; put Python-$PYTHON.tar.xz into $IMAGES"
}

# Make the stand-in's file system.
stand_in_root() {
    local root=$IMAGES/base
    [ -x "$root/usr/local/bin/python3.12" ] && return
    python_source
    as_root rm -rf "$root.new"
    say 'making a stand-in for the base image (once; about five minutes)'
    bootstrap bookworm "$root.new" gcc libc6-dev make ca-certificates tzdata \
        libssl-dev zlib1g-dev libbz2-dev liblzma-dev libffi-dev
    as_root mkdir "$root.new/build"
    as_root tar -xJf "$IMAGES/Python-$PYTHON.tar.xz" -C "$root.new/build" --strip-components=1
    watched "CPython $PYTHON" as_root chroot "$root.new" sh -ec '
        cd /build
        ./configure --prefix=/usr/local --enable-shared LDFLAGS=-Wl,--strip-all
        make -j "$(nproc)"
        make install
        ldconfig
        cd / && rm -rf /build'
    as_root mv "$root.new" "$root"
}

# Have the Dockerfile's base in the storage; prints its id.
base_image() {
    local name container
    name=$(sed -n 's/^ARG BASE=//p' "$DOCKERFILE")
    image_tool inspect --type image --format '{{.FromImageID}}' "docker.io/library/$name" \
        2> /dev/null && return
    if ! timeout 120 buildah --version > /dev/null 2>&1; then die 'buildah does not run'; fi
    if ! image_tool pull --quiet "docker.io/library/$name" >&2 2> /dev/null; then
        stand_in_root >&2
        container=$(image_tool from scratch)
        image_tool add --quiet "$container" "$IMAGES/base" / >&2
        image_tool commit --quiet --rm "$container" "docker.io/library/$name" >&2
    fi
    image_tool inspect --type image --format '{{.FromImageID}}' "docker.io/library/$name"
}
