-- Functions of Prosody itself for tests of the tap: sessions with filters that change stanzas, and
-- a reload.
local filters = require "util.filters";
local modulemanager = require "core.modulemanager";
local st = require "util.stanza";

local function touch(stanza)
	if stanza.name == "message" then stanza:tag("touched", { xmlns = "urn:example:test" }):up(); end
	return stanza;
end
local kinds = {
	touch = touch;
	clone = function (stanza) return touch(st.clone(stanza)); end;
	drop = function (stanza) return stanza.name ~= "message" and stanza or nil; end;
};

-- A resource "filter-touch-…" has that filter.
module:hook("resource-bind", function (event)
	local kind = kinds[event.session.resource:match("^filter%-(%a+)")];
	if kind then filters.add_filter(event.session, "stanzas/out", kind); end
end);

module:hook("iq-set/host/urn:example:test:reload", function (event)
	modulemanager.reload(module.host, "mixpam_tap");
	event.origin.send(st.reply(event.stanza));
	return true;
end);

-- The number of ended sessions that are still in memory.
local bound = setmetatable({}, { __mode = "k" });
module:hook("resource-bind", function (event) bound[event.session] = event.session.full_jid; end);
module:hook("iq-get/host/urn:example:test:ended", function (event)
	collectgarbage();
	collectgarbage();
	local ended = 0;
	for session, full in pairs(bound) do
		if prosody.full_sessions[full] ~= session then ended = ended + 1; end
	end
	event.origin.send(st.reply(event.stanza):tag("ended", {
		xmlns = "urn:example:test", count = ("%d"):format(ended),
	}));
	return true;
end);
