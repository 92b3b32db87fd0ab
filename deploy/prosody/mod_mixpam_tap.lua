-- The tap: Prosody's side of the protocol mixpam:tap:1.
--
-- Puts MIX traffic, roster stanzas, presence and a few events onto the link of one external component
-- (XEP-0114) and does what that sends back; it decides nothing. The rules are in ../tap-protocol.md, T1..T10
-- and C1..C6 are its numbers. Comments on hooks begin with the priority. For Prosody 0.12 and 13.
local TAP, ROSTER, ANNOTATE = "mixpam:tap:1", "jabber:iq:roster", "urn:xmpp:mix:roster:0";
local SID, HINTS, PREFERENCE = "urn:xmpp:sid:0", "urn:xmpp:hints", "urn:xmpp:mix:anon:0";
local ADDRESS = "http://jabber.org/protocol/address";
local ROSTER_TIMEOUT = 5; -- seconds a client waits for its annotated roster
local st, jid, filters = require "util.stanza", require "util.jid", require "util.filters";
local usermanager, rostermanager = require "core.usermanager", require "core.rostermanager";
local incoming_s2s = require "core.s2smanager".incoming_s2s;
local hosts, bare_sessions, full_sessions = prosody.hosts, prosody.bare_sessions, prosody.full_sessions;
local component = jid.prep(module:get_option_string("mixpam_component"));
if not component then return module:log_status("error", "mixpam_component is not set: the tap does nothing"); end
local link; -- the component's session; nil in the state "down"
local up = false; -- the component has sent its complete list of services
local gathering; -- where T10 goes; nil if the component takes T1 only
local passing; -- the stanza being delivered past our own filter
-- C5: stored, so that channels are known after a restart before the component is back.
local store = module:open_store("mixpam_tap");
local services = store:get(nil) or {};
local function in_mix_domain(address) return address and services[jid.host(address)]; end
local function account_exists(bare) return bare_sessions[bare] or usermanager.user_exists(jid.split(bare)); end
local function in_roster(bare, contact)
	local node, host = jid.split(bare);
	return rostermanager.load_roster(node, host)[jid.bare(contact)]; -- cached, for offline users too
end
local function each_session(visit)
	for _, session in pairs(full_sessions) do if session.host == module.host then visit(session); end end
end

-- T10: messages that differ only in `to` and the user's archive id go together. They wait until Prosody has
-- read all there is to read at the moment, which is when its timers run, or until something else goes.
local MOST, MOST_BYTES = 500, 65000; -- 64 KiB with what is around them
local batch; -- [n]: an <address/> as text; `bytes` of them; `first` message, without its `id` element
local timed = false; -- a timer is on its way
-- The attributes and the inside of a stanza, as text: every other ">" in it is escaped.
local function halves(stanza)
	local attributes, inside = tostring(stanza):match("^<%a+([^>]-)/?>(.*)$");
	return attributes, inside:sub(1, -#"</>" - #stanza.name - 1);
end
local function flush()
	local open = batch;
	batch = nil;
	if not open or not link then return; end
	if #open == 1 then return link.send(open.id and open.first:add_direct_child(open.id) or open.first); end
	open.first.attr.to = gathering;
	local attributes, inside = halves(open.first);
	link.send("<message"..attributes.."><addresses xmlns='"..ADDRESS.."'>"..table.concat(open).."</addresses>"
		..inside.."</message>");
end
-- T1 to T3. Without a link it is dropped: an error might make a channel expel the user.
local function divert(stanza)
	flush();
	if link then link.send(stanza); end
	return true;
end
local function alike(a, b, except)
	if a == b then return true; end
	if type(a) ~= "table" or type(b) ~= "table" or a.name ~= b.name or #a ~= #b then return false; end
	for key, value in pairs(a.attr) do if key ~= except and b.attr[key] ~= value then return false; end end
	for key in pairs(b.attr) do if a.attr[key] == nil then return false; end end
	for i = 1, #a do if not alike(a[i], b[i]) then return false; end end
	return true;
end
local function address_text(to, id)
	return "<address type='to' jid='"..st.xml_escape(to)..(id and "' id='"..st.xml_escape(id) or "").."'/>";
end
local function gather(stanza, origin)
	-- Modules of this server may go on with their stanza; what came over a connection is nobody else's.
	if not gathering or not origin.conn then return divert(stanza); end
	local to, id = stanza.attr.to, stanza.tags[#stanza.tags];
	if id and id == stanza[#stanza] and id.name == "stanza-id" and id.attr.xmlns == SID and id.attr.by == to then
		table.remove(stanza); table.remove(stanza.tags); -- mod_mam puts it last, on a clone
	else
		id = nil;
	end
	local address = address_text(to, id and id.attr.id);
	if batch and (#batch == MOST or batch.bytes + #address > MOST_BYTES or not alike(batch.first, stanza, "to")) then
		flush();
	end
	if not batch then
		batch = { first = stanza, id = id, bytes = 0 };
		timed = timed or module:add_timer(0, function () timed = false; flush(); end);
	end
	table.insert(batch, address);
	batch.bytes = batch.bytes + #address;
	return true;
end
local function tell(name, attr) -- T7
	attr.xmlns = TAP;
	return divert(st.message({ from = module.host, to = component }):tag(name, attr));
end

-- mod_smacks queues a clone; a field on it, never serialised, tells "delivery/failure" whose it was.
local function push_marked(queue, stanza)
	queue.push, stanza.mixpam = nil, true;
	return queue:push(stanza);
end
local function past_filter(session, stanza, act, ...)
	local queue, outer = session.outgoing_stanza_queue, passing;
	if queue then queue.push = push_marked; end
	passing = stanza;
	local result = act(...);
	passing = outer;
	if queue then queue.push = nil; end
	return result;
end
local function deliver(session, stanza) past_filter(session, stanza, session.send, stanza); end

-- T4, T5: what kind of IQ from the component this would be the awaited one for.
local function answers(stanza)
	local type, query = stanza.attr.type, stanza.tags[1];
	local roster = query and query.name == "query" and query.attr.xmlns == ROSTER;
	if roster then return type == "set" and "push" or type == "result" and "roster"; end
	return (type == "result" or type == "error") and "answer";
end
-- Kept on the session, to survive a reload. `otherwise`: what it gets if the component fails.
local function await(session, id, kind, otherwise)
	local entry = { id = id, kind = kind, otherwise = otherwise };
	session.mixpam_awaited = session.mixpam_awaited or {};
	table.insert(session.mixpam_awaited, entry);
	return entry;
end
local function release(session, entry)
	if not entry.over then deliver(session, entry.otherwise); end
	entry.over = true;
end

-- T1: messages of channels
local function is_channel_message(stanza)
	if stanza.attr.type == "groupchat" or stanza.attr.type == "error" then return stanza.attr.type == "groupchat"; end
	for _, child in ipairs(stanza.tags) do
		local xmlns = child.attr.xmlns or "";
		if xmlns:find("^urn:xmpp:mix:") and not xmlns:find("^urn:xmpp:mix:misc:") then return true; end
		local items = child.name == "event" and xmlns == "http://jabber.org/protocol/pubsub#event" and child:get_child("items");
		if items and (items.attr.node or ""):find("^urn:xmpp:mix:nodes:") then return true; end
	end
end

-- A participant's address is `id#channel@…`: who has blocked the channel has blocked that, too. mod_blocklist
-- knows only whole addresses, so it is asked with a presence of the channel, which our own hook below ends.
local not_blocked = {};
local function is_channel_blocked(event)
	local node, host = jid.split(event.stanza.attr.from);
	local channel = node and node:match("^[^#]*#(.+)$");
	if not channel then return; end
	local asked = st.presence({ from = channel.."@"..host, to = event.stanza.attr.to });
	return module:fire_event("presence/bare", { origin = event.origin, stanza = asked, mixpam_asks = true }) ~= not_blocked;
end

-- 10: after mod_blocklist (100), before mod_mam (0), which stores a forged <stanza-id/> as it came.
module:hook("message/bare", function (event)
	local stanza, to = event.stanza, event.stanza.attr.to;
	if not in_mix_domain(stanza.attr.from) or not is_channel_message(stanza) then return; end
	if is_channel_blocked(event) then return true; end
	event.mixpam = true;
	if not stanza:get_child("stanza-id", SID) then return; end
	event.stanza = st.clone(stanza):maptags(function (tag)
		local forged = tag.name == "stanza-id" and tag.attr.xmlns == SID and jid.prep(tag.attr.by) == to;
		return not forged and tag or nil;
	end);
end, 10);

-- 10: before mod_mam's own answer (-1), "no" to any groupchat. It goes on to ask the user's preferences.
-- What else is diverted nobody asked for: not even a chat message of a channel is stored.
module:hook("archive-should-store", function (event)
	local stanza = event.stanza;
	if not in_mix_domain(stanza.attr.from) or not is_channel_message(stanza) then return; end
	local node, host, resource = jid.split(stanza.attr.to);
	if not node or resource or host ~= module.host then return; end
	if stanza.attr.type ~= "groupchat" then return false; end
	if stanza:get_child("no-store", HINTS) or stanza:get_child("no-permanent-store", HINTS) then return; end
	return in_roster(stanza.attr.to, stanza.attr.from) and true or nil;
end, 10);

-- -0.25: after mod_mam (0) put its <stanza-id/> on, before mod_carbons (-0.5) and mod_message (-1).
module:hook("message/bare", function (event)
	local stanza, to = event.stanza, event.stanza.attr.to;
	if not event.mixpam or not account_exists(to) then return; end -- mod_message answers for who is not there
	if stanza.attr.type == "groupchat" and not bare_sessions[to] and in_roster(to, stanza.attr.from) then
		-- mod_cloud_notify pushes on this event, which mod_message, never reached, would fire.
		module:fire_event("message/bare/groupchat", { origin = event.origin, stanza = stanza });
	end
	return gather(stanza, event.origin);
end, -0.25);

-- T2, T6, presence towards channels
-- 10: after mod_blocklist (100), before mod_presence (0).
module:hook("presence/bare", function (event)
	local attr = event.stanza.attr;
	if event.mixpam_asks then return not_blocked; end
	if not attr.to or not in_mix_domain(attr.from) or (attr.type or ""):find("subscribe") then return; end
	if is_channel_blocked(event) then return true; end
	return account_exists(attr.to) and divert(event.stanza) or nil;
end, 10);
-- 150: before anybody decorates it. No `to` is what a broadcast has; mod_presence makes one at a session's end.
module:hook("presence/bare", function (event)
	local attr = event.stanza.attr;
	if attr.to or (attr.type and attr.type ~= "unavailable") then return; end
	attr.to = component; divert(event.stanza); attr.to = nil;
end, 150);
-- 200: before mod_presence (0) notes the channel as one to send unavailable in the end.
module:hook("pre-presence/bare", function (event)
	local roster, to, type = event.origin.roster, event.stanza.attr.to, event.stanza.attr.type;
	if not to or not roster or not roster[to] or not in_mix_domain(to) then return; end
	return type == nil or type == "unavailable" or type == "probe" or nil;
end, 200);

-- T3, T5, T9: IQs
local function is_pam_request(stanza)
	local type, child = stanza.attr.type, stanza.tags[1];
	return (type == "get" or type == "set") and child and (child.attr.xmlns or ""):find("^urn:xmpp:mix:pam:[012]$");
end
-- 10: before mod_iq (0). The user's own requests have no `to` here and come again as "iq/self".
module:hook("iq/bare", function (event)
	local stanza, attr = event.stanza, event.stanza.attr;
	if not attr.to then return; end
	if is_pam_request(stanza) then return event.origin.send(st.error_reply(stanza, "auth", "forbidden")) or true; end
	if attr.type ~= "result" and attr.type ~= "error" then return; end
	if not in_mix_domain(attr.from) and (attr.id or ""):sub(1, 7) ~= "mixpam:" then return; end
	return divert(stanza); -- even when the account has gone meanwhile
end, 10);
module:hook("iq/self", function (event)
	local session, request = event.origin, st.clone(event.stanza);
	if not is_pam_request(request) then return; end
	request.attr.to = jid.bare(session.full_jid);
	local refusal = st.error_reply(request, "cancel", "service-unavailable");
	if not up then return session.send(refusal) or true; end
	await(session, request.attr.id, "answer", refusal);
	return divert(request);
end, 10);
local function copy_preference(stanza, other)
	for _, child in ipairs(in_mix_domain(other) and stanza.tags or {}) do
		local found = child.name == "user-preference" and child.attr.xmlns == PREFERENCE;
		if found or child:get_child("user-preference", PREFERENCE) then return divert(stanza); end
	end
end
for _, kind in ipairs { "bare", "full", "host" } do -- 10: after mod_blocklist (100), which may refuse the stanza
	module:hook("pre-iq/"..kind, function (event) copy_preference(event.stanza, event.stanza.attr.to); end, 10);
end

-- T4: rosters for sessions that asked for annotation
local function divert_roster(stanza, session)
	local kind = link and stanza ~= passing and stanza.name == "iq" and answers(stanza);
	if kind ~= "roster" and kind ~= "push" then return stanza; end
	local copy = st.clone(stanza); -- all sessions share one push: never change it
	copy.attr.from, copy.attr.to = copy.attr.from or jid.bare(session.full_jid), session.full_jid;
	local annotate = st.stanza("annotate", { xmlns = ANNOTATE });
	table.insert(copy.tags[1], 1, annotate); table.insert(copy.tags[1].tags, 1, annotate);
	local entry = await(session, stanza.attr.id, kind, stanza);
	module:add_timer(ROSTER_TIMEOUT, function () release(session, entry); end);
	divert(copy);
end
-- 1000: before mod_smacks (-999), to be counted once, on return. Not a global filter: others pay nothing.
local function flag(session, annotate)
	session.mixpam_annotate = annotate;
	filters.remove_filter(session, "stanzas/out", divert_roster);
	if annotate then filters.add_filter(session, "stanzas/out", divert_roster, 1000); end
end
-- 10: before mod_roster (0) answers. Annotations have no part in `ver`: "unchanged" would hide them.
module:hook("iq/self/jabber:iq:roster:query", function (event)
	local query = event.stanza.tags[1];
	if event.stanza.attr.type ~= "get" then return; end
	flag(event.origin, query:get_child("annotate", ANNOTATE) ~= nil);
	if event.origin.mixpam_annotate then query.attr.ver = nil; end
end, 10);

-- C1: stanzas for one session
-- Closes what an IQ for `session` answers; tells whether to deliver it.
local function settle(session, stanza)
	local attr, kind = stanza.attr, answers(stanza);
	for i, entry in ipairs(session.mixpam_awaited or {}) do
		if entry.id == attr.id and entry.kind == kind then
			table.remove(session.mixpam_awaited, i);
			if kind ~= "answer" then attr.from, attr.to = entry.otherwise.attr.from, entry.otherwise.attr.to; end
			local late = entry.over; -- the client has the original
			entry.over = true;
			return not late;
		end
	end
	return true;
end
-- 10: before mod_mam (0) archives, mod_carbons (-0.5) copies and others look for another resource.
for _, name in ipairs { "message", "presence", "iq" } do
	module:hook(name.."/full", function (event)
		local stanza, session = event.stanza, full_sessions[event.stanza.attr.to];
		if event.origin ~= link and name == "iq" then copy_preference(stanza, stanza.attr.from); end -- T9
		if event.origin ~= link then return; end
		if session and (name ~= "iq" or settle(session, stanza)) then deliver(session, stanza); end
		return true;
	end, 10);
end
-- C6: written as text once. Filters, mod_smacks for one, get a stanza for each session, with common children as
-- everywhere in Prosody; only what they change is written anew.
local function untouched(copy, original, own)
	if #copy ~= #original + (own and 1 or 0) or copy[#original + 1] ~= own then return false; end
	for i = 1, #original do if copy[i] ~= original[i] then return false; end end
	for key, value in pairs(copy.attr) do if key ~= "to" and original.attr[key] ~= value then return false; end end
	for key in pairs(original.attr) do if copy.attr[key] == nil then return false; end end
	return true;
end
local function send_copy(session, stanza, id, before, inside, after)
	local list, to = session.filters and session.filters["stanzas/out"], session.full_jid;
	local by = session.username.."@"..session.host;
	local own = id and "<stanza-id xmlns='"..SID.."' by='"..st.xml_escape(by).."' id='"..st.xml_escape(id).."'/>" or "";
	local text = before.." to='"..st.xml_escape(to).."'>"..inside..own..after;
	if session.rawsend and not (list and list[1]) then return session.send(text); end
	local copy = st.clone(stanza, true);
	copy.attr.to = to;
	for _, child in ipairs(stanza) do copy:add_direct_child(child); end
	own = id and st.stanza("stanza-id", { xmlns = SID, by = by, id = id }) or nil;
	if own then copy:add_direct_child(own); end
	if not session.rawsend then return deliver(session, copy); end -- BOSH wants no text
	local out = past_filter(session, copy, session.filter, "stanzas/out", copy);
	if not out then return; end
	session.send(out == copy and copy.attr.to == to and untouched(copy, stanza, own) and text or tostring(out));
end
-- 10: a message or presence to the domain itself has no other meaning from the component.
local function deliver_to_each(event)
	local stanza = event.stanza;
	local list = event.origin == link and stanza.tags[1];
	if not list or list.name ~= "addresses" or list.attr.xmlns ~= ADDRESS then return; end
	stanza.attr.to = nil;
	stanza:maptags(function (tag) return tag ~= list and tag or nil; end);
	local attributes, inside = halves(stanza);
	for _, address in ipairs(list.tags) do
		local to = address.attr.jid;
		local session = address.name == "address" and (full_sessions[to] or full_sessions[jid.prep(to)]);
		if session and session.host == module.host then -- who is gone, is left out
			send_copy(session, stanza, address.attr.id, "<"..stanza.name..attributes, inside, "</"..stanza.name..">");
		end
	end
	return true;
end
module:hook("message/host", deliver_to_each, 10);
module:hook("presence/host", deliver_to_each, 10);
-- 10: before mod_smacks (0) stores it offline, or else sends an error.
module:hook("delivery/failure", function (event) return event.stanza.mixpam; end, 10);

-- C3, T8: rosters
-- Adds the roster's `item` for `contact` to `query`; none is one that was removed.
local function add_item(query, contact, item)
	if not item then return query:tag("item", { jid = contact, subscription = "remove" }):up(); end
	query:tag("item", { jid = contact, subscription = item.subscription, ask = item.ask, name = item.name });
	local groups = {};
	for group in pairs(item.groups or {}) do table.insert(groups, group); end
	table.sort(groups);
	for _, group in ipairs(groups) do query:text_tag("group", group); end
	return query:up();
end
local function report(username, contact, old, new)
	if not in_mix_domain(contact) then return; end
	local attr = { type = "set", id = "mixpam", from = username.."@"..module.host, to = component };
	local push = add_item(st.iq(attr):query(ROSTER), contact, new);
	if not old or tostring(push) ~= tostring(add_item(st.iq(attr):query(ROSTER), contact, old)) then divert(push); end
end

-- No event says "a roster changed", and many hands change them, but all end in a store of this
-- name. Drivers that have no map (internal storage) get one on top of the keyval store.
module:hook("store-opened", function (event)
	local inner, write = event.store, event.store_type == "map" and "set_keys" or "set";
	if event.store_name ~= "roster" or inner.keyval_store then return; end
	event.store = setmetatable({ [write] = function (self, username, new)
		local old = write == "set" and link and new and inner.get(self, username) or {};
		local ok, err = inner[write](self, username, new);
		if not ok or not new then return ok, err; end -- nothing new: the account is deleted
		for contact, item in pairs(old) do if new[contact] == nil then report(username, contact, item); end end
		for contact, item in pairs(new) do report(username, contact, old[contact], item ~= inner.remove and item or nil); end
		return ok, err;
	end }, { __index = inner });
end);
local function set_roster(stanza, roster, node)
	local item = stanza.tags[1].tags[1] or stanza;
	local contact, wanted, new = jid.prep(item.attr.jid), item.attr.subscription, nil;
	if #stanza.tags[1].tags ~= 1 or not contact or jid.resource(contact) or contact == stanza.attr.to
	or (wanted ~= "from" and wanted ~= "none" and wanted ~= "remove") then
		return st.error_reply(stanza, "modify", "bad-request");
	end
	local old = roster[contact];
	if wanted ~= "remove" then
		new = { name = not old and item.attr.name or nil, groups = {} };
		for group in item:childtags("group") do new.groups[group:get_text() or ""] = true; end
		for key, value in pairs(old or {}) do new[key] = value; end
		new.subscription, new.ask, new.groups[""] = wanted, nil, nil;
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
local function get_roster(stanza, roster)
	local reply = st.reply(stanza):query(ROSTER);
	for contact, item in pairs(roster) do if contact then add_item(reply, contact, item); end end -- [false]: version
	return reply;
end

-- 110: before mod_blocklist (100): who blocks the component's address must not cut it off the roster.
module:hook("iq/bare", function (event)
	local stanza, query = event.stanza, event.stanza.tags[1];
	local handle = query and query.name == "query" and query.attr.xmlns == ROSTER
		and ({ get = get_roster, set = set_roster })[stanza.attr.type];
	if event.origin ~= link or stanza.attr.from ~= component or not handle then return; end
	if not account_exists(stanza.attr.to) then return divert(st.error_reply(stanza, "cancel", "item-not-found")); end
	local node = jid.split(stanza.attr.to);
	local roster, err = rostermanager.load_roster(node, module.host);
	return divert(err and st.error_reply(stanza, "wait", "internal-server-error") or handle(stanza, roster, node));
end, 110);

-- C5, states
local function archives() -- "roster" counts: channels are in the roster
	local policy = module:get_option("default_archive_policy", true);
	return hosts[module.host].modules.mam ~= nil and policy ~= false and policy ~= "false" and policy ~= "never";
end
module:hook("message/host", function (event)
	local list = event.origin == link and event.stanza.attr.from == component and event.stanza:get_child("services", TAP);
	if not list then return; end
	local complete, known = list.attr.complete == "true", {};
	if complete then
		flush();
		gathering = jid.prep(list.attr.multicast);
		if jid.bare(gathering) ~= component or not jid.resource(gathering) then gathering = nil; end
	end
	for domain in pairs(complete and {} or services) do known[domain] = true; end
	for service in list:childtags("service") do known[jid.host(jid.prep(service.attr.jid)) or ""] = true; end
	known[""] = nil;
	services, up = known, up or complete;
	local ok, err = store:set(nil, services);
	if not ok then module:log("error", "The MIX domains will be forgotten at a restart: %s", err); end
	return true;
end, 10);
module:hook("account-disco-info", function (event)
	local reply = event.reply;
	if not up or jid.bare(reply.attr.to) ~= reply.attr.from then return; end -- only the owner may use it
	reply:tag("feature", { var = "urn:xmpp:mix:pam:2" }):up():tag("feature", { var = "urn:xmpp:mix:pam:0" }):up();
	if archives() then reply:tag("feature", { var = "urn:xmpp:mix:pam:2#archive" }):up(); end
end);
local function link_up(session)
	link, up, gathering, batch = session, false, nil, nil;
	tell("hello", { version = "1", tap = "1.1", software = "Prosody "..prosody.version, archive = tostring(archives()),
		multicast = "true" });
	each_session(function (s)
		local presence = st.clone(s.presence or st.presence());
		presence.attr.from, presence.attr.to = s.full_jid, component;
		if s.presence then divert(presence); end
		if s.hibernating then tell("hibernated", { jid = s.full_jid }); end
	end);
	tell("replayed", {});
end
local function link_down()
	link, up, gathering, batch = nil, false, nil, nil;
	each_session(function (session)
		local entries = session.mixpam_awaited or {};
		session.mixpam_awaited = nil;
		for _, entry in ipairs(entries) do release(session, entry); end
	end);
end
local function watch_component()
	if module:context(component):get_option_boolean("validate_from_addresses", true) then
		module:log_status("error", "Component %q needs validate_from_addresses = false", component);
	end
	local events = hosts[component].events;
	module:hook_object_event(events, "component-authenticated", function (event) link_up(event.session); end, -10);
	module:hook_object_event(events, "component-disconnected", function (event)
		if event.session == link then link_down(); end -- it fires for refused connections too
	end, -10);
end
-- Hosts come up in random order.
module:hook_global("host-activated", function (host) if host == component then watch_component(); end end);
module:hook_global("host-deactivating", function (event) if event.host == component then link_down(); end end);

-- T7: events
module:hook("smacks-hibernation-start", function (event) tell("hibernated", { jid = event.origin.full_jid }); end);
module:hook("smacks-hibernation-end", function (event)
	local session = event.resumed; -- has the filters of its new connection
	if session.mixpam_annotate then flag(session, true); end
	tell("resumed", { jid = session.full_jid });
end);
-- -10: after mod_c2s (200) has closed the sessions.
module:hook_global("user-deleted", function (event)
	if event.host ~= module.host then return; end
	local bare, cache = event.username.."@"..event.host, hosts[module.host].roster_cache;
	-- rostermanager would hand the cached roster on to whoever registers the name next.
	if cache then cache:set(bare, nil); end
	tell("user-removed", { jid = bare });
end, -10);
-- A remote domain is up as long as one stream to or from it is.
local function s2s_changed(remote, session, state)
	local out = hosts[module.host].s2sout[remote];
	local another = out and out ~= session and out.type == "s2sout";
	for s in pairs(incoming_s2s) do
		another = another or s ~= session and s.type == "s2sin" and s.from_host == remote and s.to_host == module.host;
	end
	if not another then tell("s2s", { domain = remote, state = state }); end
end
for state, suffix in pairs { up = "established", down = "destroyed" } do
	module:hook("s2sout-"..suffix, function (event) s2s_changed(event.session.to_host, event.session, state); end);
	module:hook("s2sin-"..suffix, function (event) s2s_changed(event.session.from_host, event.session, state); end);
end

-- Loading, reloading
local function attach(saved)
	if hosts[component] then watch_component(); end
	each_session(function (session) if session.mixpam_annotate then flag(session, true); end end);
	local service = hosts[component] and hosts[component].modules.component;
	local session = service and service.connected and service.session;
	if not session then return; end
	if session ~= saved.link then return link_up(session); end
	link, up, gathering = session, saved.up, saved.gathering; -- a reload misses nothing
end
function module.load() if not module.reloading then attach({}); end end
function module.save() return { link = link, up = up, gathering = gathering }; end
module.restore = attach;
function module.unload()
	flush();
	each_session(function (session)
		filters.remove_filter(session, "stanzas/out", divert_roster);
		for _, entry in ipairs(session.mixpam_awaited or {}) do -- stays there, to be known as late
			if entry.kind ~= "answer" then release(session, entry); end
		end
	end);
	if not module.reloading then link_down(); end
end
