#!/bin/sh
# Make the secrets, the test accounts' passwords and a self-signed certificate that
# docker-compose.yml mounts. What is there already stays as it is.
#
# All of it lands in `secrets` beside this file, a folder that only you can enter. Needs
# openssl.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
chmod 700 secrets
cd secrets

random() { openssl rand -hex 32; }
[ -s mixpam-secret ] || random > mixpam-secret
[ -s redis-password ] || random > redis-password
[ -s alice ] || random > alice
[ -s bob ] || random > bob
[ -s certificate.pem ] || openssl req -x509 -newkey rsa:2048 -nodes -days 365 \
    -subj /CN=example.org -addext subjectAltName=DNS:example.org \
    -keyout key.pem -out certificate.pem 2> /dev/null

cp mixpam-secret server-secret
echo "redis://mixpam:$(cat redis-password)@redis:6379/0" > redis-url
hash=$(tr -d '\n' < redis-password | openssl dgst -sha256 -r | cut -d' ' -f1)
sed "s/PASSWORD_SHA256/$hash/" ../../redis/users.acl | grep -v '^#' > redis-users

# Servers and Redis read theirs under users of their own, so the files are open; the
# folder is not. The component refuses secrets that everybody may read, so its two stay
# closed, and it runs under the number that owns them.
chmod 644 server-secret redis-users redis-password alice bob certificate.pem key.pem
uid=$(id -u) gid=$(id -g)
if [ "$uid" = 0 ]; then
    uid=65532 gid=65532
    chown "$uid:$gid" mixpam-secret redis-url
fi
chmod 600 mixpam-secret redis-url
printf 'MIXPAM_UID=%s\nMIXPAM_GID=%s\n' "$uid" "$gid" > ../../.env
chmod 644 ../../.env
echo 'Ready. Accounts alice@example.org and bob@example.org; passwords in compose/secrets.'
