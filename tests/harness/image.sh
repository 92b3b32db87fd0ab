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

BUILDAH=(env BUILDAH_ISOLATION=chroot buildah --storage-driver vfs
    --root "$IMAGES/storage" --runroot "$IMAGES/run")

image_tool() { as_root "${BUILDAH[@]}" "$@"; }

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
    # shellcheck disable=SC2016
    watched "CPython $PYTHON" as_root chroot "$root.new" sh -ec '
        cd /build
        ./configure --prefix=/usr/local --enable-shared LDFLAGS=-Wl,--strip-all
        make -j "$(nproc)"
        make install
        ldconfig
        rm -rf /build /usr/local/lib/python3.12/test'
    as_root mv "$root.new" "$root"
}

# Have the Dockerfile's base in the storage.
need_base() {
    local name container
    name=docker.io/library/$(sed -n 's/^ARG BASE=//p' "$DOCKERFILE")
    image_tool inspect --type image "$name" > /dev/null 2>&1 && return
    say "fetching $name"
    as_root timeout -k 5 300 "${BUILDAH[@]}" pull --quiet --retry 0 "$name" > /dev/null 2>&1 \
        && return
    say 'it cannot be had from here'
    stand_in_root
    container=$(image_tool from scratch)
    image_tool add --quiet "$container" "$IMAGES/base" / > /dev/null
    image_tool commit --quiet --rm "$container" "$name" > /dev/null
    as_root rm -rf "$IMAGES/base"
}

# What pip has to know inside to reach the index this machine uses.
pip_configuration() {
    local key value
    printf '[global]\ncert = /etc/pip-certificates.crt\n'
    for key in index-url proxy; do
        if value=$("$VENV/bin/python" -m pip config get "global.$key" 2> /dev/null); then
            echo "$key = $value"
        fi
    done
}

# A name that changes with what the image is built from.
image_name() {
    local sum
    sum=$(tar -C "$HERE" --sort=name --mtime=@0 --owner=0 --group=0 --mode=u+rw,go+r \
        --exclude=__pycache__ -cf - .dockerignore deploy/Dockerfile deploy/image component schemas \
        | sha256sum | cut -c1-16)
    echo "localhost/mixpam-test:$sum"
}

# Have the image, and a container of it: its name is in CONTAINER.
need_image() {
    local image old size
    mkdir -p "$IMAGES"
    image=$(image_name)
    if image_tool inspect --type image "$image" > /dev/null 2>&1; then
        say "$image is built already"
    else
        need_base
        pip_configuration > "$IMAGES/pip.conf"
        watched "building $image" image_tool bud -f "$DOCKERFILE" -t "$image" \
            --volume "$IMAGES/pip.conf:/etc/pip.conf:ro" \
            --volume /etc/ssl/certs/ca-certificates.crt:/etc/pip-certificates.crt:ro "$HERE"
        for old in $(image_tool images --format '{{.Name}}:{{.Tag}}' \
            | grep '^localhost/mixpam-test:' | grep -v -F "$image"); do
            image_tool rmi "$old" > /dev/null
        done
    fi
    CONTAINER=$(image_tool from --name "mixpam-test-$$" "$image")
    size=$(as_root du -s --apparent-size --block-size=1000000 "$(image_tool mount "$CONTAINER")" \
        | cut -f1)
    say "$image: $size MB unpacked; at most $LARGEST_MB is allowed"
    [ "$size" -lt "$LARGEST_MB" ] || die 'the image is too large'
}

drop_container() {
    [ -z "${CONTAINER:-}" ] || image_tool rm "$CONTAINER" > /dev/null
}
