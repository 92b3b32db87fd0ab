-- Prosody with mixpam: a complete, minimal example.
--
-- Runs unchanged on Prosody 0.12 and 13. An operator with a running server
-- needs only the four lines marked "mixpam"; README.md beside this file
-- explains them.

-- mixpam: the folder that holds mod_mixpam_tap.lua.
plugin_paths = { "/usr/local/lib/prosody/modules" }

data_path = "/var/lib/prosody"
pidfile = "/run/prosody/prosody.pid"

-- Lua's garbage collector waits until memory has grown by a half, not by a
-- twentieth (105, Prosody's default): half the work for some MB; see README.md.
gc = { threshold = 150 }

-- "debug" shows every step; for production give a file name instead.
log = { info = "*console" }

-- Open "interfaces" to the world for clients and other servers. The component
-- port must stay reachable for the mixpam process only: whoever knows the
-- component's secret speaks in every user's name.
interfaces = { "127.0.0.1" }
component_interfaces = { "127.0.0.1" }
c2s_ports = { 5222 }
s2s_ports = { 5269 }
component_ports = { 5347 }
-- mixpam: a component's link ends with a stanza of more bytes. MIXPAM_SERVER_STANZA_BYTES
-- must not be more; raise both for stanzas larger than MIXPAM_MAX_STANZA_BYTES.
component_stanza_size_limit = 524288

-- Production: leave the first three as they are and give Prosody certificates
-- (`prosodyctl cert import`). Without certificates nobody can log in.
c2s_require_encryption = true
s2s_require_encryption = true
allow_unencrypted_plain_auth = false
-- Production: true, unless you must reach servers without a valid certificate.
s2s_secure_auth = false

authentication = "internal_hashed"
storage = "internal"

-- Every message of every user is archived unless the user asks otherwise.
-- mixpam advertises channel archiving only where this is true. "internal"
-- storage keeps at most 10,000 messages per user: see README.md.
default_archive_policy = true
archive_expires_after = "1w"

modules_enabled = {
	-- What any server needs.
	"roster"; "saslauth"; "tls"; "dialback"; "disco";
	-- What mixpam builds on: the user's archive, resumption, blocking.
	"mam"; "smacks"; "blocklist";
	-- What clients expect.
	"carbons"; "pep"; "vcard4"; "version"; "uptime"; "ping";
	-- `prosodyctl shell`, to reload modules and delete users.
	"admin_shell";
	-- mixpam: the tap, on every VirtualHost that has a mixpam_component.
	"mixpam_tap";
}

VirtualHost "example.org"
	-- mixpam: which component serves this domain's users. Several
	-- VirtualHosts may name the same one.
	mixpam_component = "mixpam.example.org"

-- mixpam: the component itself.
Component "mixpam.example.org"
	component_secret = "change-me"
	-- It passes on what a channel sent with the channel's own address.
	validate_from_addresses = false
