-- What tests of the tap need of Prosody itself: sessions with filters that change stanzas, and a
-- reload.
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
