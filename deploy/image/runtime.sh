#!/bin/sh
# Gather what Python needs to run in an otherwise empty image: the interpreter, its
# standard library and the shared libraries they are linked to.
#
# Every file comes from the base image, so one pinned digest says what is inside. Each
# Debian package a library belongs to is named in var/lib/dpkg/status.d, where scanners
# of vulnerabilities look, and its licence comes along.
#
# Usage: runtime.sh FOLDER
set -eu
image=$1
python=/usr/local/lib/python3.12

mkdir -p "$image/usr/lib" "$image/usr/lib64" "$image/usr/local/bin" "$image/usr/local/lib" \
    "$image/etc/ssl/certs" "$image/var/lib/dpkg/status.d"
# Debian's merged /usr; the dynamic linker is asked for by its old path.
ln -s usr/lib "$image/lib"
ln -s usr/lib64 "$image/lib64"
install -d -m 1777 "$image/tmp"

cp -a /usr/local/bin/python3.12 "$image/usr/local/bin/"
ln -s python3.12 "$image/usr/local/bin/python3"
ln -s python3.12 "$image/usr/local/bin/python"
cp -a /usr/local/lib/libpython3* "$image/usr/local/lib/"
cp -a "$python" "$image/usr/local/lib/"

# What a service without screen, compiler and desktop never imports.
(
    cd "$image$python"
    rm -rf site-packages/* config-* ensurepip idlelib lib2to3 pydoc_data test tkinter \
        turtledemo turtle.py
    rm -f lib-dynload/_curses* lib-dynload/_dbm* lib-dynload/_gdbm* lib-dynload/_sqlite3* \
        lib-dynload/_test* lib-dynload/_tkinter* lib-dynload/nis.* lib-dynload/ossaudiodev* \
        lib-dynload/readline*
    find . -name __pycache__ -prune -exec rm -rf {} +
)

find "$image/usr/local" -type f \( -name '*.so' -o -name '*.so.*' -o -path '*/bin/*' \) \
    -exec ldd {} + 2> /dev/null \
    | awk '$2 == "=>" && $3 ~ "^/" { print $3 } $1 ~ "^/.*ld-linux" { print $1 }' \
    | sort -u > /tmp/libraries
# What wheels may count on anywhere (PEP 600), whether or not Python is linked to it, and
# what getaddrinfo loads by name.
for name in libpthread.so.0 librt.so.1 libdl.so.2 libutil.so.1 libm.so.6 libresolv.so.2 \
    libgcc_s.so.1 libstdc++.so.6 libnss_dns.so.2 libnss_files.so.2; do
    ls /lib/*-linux-gnu/"$name" >> /tmp/libraries
done
sort -u -o /tmp/libraries /tmp/libraries
while read -r library; do
    case $library in /usr/local/*) continue ;; esac
    mkdir -p "$image$(dirname "$library")"
    cp -L "$library" "$image$library"
    file=$(readlink -f "$library")
    package=$(dpkg -S "$file" "${file#/usr}" 2> /dev/null | sed -n '1s/:.*//p')
    [ -n "$package" ] || { echo "no package owns $library" >&2; exit 1; }
    dpkg-query -s "$package" > "$image/var/lib/dpkg/status.d/$package"
    install -D -m 644 "/usr/share/doc/$package/copyright" \
        "$image/usr/share/doc/$package/copyright"
done < /tmp/libraries

# The list by which the dynamic linker finds all this; its notes on inodes stay outside.
mkdir -p "$image/etc/ld.so.conf.d"
cp /etc/ld.so.conf "$image/etc/"
cp /etc/ld.so.conf.d/* "$image/etc/ld.so.conf.d/"
ldconfig -r "$image"
rm -rf "$image/var/cache"

cp -L /etc/ssl/certs/ca-certificates.crt "$image/etc/ssl/certs/"
mkdir -p "$image/usr/share/zoneinfo"
cp -L /usr/share/zoneinfo/UTC "$image/usr/share/zoneinfo/"
cp -L /etc/debian_version /etc/os-release "$image/etc/"
echo 'hosts: files dns' > "$image/etc/nsswitch.conf"
echo 'mixpam:x:65532:65532:mixpam:/:/sbin/nologin' > "$image/etc/passwd"
echo 'mixpam:x:65532:' > "$image/etc/group"
