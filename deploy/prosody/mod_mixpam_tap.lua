-- The tap: Prosody's side of the protocol mixpam:tap:1.
--
-- Puts MIX traffic, roster stanzas, presence and a few events onto the link of
-- one external component (XEP-0114) and does what that component sends back.
-- Everything that is decided is decided over there; the rules are in
-- deploy/tap-protocol.md, and T1..T9 and C1..C5 below are its numbers.
-- One file for Prosody 0.12 and 13: only APIs both have.
--
--   VirtualHost "example.org"
--       modules_enabled = { "mixpam_tap" }
--       mixpam_component = "mixpam.example.org"

local TAP, VERSION, ROSTER = "mixpam:tap:1", "1.0", "jabber:iq:roster";
local ROSTER_TIMEOUT = 5; -- seconds a client may wait for its annotated roster
local PAM = { ["urn:xmpp:mix:pam:0"] = true, ["urn:xmpp:mix:pam:1"] = true, ["urn:xmpp:mix:pam:2"] = true };

local st = require "util.stanza";
local jid = require "util.jid";
local new_id = require "util.id".short;
local filters = require "util.filters";
local usermanager = require "core.usermanager";
local rostermanager = require "core.rostermanager";
local incoming_s2s = require "core.s2smanager".incoming_s2s;
local hosts, bare_sessions, full_sessions = prosody.hosts, prosody.bare_sessions, prosody.full_sessions;

local component = jid.prep(module:get_option_string("mixpam_component"));
if not component then
	module:log_status("error", "mixpam_component is not set for %s: the tap does nothing", module.host);
	return;
end

local link;       -- the component's session; nil in the state "down"
local up = false; -- the component has sent its complete list of services
local passing;    -- the stanza that is being delivered past our own filter

-- C5: the MIX domains, kept so that channels stay recognised after a restart
-- even if the component comes later or not at all.
local store = module:open_store("mixpam_tap");
local services = store:get(nil) or {};

-- What several rules ask -----------------------------------------------------

local function in_mix_domain(address) return address and services[jid.host(address)]; end

local function account_exists(bare)
	return bare_sessions[bare] or usermanager.user_exists(jid.split(bare));
end

local function in_roster(bare, contact)
	local node, host = jid.split(bare);
	return rostermanager.load_roster(node, host)[jid.bare(contact)];
end

local function each_session(visit)
	for _, user in pairs(hosts[module.host].sessions) do
		for _, session in pairs(user.sessions) do visit(session); end
	end
end

-- T7
local function tell(name, attr)
	if not link then return; end
	attr.xmlns = TAP;
	link.send(st.message({ from = module.host, to = component }):tag(name, attr));
end

-- T1 to T3: without a link the stanza is dropped, for an answer from us could
-- make a channel expel the user.
local function divert(stanza)
	if link then link.send(stanza); end
	return true;
end

-- Takes the oldest entry that `matches` off `list`.
local function take(list, matches)
	for i, entry in ipairs(list or {}) do
		if matches(entry) then return table.remove(list, i); end
	end
end

-- mod_smacks queues a clone. A field on that clone (never serialised) is how
-- "delivery/failure" below knows whose stanza failed.
local function push_marked(queue, stanza)
	queue.push, stanza.mixpam = nil, true;
	return queue:push(stanza);
end

local function deliver(session, stanza)
	local queue, outer = session.outgoing_stanza_queue, passing;
	if queue then queue.push = push_marked; end
	passing = stanza;
	session.send(stanza);
	passing = outer;
	if queue then queue.push = nil; end
end

-- T1: messages of channels ---------------------------------------------------

local function is_channel_message(stanza)
	if stanza.attr.type == "error" then return false; end
	if stanza.attr.type == "groupchat" then return true; end
	for _, child in ipairs(stanza.tags) do
		local xmlns = child.attr.xmlns or "";
		if xmlns:sub(1, 13) == "urn:xmpp:mix:" then
			-- Invitations travel from user to user.
			if xmlns:sub(1, 18) ~= "urn:xmpp:mix:misc:" then return true; end
		elseif child.name == "event" and xmlns == "http://jabber.org/protocol/pubsub#event" then
			local items = child:get_child("items");
			if items and (items.attr.node or ""):sub(1, 19) == "urn:xmpp:mix:nodes:" then return true; end
		end
	end
	return false;
end

-- Priority 10: after mod_blocklist (100), before mod_mam (0), which would store
-- a forged <stanza-id/> as it came.
module:hook("message/bare", function (event)
	local stanza = event.stanza;
	if not in_mix_domain(stanza.attr.from) or not is_channel_message(stanza) then return; end
	event.mixpam = true;
	if stanza:get_child("stanza-id", "urn:xmpp:sid:0") then
		local to = stanza.attr.to;
		event.stanza = st.clone(stanza):maptags(function (tag)
			local forged = tag.name == "stanza-id" and tag.attr.xmlns == "urn:xmpp:sid:0" and jid.prep(tag.attr.by) == to;
			return not forged and tag or nil;
		end);
	end
end, 10);

-- Priority 10: before mod_mam's own answer (-1), which is "no" to any
-- groupchat. mod_mam then looks at the user's preferences itself.
module:hook("archive-should-store", function (event)
	local stanza = event.stanza;
	if stanza.attr.type ~= "groupchat" or not in_mix_domain(stanza.attr.from) then return; end
	local node, host, resource = jid.split(stanza.attr.to);
	if not node or resource or host ~= module.host then return; end
	for _, hint in ipairs { "no-store", "no-permanent-store" } do
		if stanza:get_child(hint, "urn:xmpp:hints") then return; end
	end
	if in_roster(stanza.attr.to, stanza.attr.from) then
		event.reason = "MIX channel";
		return true;
	end
end, 10);

-- Priority -0.25: after mod_mam (0) has put its <stanza-id/> on event.stanza,
-- before mod_carbons (-0.5) and mod_message (-1).
module:hook("message/bare", function (event)
	if not event.mixpam then return; end
	local stanza = event.stanza;
	local to = stanza.attr.to;
	if not account_exists(to) then return; end -- mod_message bounces
	if stanza.attr.type == "groupchat" and not bare_sessions[to] and in_roster(to, stanza.attr.from) then
		-- mod_message, which this stanza never reaches, fires this event for
		-- mod_cloud_notify to push to users who are offline.
		module:fire_event("message/bare/groupchat", { origin = event.origin, stanza = stanza });
	end
	return divert(stanza);
end, -0.25);

-- T2, T6 and presence towards channels ---------------------------------------

local channel_presence = { available = true, unavailable = true, error = true, probe = true };

-- Priority 10: after mod_blocklist (100), before mod_presence (0).
module:hook("presence/bare", function (event)
	local attr = event.stanza.attr;
	if attr.to and in_mix_domain(attr.from) and channel_presence[attr.type or "available"] and account_exists(attr.to) then
		return divert(event.stanza);
	end
end, 10);

-- Priority 150: before anything can stop or decorate the broadcast. No `to` is
-- what a broadcast looks like here; mod_presence sends one at a session's end.
module:hook("presence/bare", function (event)
	local attr = event.stanza.attr;
	if not link or attr.to or (attr.type and attr.type ~= "unavailable") then return; end
	attr.to = component;
	link.send(event.stanza);
	attr.to = nil;
end, 150);

-- Priority 200: before mod_presence (0) notes the channel as one that got
-- directed presence, and would send it unavailable in the end.
module:hook("pre-presence/bare", function (event)
	local roster, to, type = event.origin.roster, event.stanza.attr.to, event.stanza.attr.type;
	if to and roster and roster[to] and in_mix_domain(to) then
		return type == nil or type == "unavailable" or type == "probe" or nil;
	end
end, 200);

-- T3, T5, T9: IQs ------------------------------------------------------------

local function is_pam_request(stanza)
	local type, child = stanza.attr.type, stanza.tags[1];
	return (type == "get" or type == "set") and child and PAM[child.attr.xmlns];
end

-- Priority 10: before mod_iq (0). Without `to` it is the user's own request,
-- which comes by again as "iq/self".
module:hook("iq/bare", function (event)
	local stanza = event.stanza;
	local attr = stanza.attr;
	if not attr.to then
		return;
	elseif is_pam_request(stanza) then
		event.origin.send(st.error_reply(stanza, "auth", "forbidden"));
		return true;
	elseif (attr.type == "result" or attr.type == "error") and in_mix_domain(attr.from) and account_exists(attr.to) then
		return divert(stanza);
	end
end, 10);

module:hook("iq/self", function (event)
	local session, stanza = event.origin, event.stanza;
	if not is_pam_request(stanza) then return; end
	if not up then
		session.send(st.error_reply(stanza, "cancel", "service-unavailable"));
		return true;
	end
	local request = st.clone(stanza);
	request.attr.to = jid.bare(session.full_jid);
	-- On the session, because it must survive a reload of this module.
	session.mixpam_requests = session.mixpam_requests or {};
	table.insert(session.mixpam_requests, request);
	link.send(request);
	return true;
end, 10);

local function copy_preference(stanza)
	if not link then return; end
	for _, child in ipairs(stanza.tags) do
		for _, tag in ipairs { child, (table.unpack or unpack)(child.tags) } do
			if tag.name == "user-preference" and tag.attr.xmlns == "urn:xmpp:mix:anon:0" then
				link.send(stanza);
				return;
			end
		end
	end
end

-- Priority 10: after mod_blocklist (100), which may refuse the stanza.
for _, event_name in ipairs { "pre-iq/bare", "pre-iq/full", "pre-iq/host" } do
	module:hook(event_name, function (event)
		if in_mix_domain(event.stanza.attr.to) then copy_preference(event.stanza); end
	end, 10);
end

-- T4: rosters on their way to sessions that asked for annotation ---------------

local function is_roster(stanza)
	local type, query = stanza.attr.type, stanza.tags[1];
	return (type == "result" or type == "set") and query and query.name == "query" and query.attr.xmlns == ROSTER;
end

local function release(session, entry)
	if entry.over then return; end
	entry.over = true;
	deliver(session, entry.stanza);
end

local function divert_roster(stanza, session)
	if not link or stanza == passing or stanza.name ~= "iq" or not is_roster(stanza) then return stanza; end
	-- A push is one table that all sessions share: work on a clone.
	local copy = st.clone(stanza);
	copy.attr.from, copy.attr.to = copy.attr.from or jid.bare(session.full_jid), session.full_jid;
	local annotate = st.stanza("annotate", { xmlns = "urn:xmpp:mix:roster:0" });
	table.insert(copy.tags[1], 1, annotate);
	table.insert(copy.tags[1].tags, 1, annotate);
	local entry = { stanza = stanza };
	session.mixpam_rosters = session.mixpam_rosters or {};
	table.insert(session.mixpam_rosters, entry);
	module:add_timer(ROSTER_TIMEOUT, function () release(session, entry); end);
	link.send(copy);
	return nil;
end

-- Priority 1000: before mod_smacks (-999) counts and queues, so that the stanza
-- counts once, when it comes back. A filter of the session, not a global one:
-- sessions without the flag pay nothing.
local function flag(session, annotate)
	session.mixpam_annotate = annotate;
	filters.remove_filter(session, "stanzas/out", divert_roster);
	if annotate then filters.add_filter(session, "stanzas/out", divert_roster, 1000); end
end

-- Priority 10: before mod_roster (0) answers.
module:hook("iq/self/jabber:iq:roster:query", function (event)
	if event.stanza.attr.type ~= "get" then return; end
	local query = event.stanza.tags[1];
	local annotate = query:get_child("annotate", "urn:xmpp:mix:roster:0") ~= nil;
	flag(event.origin, annotate);
	-- The annotations are no part of the version: "unchanged" would hide them.
	if annotate then query.attr.ver = nil; end
end, 10);

-- C1: stanzas for one session --------------------------------------------------

-- Whether an IQ for `session` is to be delivered; closes what it answers.
local function settle(session, stanza)
	local attr = stanza.attr;
	if is_roster(stanza) then
		local entry = take(session.mixpam_rosters, function (e)
			return e.stanza.attr.id == attr.id and e.stanza.attr.type == attr.type;
		end);
		if entry then
			if entry.over then return false; end -- the client has the original
			entry.over = true;
			attr.from, attr.to = entry.stanza.attr.from, entry.stanza.attr.to;
			return true;
		end
	end
	if attr.type == "result" or attr.type == "error" then
		take(session.mixpam_requests, function (request) return request.attr.id == attr.id; end);
	end
	return true;
end

-- Priority 10: before mod_mam (0) archives again, mod_carbons (-0.5) copies and
-- mod_message, mod_iq and mod_presence look for another resource.
local function to_session(event)
	local stanza = event.stanza;
	if event.origin ~= link then
		if stanza.name == "iq" and in_mix_domain(stanza.attr.from) then copy_preference(stanza); end
		return;
	end
	local session = full_sessions[stanza.attr.to];
	if session and (stanza.name ~= "iq" or settle(session, stanza)) then deliver(session, stanza); end
	return true;
end
module:hook("message/full", to_session, 10);
module:hook("presence/full", to_session, 10);
module:hook("iq/full", to_session, 10);

-- Priority 10: before mod_smacks (0) stores a copy offline or sends an error.
module:hook("delivery/failure", function (event)
	if event.stanza.mixpam then return true; end
end, 10);

-- C3 and T8: rosters -----------------------------------------------------------

-- Appends roster entry `item` (nil: removed) of `contact` to `stanza`.
local function add_item(stanza, contact, item)
	if not item then
		return stanza:tag("item", { jid = contact, subscription = "remove" }):up();
	end
	stanza:tag("item", { jid = contact, subscription = item.subscription, ask = item.ask, name = item.name });
	local groups = {};
	for group in pairs(item.groups or {}) do table.insert(groups, group); end
	table.sort(groups);
	for _, group in ipairs(groups) do stanza:text_tag("group", group); end
	return stanza:up();
end

local function same(a, b)
	return tostring(add_item(st.stanza("x"), "x", a)) == tostring(add_item(st.stanza("x"), "x", b));
end

local function report(username, contact, item)
	if not link or not in_mix_domain(contact) then return; end
	local push = st.iq({ type = "set", id = new_id(), from = username.."@"..module.host, to = component }):query(ROSTER);
	link.send(add_item(push, contact, item));
end

-- Prosody has no event for "a roster item changed", and many hands change
-- rosters. All of them end in a store opened by this name. Drivers without a
-- map of their own (internal storage) have one built on the keyval store.
module:hook("store-opened", function (event)
	local inner = event.store;
	if event.store_name ~= "roster" or inner.keyval_store then return; end
	local outer = {};
	if event.store_type == "keyval" then
		function outer:set(username, roster)
			local old = link and roster and next(services) and inner.get(self, username) or {};
			local ok, err = inner.set(self, username, roster);
			if not ok or not roster then return ok, err; end -- a deleted account has its own event
			for contact in pairs(old) do
				if contact and not roster[contact] then report(username, contact); end
			end
			for contact, item in pairs(roster) do
				if contact and not (old[contact] and same(old[contact], item)) then report(username, contact, item); end
			end
			return ok, err;
		end
	elseif event.store_type == "map" then
		function outer:set_keys(username, items)
			local ok, err = inner.set_keys(self, username, items);
			for contact, item in pairs(ok and items or {}) do
				if contact then report(username, contact, item ~= inner.remove and item or nil); end
			end
			return ok, err;
		end
	end
	event.store = setmetatable(outer, { __index = inner });
end);

local function get_roster(stanza, roster)
	local reply = st.reply(stanza):query(ROSTER);
	for contact, item in pairs(roster) do
		if contact then add_item(reply, contact, item); end
	end
	return reply;
end

local function set_roster(stanza, roster, node)
	local items = stanza.tags[1].tags;
	local attr = items[1] and items[1].attr or {};
	local contact, wanted = jid.prep(attr.jid), attr.subscription;
	if #items ~= 1 or items[1].name ~= "item" or not contact or jid.resource(contact) or contact == stanza.attr.to
	or not (wanted == "from" or wanted == "none" or wanted == "remove") then
		return st.error_reply(stanza, "modify", "bad-request");
	end
	local old, new = roster[contact], nil;
	if wanted ~= "remove" then
		new = { name = attr.name, groups = {} };
		if old then
			for key, value in pairs(old) do new[key] = value; end
		else
			for group in items[1]:childtags("group") do new.groups[group:get_text() or ""] = true; end
			new.groups[""] = nil;
		end
		new.subscription, new.ask = wanted, nil;
	end
	if old or new then
		roster[contact] = new;
		if not rostermanager.save_roster(node, module.host, roster, contact) then
			roster[contact] = old;
			return st.error_reply(stanza, "wait", "internal-server-error");
		end
		rostermanager.roster_push(node, module.host, contact);
	end
	return st.reply(stanza);
end

-- Priority 110: before mod_blocklist (100); blocking the component's address
-- must not part the component from the roster.
module:hook("iq/bare", function (event)
	local stanza = event.stanza;
	local type, to = stanza.attr.type, stanza.attr.to;
	if event.origin ~= link or stanza.attr.from ~= component or (type ~= "get" and type ~= "set") then return; end
	if not stanza.tags[1] or stanza.tags[1].attr.xmlns ~= ROSTER or stanza.tags[1].name ~= "query" then return; end
	if not account_exists(to) then
		link.send(st.error_reply(stanza, "cancel", "item-not-found"));
		return true;
	end
	local node = jid.split(to);
	local roster, err = rostermanager.load_roster(node, module.host);
	if err then
		link.send(st.error_reply(stanza, "wait", "internal-server-error", err));
	else
		link.send((type == "get" and get_roster or set_roster)(stanza, roster, node));
	end
	return true;
end, 110);

-- C5, hello, replay, states ----------------------------------------------------

local function archives()
	-- "roster" archives too: channels are in the roster.
	local policy = module:get_option("default_archive_policy", true);
	return hosts[module.host].modules.mam ~= nil and policy ~= false and policy ~= "false" and policy ~= "never";
end

-- Priority 10: before mod_message and whoever else listens to the host's mail.
module:hook("message/host", function (event)
	local stanza = event.stanza;
	if event.origin ~= link or stanza.attr.from ~= component then return; end
	local list = stanza:get_child("services", TAP);
	if not list then return; end
	local complete = list.attr.complete == "true" or list.attr.complete == "1";
	local known = {};
	if not complete then
		for domain in pairs(services) do known[domain] = true; end
	end
	for service in list:childtags("service") do
		local node, domain, resource = jid.prepped_split(service.attr.jid);
		if domain and not node and not resource then known[domain] = true; end
	end
	services, up = known, up or complete;
	local ok, err = store:set(nil, services);
	if not ok then module:log("error", "The MIX domains will be forgotten at a restart: %s", err); end
	return true;
end, 10);

module:hook("account-disco-info", function (event)
	local reply = event.reply;
	-- Only the user's own sessions may send pam requests.
	if not up or jid.bare(reply.attr.to) ~= reply.attr.from then return; end
	reply:tag("feature", { var = "urn:xmpp:mix:pam:2" }):up();
	reply:tag("feature", { var = "urn:xmpp:mix:pam:0" }):up();
	if archives() then reply:tag("feature", { var = "urn:xmpp:mix:pam:2#archive" }):up(); end
end);

local function link_up(session)
	link, up = session, false;
	tell("hello", {
		version = "1", tap = VERSION, software = "Prosody "..prosody.version, archive = tostring(archives());
	});
	each_session(function (s)
		if s.presence then
			local presence = st.clone(s.presence);
			presence.attr.from, presence.attr.to = s.full_jid, component;
			link.send(presence);
		end
		if s.hibernating then tell("hibernated", { jid = s.full_jid }); end
	end);
	tell("replayed", {});
end

local function release_rosters(session)
	local entries = session.mixpam_rosters or {};
	session.mixpam_rosters = nil;
	for _, entry in ipairs(entries) do release(session, entry); end
end

local function link_down()
	link, up = nil, false;
	each_session(function (session)
		release_rosters(session);
		local requests = session.mixpam_requests or {};
		session.mixpam_requests = nil;
		for _, request in ipairs(requests) do
			session.send(st.error_reply(request, "cancel", "service-unavailable"));
		end
	end);
end

local function watch_component()
	local events = hosts[component].events;
	if module:context(component):get_option_boolean("validate_from_addresses", true) then
		module:log_status("error", "Component %q needs validate_from_addresses = false", component);
	end
	module:hook_object_event(events, "component-authenticated", function (event) link_up(event.session); end, -10);
	-- Fires for refused and replaced connections too.
	module:hook_object_event(events, "component-disconnected", function (event)
		if event.session == link then link_down(); end
	end, -10);
end

-- Hosts come up in random order, and the component's may come and go.
module:hook_global("host-activated", function (host)
	if host == component then watch_component(); end
end);
module:hook_global("host-deactivating", function (event)
	if event.host == component and link then link_down(); end
end);

-- T7: events -------------------------------------------------------------------

module:hook("smacks-hibernation-start", function (event)
	tell("hibernated", { jid = event.origin.full_jid });
end);

module:hook("smacks-hibernation-end", function (event)
	-- The resumed session has the filters of its new connection.
	if event.resumed.mixpam_annotate then flag(event.resumed, true); end
	tell("resumed", { jid = event.resumed.full_jid });
end);

-- Priority -10: after mod_c2s (200) has closed the sessions.
module:hook_global("user-deleted", function (event)
	if event.host ~= module.host then return; end
	-- rostermanager keeps the rosters of users who are offline, and hands a
	-- deleted one on to whoever registers the name next.
	local cache = hosts[module.host].roster_cache;
	if cache then cache:set(event.username.."@"..event.host, nil); end
	tell("user-removed", { jid = event.username.."@"..event.host });
end, -10);

-- A remote domain is up as long as one stream, either way, is established.
local function s2s_changed(remote, session, state)
	local out = hosts[module.host].s2sout[remote];
	if out and out ~= session and out.type == "s2sout" then return; end
	for other in pairs(incoming_s2s) do
		if other ~= session and other.type == "s2sin" and other.from_host == remote and other.to_host == module.host then return; end
	end
	tell("s2s", { domain = remote, state = state });
end

for state, suffix in pairs { up = "established", down = "destroyed" } do
	module:hook("s2sout-"..suffix, function (event) s2s_changed(event.session.to_host, event.session, state); end);
	module:hook("s2sin-"..suffix, function (event) s2s_changed(event.session.from_host, event.session, state); end);
end

-- Loading, reloading -----------------------------------------------------------

local function attach(saved)
	if hosts[component] then watch_component(); end
	each_session(function (session) if session.mixpam_annotate then flag(session, true); end end);
	local service = hosts[component] and hosts[component].modules.component;
	local session = service and service.connected and service.session or nil;
	if session and session == saved.link then
		link, up = session, saved.up; -- nothing can have been missed
	elseif session then
		link_up(session);
	end
end

function module.load() if not module.reloading then attach({}); end end
function module.save() return { link = link, up = up }; end
function module.restore(saved) attach(saved); end

function module.unload()
	each_session(function (session)
		filters.remove_filter(session, "stanzas/out", divert_roster);
		-- Kept as "over" over a reload, so that late answers are recognised.
		for _, entry in ipairs(session.mixpam_rosters or {}) do release(session, entry); end
	end);
	if not module.reloading then link_down(); end
end
