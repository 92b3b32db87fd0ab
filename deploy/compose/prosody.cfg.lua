-- Prosody in docker-compose.yml: ../prosody/prosody.cfg.lua, with what containers need.

plugin_paths = { "/etc/prosody/modules" }
data_path = "/var/lib/prosody"
log = { info = "*console" }

-- The networks of the Compose file say who can come here.
interfaces = { "*" }
component_interfaces = { "*" }
component_ports = { 5347 }
-- As MIXPAM_SERVER_STANZA_BYTES.
component_stanza_size_limit = 524288

ssl = { certificate = "/run/secrets/certificate", key = "/run/secrets/key" }
c2s_require_encryption = true
s2s_require_encryption = true
s2s_secure_auth = false

authentication = "internal_hashed"
storage = "internal"
default_archive_policy = true
archive_expires_after = "1w"

modules_enabled = {
	"roster"; "saslauth"; "tls"; "dialback"; "disco";
	"mam"; "smacks"; "blocklist";
	"carbons"; "pep"; "vcard4"; "version"; "uptime"; "ping";
	"admin_shell";
	"mixpam_tap";
}

VirtualHost "example.org"
	mixpam_component = "mixpam.example.org"

Component "mixpam.example.org"
	component_secret = FileLine("/run/secrets/server-secret")
	validate_from_addresses = false
