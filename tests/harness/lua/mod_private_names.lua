-- Names of the servers of a test or of the demo: those in a file of lines "ADDRESS NAME...", or
-- "ADDRESS:PORT NAME..." where server-to-server connections go to another port. Everything else
-- does not exist. No packet leaves for a DNS server.
module:set_global();

local known = {};
for line in io.lines(module:get_option_string("private_names")) do
	local address, port, names = line:match("^([%d.]+):?(%d*)%s+(.*)$");
	for name in names:gmatch("%S+") do
		known[name .. " A"] = { a = address };
		if port ~= "" then
			known["_xmpp-server._tcp." .. name .. " SRV"] = {
				srv = { target = name, port = tonumber(port), priority = 1, weight = 1 };
			};
		end
	end
end

local found, adns = pcall(require, "prosody.net.adns");
if not found then adns = require "net.adns"; end

local resolver = {};

function resolver.lookup(_, callback, name, kind)
	local answer = known[tostring(name):gsub("%.$", "") .. " " .. kind];
	if answer then
		callback({ answer });
	else
		callback({}, "NXDOMAIN");
	end
	return true;
end

adns.resolver = function () return resolver; end
adns.lookup = function (callback, name, kind) return resolver:lookup(callback, name, kind); end
