-- The tap: Prosody's side of the protocol mixpam:tap:1.
--
-- Puts MIX traffic, roster stanzas, presence and a few events onto the link of one external component
-- (XEP-0114) and does what that sends back; it decides nothing. The rules are in ../tap-protocol.md, T1..T10
-- and C1..C6 are its numbers. Comments on hooks begin with the priority. For Prosody 0.12 and 13.
local TAP, ROSTER, ANNOTATE = "mixpam:tap:1", "jabber:iq:roster", "urn:xmpp:mix:roster:0";
local SID, HINTS, PREFERENCE = "urn:xmpp:sid:0", "urn:xmpp:hints", "urn:xmpp:mix:anon:0";
local ADDRESS, BLOCKING = "http://jabber.org/protocol/address", "urn:xmpp:blocking";
local KIB, MIB = 1024, 1024 * 1024;
local st, jid, filters = require "util.stanza", require "util.jid", require "util.filters";
local new_cache, random_id, now = require "util.cache".new, require "util.id".short, require "util.time".now;
local usermanager, rostermanager = require "core.usermanager", require "core.rostermanager";
local incoming_s2s = require "core.s2smanager".incoming_s2s;
local hosts, bare_sessions, full_sessions = prosody.hosts, prosody.bare_sessions, prosody.full_sessions;

if module:get_host_type() ~= "local" then
	return module:log_status("error", "mixpam_tap belongs on a VirtualHost, %s is none: take it out of the "
		.."modules_enabled there", module.host);
end
local component = jid.prep(module:get_option_string("mixpam_component"));
if not component then
	return module:log_status("error", "mixpam_component is not set: the tap does nothing. Put "
		.."mixpam_component = \"mixpam.%s\" below VirtualHost %q, or take mixpam_tap from its modules",
		module.host, module.host);
end
local link; -- the component's session; nil in the state "down"
local up = false; -- the component has sent its complete list of services
local gathering; -- where T10 goes; nil if the component takes T1 only
local passing; -- the session that gets a stanza past our own filter
local blocking = false; -- mod_blocklist is at work
-- C5: stored, so that channels are known after a restart before the component is back.
local MOST_SERVICES = 20000;
local store = module:open_store("mixpam_tap");
local services = store:get(nil) or {};
local function in_mix_domain(address) return address and services[jid.host(address)]; end
local function account_exists(bare) return bare_sessions[bare] or usermanager.user_exists(jid.split(bare)); end
local function from_component(event) return link ~= nil and event.origin == link; end
local function each_session(visit)
	for _, session in pairs(full_sessions) do if session.host == module.host then visit(session); end end
end
local function skip(stanza, reason) -- every stanza that goes nowhere is told here
	local attr = stanza.attr;
	module:log("debug", "Not passed on: %s from %s to %s: %s", stanza.name, attr.from, attr.to, reason);
	return true;
end

-- The link. A component that does not read must not fill Prosody's memory: above ROOM bytes unsent goes only
-- what it cannot do without, in its shortest form, and above ALL_ROOM (Prosody 13 itself ends at 32 MiB) the
-- link is closed: whoever connects again gets everything anew.
local ROOM, ALL_ROOM, LOOK_EVERY = 16 * MIB, 24 * MIB, 256 * KIB;
local unsent, since, looked, ending = 0, 0, 0, false; -- bytes, bytes since the last look, its time
local function look()
	local conn = link and link.conn;
	local buffer = conn and conn.writebuffer; -- net.server_epoll, _event; another's is not to be seen
	unsent, since, looked = 0, 0, now();
	if type(buffer) == "string" or getmetatable(buffer or {}) then
		unsent = #buffer;
	elseif buffer then
		for i = 1, #buffer do unsent = unsent + #buffer[i]; end
	end
	return unsent;
end
local function congested()
	if since > LOOK_EVERY or unsent > ROOM and now() - looked > 0.1 then look(); end
	return unsent > ROOM;
end
local function put(stanza)
	local text = tostring(stanza);
	since = since + #text;
	link.send(text);
	if not link or since <= LOOK_EVERY or look() <= ALL_ROOM or ending then return; end
	ending = true;
	module:log("error", "%s has %d bytes to read and does not: its connection is closed", component, unsent);
	local session = link;
	module:add_timer(0, function () -- not in the midst of what sends
		ending = false;
		if session == link then session:close({ condition = "resource-constraint", text = "You do not read" }); end
	end);
end

-- T10: messages that differ only in `to` and the user's archive id go together. They wait until Prosody has
-- read all there is to read at the moment, which is when its timers run, or until something else goes.
local MOST, MOST_BYTES = 500, 65000; -- 64 KiB with what is around them; parts of rosters are as large
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
	if #open == 1 then return put(open.id and open.first:add_direct_child(open.id) or open.first); end
	open.first.attr.to = gathering;
	local attributes, inside = halves(open.first);
	put("<message"..attributes.."><addresses xmlns='"..ADDRESS.."'>"..table.concat(open).."</addresses>"
		..inside.."</message>");
end
-- Without a link it is dropped: an error might make a channel expel the user.
local function send(stanza)
	flush();
	if not link then return skip(stanza, "no component is connected"); end
	put(stanza);
	return true;
end
local function divert(stanza) -- T1 to T3, T9
	if link and congested() then return skip(stanza, "the component does not read"); end
	return send(stanza);
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
	if not gathering or not origin.conn or congested() then return divert(stanza); end
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
	return send(st.message({ from = module.host, to = component }):tag(name, attr));
end

-- mod_smacks queues a clone; a field on it, never serialised, tells "delivery/failure" whose it was.
local function push_marked(queue, stanza)
	queue.push, stanza.mixpam = nil, true;
	return queue:push(stanza);
end
-- Sessions over BOSH clone what they send before any filter sees it, so the session is noted, not the stanza.
local function past_filter(session, act, ...)
	local queue, outer = session.outgoing_stanza_queue, passing;
	if queue then queue.push = push_marked; end
	passing = session;
	local result = act(...);
	passing = outer;
	if queue then queue.push = nil; end
	return result;
end
local function deliver(session, stanza) past_filter(session, session.send, stanza); end

-- T4, T5: what a session waits for: `open`, the ids of its requests, with their `bytes`, and `rosters`, its
-- roster stanzas in their order, with `parts`: whose the part with an id is. A reload takes it along.
local MOST_OPEN, MOST_OPEN_BYTES, OPEN_TIME = 200, 32 * KIB, 120; -- T5, of one session; seconds
local ROSTER_TIME, MOST_ROSTERS, PART_ITEMS = 5, 50, 50; -- T4: seconds; stanzas of one session
-- What rosters may weigh together: on the host, and of one account where there is another than this one.
local HOST_WEIGHT, ACCOUNT_WEIGHT, HOST_ROSTERS = 64 * MIB, 8 * MIB, 5000;
local waiting = {}; -- session: what it waits for
local weight, number, account_weight = 0, 0, {}; -- of all rosters in `waiting`; bare JID: weight
local parts_prefix, parts_made = "mixpam-roster-"..random_id().."-", 0;
local expire; -- below
local sweeping = false;
local function sweep()
	local gone = {};
	for session in pairs(waiting) do table.insert(gone, session); end
	for _, session in ipairs(gone) do expire(session, now()); end
	sweeping = next(waiting) ~= nil;
	return sweeping and 1 or nil; -- again in a second
end
local function waits(session)
	local state = waiting[session];
	if not state then
		state = { jid = session.full_jid, bare = jid.bare(session.full_jid), open = {}, bytes = 0 };
		state.rosters, state.parts = {}, {};
		waiting[session] = state;
		if not sweeping then sweeping = true; module:add_timer(1, sweep); end
	end
	return state;
end
local function weigh(state, entry, sign)
	weight, number = weight + sign * entry.weight, number + sign;
	local sum = (account_weight[state.bare] or 0) + sign * entry.weight;
	account_weight[state.bare] = sum > 0 and sum or nil;
end
local function settled(session, state)
	if not state.open[1] and not state.rosters[1] then waiting[session] = nil; end
end

-- T5
local function refusal(session, id, type, condition)
	local request = st.iq({ type = "set", id = id, from = session.full_jid, to = jid.bare(session.full_jid) });
	return st.error_reply(request, type, condition);
end
local function forget(state, i) state.bytes = state.bytes - #table.remove(state.open, i).id; end
local function await(session, id)
	local state = waits(session);
	local open = state.open;
	-- Those that were given up are kept to know late answers by, as long as there is room.
	for i = #open, 1, -1 do
		if #open < MOST_OPEN and state.bytes + #id <= MOST_OPEN_BYTES then break; end
		if open[i].over then forget(state, i); end
	end
	if #open >= MOST_OPEN or state.bytes + #id > MOST_OPEN_BYTES then return settled(session, state); end
	table.insert(open, { id = id, due = now() + OPEN_TIME });
	state.bytes = state.bytes + #id;
	return true;
end
-- Closes the request that an IQ answers; tells whether to deliver it.
local function answered(session, id)
	local state = waiting[session];
	for i, entry in ipairs(state and state.open or {}) do
		if entry.id == id then
			forget(state, i);
			settled(session, state);
			return not entry.over;
		end
	end
	return true;
end

-- T4
local function is_item(tag) return tag.name == "item" and (tag.attr.xmlns or ROSTER) == ROSTER; end -- none: as around it
local function is_annotation(tag) return tag.name == "channel" and tag.attr.xmlns == ANNOTATE; end
local function with_annotations(entry)
	local annotated = st.clone(entry.stanza, true); -- others may have the same stanza: only what changes is new
	for _, child in ipairs(entry.stanza) do
		if child == entry.stanza.tags[1] then
			local query = st.clone(child, true);
			for _, item in ipairs(child) do
				local found = item.attr and entry.found[item.attr.jid];
				if item.tags and (found or item:get_child("channel", ANNOTATE)) and is_item(item) then
					item = st.clone(item):maptags(function (tag) return not is_annotation(tag) and tag or nil; end);
					if found then item:add_direct_child(found); end
				end
				query:add_direct_child(item);
			end
			child = query;
		end
		annotated:add_direct_child(child);
	end
	return annotated;
end
-- Delivers what need not wait any longer: the first, and then each whose parts are back. `all`: all of them.
local function deliver_rosters(session, state, all)
	local rosters = state.rosters;
	while rosters[1] and (all or rosters[1].missing == 0 or rosters[1].over) do
		local entry = table.remove(rosters, 1);
		weigh(state, entry, -1);
		for id, whose in pairs(state.parts) do if whose == entry then state.parts[id] = nil; end end
		deliver(session, entry.missing == 0 and with_annotations(entry) or entry.stanza);
	end
	settled(session, state);
end
local function take_part(session, stanza)
	local state = waiting[session];
	local entry = state and state.parts[stanza.attr.id];
	if not entry then return skip(stanza, "this part of a roster comes too late"); end
	local query, part = stanza:get_child("query", ROSTER), entry.parts[stanza.attr.id];
	state.parts[stanza.attr.id] = nil;
	for _, item in ipairs(query and query.tags or {}) do
		local channel = is_item(item) and part[item.attr.jid] and item:get_child("channel", ANNOTATE);
		if channel then entry.found[item.attr.jid] = channel; end
	end
	if query then entry.missing = entry.missing - 1; else entry.over = true; end
	return deliver_rosters(session, state);
end
function expire(session, time)
	local state = waiting[session];
	if full_sessions[state.jid] ~= session then
		for _, entry in ipairs(state.rosters) do weigh(state, entry, -1); end
		waiting[session] = nil;
		return;
	end
	for _, entry in ipairs(state.open) do
		if entry.due <= time and not entry.over then
			entry.over = true;
			deliver(session, refusal(session, entry.id, "wait", "remote-server-timeout"));
		end
	end
	for i = #state.open, 1, -1 do -- an answer as late as that comes no more
		if state.open[i].due + 10 * OPEN_TIME <= time then forget(state, i); end
	end
	for _, entry in ipairs(state.rosters) do entry.over = entry.over or entry.due <= time; end
	deliver_rosters(session, state);
end
local function give_up_all()
	for session, state in pairs(waiting) do
		waiting[session] = nil;
		if full_sessions[state.jid] == session then
			for _, entry in ipairs(state.open) do
				if not entry.over then deliver(session, refusal(session, entry.id, "cancel", "service-unavailable")); end
			end
			for _, entry in ipairs(state.rosters) do deliver(session, entry.stanza); end
		end
	end
	weight, number, account_weight = 0, 0, {};
end

-- Members: who is in which channel, as C3 says it, for the archive.
local MOST_RECORDS = 5000; -- accounts in memory
local member_store = module:open_store("mixpam_members");
local records = new_cache(MOST_RECORDS); -- username: set of channels, or false if the store has none
local function record_of(username)
	local record = records:get(username);
	if record == nil then
		local stored, err = member_store:get(username);
		if err then return nil, err; end
		record = stored and stored.channels or false;
		records:set(username, record);
	end
	return record;
end
local function save_record(username, record)
	records:set(username, record);
	local ok, err = member_store:set(username, { channels = record });
	if ok then return; end
	module:log("error", "The channels of %s will be forgotten at a restart: %s", username, err);
end
local function channels_of(roster)
	local record = {};
	for contact in pairs(roster) do if contact and in_mix_domain(contact) then record[contact] = true; end end
	return record;
end
local function is_member(bare, channel)
	local node, host = jid.split(bare);
	channel = jid.bare(channel);
	local record = record_of(node);
	if record then return record[channel]; end
	return rostermanager.load_roster(node, host)[channel] ~= nil; -- cached, for offline users too
end
local function set_member(username, channel, is)
	local record, err = record_of(username);
	if err then return; end
	local known = record or channels_of(rostermanager.load_roster(username, module.host));
	if record and record[channel] == is then return; end
	known[channel] = is;
	save_record(username, known);
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

-- What the user's lists say of an address nobody but mod_blocklist knows. It is asked with a presence, as if
-- it came from there, which our own hook below ends. A participant's address is `id#channel@…`, and who has
-- blocked the channel has blocked that, too.
local not_blocked = {};
local function is_listed(bare, address)
	local asked = st.presence({ from = address, to = bare });
	local event = { origin = hosts[module.host], stanza = asked, mixpam_asks = true };
	return module:fire_event("presence/bare", event) ~= not_blocked;
end
local function is_channel_blocked(bare, address)
	local node, host = jid.split(address);
	local channel = node and node:match("^[^#]*#(.+)$");
	return channel and is_listed(bare, channel.."@"..host);
end

-- 10: after mod_blocklist (100), before mod_mam (0), which stores a forged <stanza-id/> as it came.
module:hook("message/bare", function (event)
	local stanza, to = event.stanza, event.stanza.attr.to;
	if not in_mix_domain(stanza.attr.from) or not is_channel_message(stanza) then return; end
	if is_channel_blocked(to, stanza.attr.from) then return skip(stanza, "blocked"); end
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
	return is_member(stanza.attr.to, stanza.attr.from) and true or nil;
end, 10);

-- -0.25: after mod_mam (0) put its <stanza-id/> on, before mod_carbons (-0.5) and mod_message (-1).
module:hook("message/bare", function (event)
	local stanza, to = event.stanza, event.stanza.attr.to;
	if not event.mixpam or not account_exists(to) then return; end -- mod_message answers for who is not there
	if stanza.attr.type == "groupchat" and not bare_sessions[to] and is_member(to, stanza.attr.from) then
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
	if blocking and attr.type == "probe" then return skip(event.stanza, "it is of mod_blocklist"); end
	if is_channel_blocked(attr.to, attr.from) then return skip(event.stanza, "blocked"); end
	return account_exists(attr.to) and divert(event.stanza) or nil;
end, 10);
-- T7: the user's channels that are blocked, before the first presence of a session on a link: the component
-- may have been away when that changed, or the user without a session when it began.
local MOST_TOLD = 1000; -- channels of one user
local function tell_blocked(username)
	local bare, count = username.."@"..module.host, 0;
	for channel in pairs(record_of(username) or channels_of(rostermanager.load_roster(username, module.host))) do
		if count == MOST_TOLD then return; end
		if in_mix_domain(channel) and is_listed(bare, channel) then
			tell("blocked", { jid = bare, address = channel });
			count = count + 1;
		end
	end
end
-- T6. While the link is congested a session is noted: its presence, as it is then, goes when there is room
-- again. The replay at the begin of a link is nothing else.
local PACE = MIB; -- bytes unsent up to which it goes on
local owed, is_owed, paying, replaying = {}, {}, false, false;
local function owe(session)
	if is_owed[session] then return; end
	is_owed[session] = true;
	table.insert(owed, session);
end
local function pay()
	while link and owed[1] and look() <= PACE do
		local session = table.remove(owed);
		is_owed[session] = nil;
		if session.full_jid and full_sessions[session.full_jid] == session then
			tell_blocked(session.username);
			local presence = st.clone(session.presence or st.presence());
			presence.attr.from, presence.attr.to = session.full_jid, component;
			if session.presence then send(presence); end
			if replaying and session.hibernating then tell("hibernated", { jid = session.full_jid }); end
		end
	end
	paying = link ~= nil and owed[1] ~= nil;
	if paying then return 0.1; end
	if replaying and link then replaying = false; tell("replayed", {}); end
end
local function pay_later()
	if paying then return; end
	paying = true;
	module:add_timer(0.1, pay);
end
-- 150: before anybody decorates it. No `to` is what a broadcast has; mod_presence makes one at a session's end.
module:hook("presence/bare", function (event)
	local stanza, attr = event.stanza, event.stanza.attr;
	if attr.to or (attr.type and attr.type ~= "unavailable") then return; end
	if link and congested() then
		if not attr.type then owe(event.origin); pay_later(); return; end
		send(st.presence({ type = attr.type, from = attr.from, to = component }));
		return;
	end
	if link and not attr.type and not event.origin.presence then tell_blocked(event.origin.username); end
	attr.to = component; send(stanza); attr.to = nil;
end, 150);
-- 200: before mod_presence (0) notes the channel as one to send unavailable in the end.
module:hook("pre-presence/bare", function (event)
	local roster, to, type = event.origin.roster, event.stanza.attr.to, event.stanza.attr.type;
	if not to or not roster or not roster[to] or not in_mix_domain(to) then return; end
	if type ~= nil and type ~= "unavailable" and type ~= "probe" then return; end
	return skip(event.stanza, "presence to channels is the component's");
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
	local session, request = event.origin, event.stanza;
	if not is_pam_request(request) then return; end
	local id = request.attr.id;
	if not up then return session.send(refusal(session, id, "cancel", "service-unavailable")) or true; end
	if congested() or not await(session, id) then
		skip(request, "too much is open");
		return session.send(refusal(session, id, "wait", "resource-constraint")) or true;
	end
	request.attr.to = jid.bare(session.full_jid);
	send(request);
	request.attr.to = nil;
	return true;
end, 10);
local function copy_preference(stanza, other)
	for _, child in ipairs(in_mix_domain(other) and stanza.tags or {}) do
		local found = child.name == "user-preference" and child.attr.xmlns == PREFERENCE;
		if found or child:get_child("user-preference", PREFERENCE) then divert(stanza); return; end
	end
end
for _, kind in ipairs { "bare", "full", "host" } do -- 10: after mod_blocklist (100), which may refuse the stanza
	module:hook("pre-iq/"..kind, function (event) copy_preference(event.stanza, event.stanza.attr.to); end, 10);
end

-- T4: rosters for sessions that asked for annotation
-- Sends the items in MIX domains of `entry` in parts.
local function send_parts(state, entry)
	local part, items, bytes;
	local function close()
		if part then send(part); end
		part = nil;
	end
	for _, item in ipairs(entry.stanza.tags[1].tags) do
		if is_item(item) and in_mix_domain(item.attr.jid) then
			local address = item.attr.jid;
			local mine = st.stanza("item", { xmlns = ROSTER, jid = address, subscription = item.attr.subscription });
			local size = #tostring(mine);
			if part and (items == PART_ITEMS or bytes + size > MOST_BYTES) then close(); end
			if not part then
				parts_made = parts_made + 1;
				local id = parts_prefix..parts_made;
				items, bytes = 0, 0;
				part = st.iq({ type = entry.stanza.attr.type, id = id, from = state.bare, to = state.jid });
				part:query(ROSTER):tag("annotate", { xmlns = ANNOTATE }):up();
				entry.missing, entry.parts[id], state.parts[id] = entry.missing + 1, {}, entry;
			end
			part:add_child(mine);
			entry.parts[part.attr.id][address] = true;
			items, bytes = items + 1, bytes + size;
		end
	end
	close();
end
-- Is this a roster stanza of the session's own account, and has it anything for the component? Its weight is
-- what it takes in memory: some 600 bytes for each item, by experiment, and its strings.
local function look_at_roster(stanza, session)
	local type, query, from = stanza.attr.type, stanza.tags[1], stanza.attr.from;
	if (type ~= "result" and type ~= "set") or not query then return; end
	if query.name ~= "query" or query.attr.xmlns ~= ROSTER then return; end
	if from and from ~= jid.bare(session.full_jid) then return; end
	local channels, bytes = false, 1000;
	for _, item in ipairs(query.tags) do
		bytes = bytes + 600 + #(item.attr.jid or "") + #(item.attr.name or "") + 200 * #item.tags;
		if is_item(item) and in_mix_domain(item.attr.jid) then channels = true; end
	end
	return channels, bytes;
end
local function divert_roster(stanza, session)
	if not link or passing == session or stanza.name ~= "iq" then return stanza; end
	local channels, bytes = look_at_roster(stanza, session);
	if channels == nil then return stanza; end
	local state = waiting[session];
	local first = state and state.rosters[1];
	if not channels and not first then return stanza; end
	if stanza.attr.type == "result" then
		for _, other in ipairs(state and state.rosters or {}) do
			if other.stanza.attr.type == "result" then return stanza; end -- one is out already
		end
	end
	local sum = account_weight[jid.bare(session.full_jid)] or 0;
	local too_much = number >= HOST_ROSTERS or weight + bytes > HOST_WEIGHT or sum > 0 and sum + bytes > ACCOUNT_WEIGHT;
	if too_much or congested() or state and #state.rosters >= MOST_ROSTERS then
		module:log("debug", "Too many rosters are on their way: %s gets this one as it is", session.full_jid);
		if first then deliver_rosters(session, state, true); end -- none overtakes another
		return stanza;
	end
	state = waits(session);
	local entry = { stanza = stanza, weight = bytes, due = now() + ROSTER_TIME };
	entry.missing, entry.parts, entry.found = 0, {}, {}; -- `parts`: id: set of JIDs; `found`: JID: <channel/>
	weigh(state, entry, 1);
	table.insert(state.rosters, entry);
	send_parts(state, entry);
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
local function take_iq(session, stanza)
	local attr = stanza.attr;
	if (attr.id or ""):sub(1, 14) == "mixpam-roster-" then return take_part(session, stanza); end
	local late = (attr.type == "result" or attr.type == "error") and not answered(session, attr.id);
	if late then return skip(stanza, "the client was told that no answer came"); end
	deliver(session, stanza);
end
-- 10: before mod_mam (0) archives, mod_carbons (-0.5) copies and others look for another resource.
for _, name in ipairs { "message", "presence", "iq" } do
	module:hook(name.."/full", function (event)
		local stanza, session = event.stanza, full_sessions[event.stanza.attr.to];
		if not from_component(event) then
			if name == "iq" then copy_preference(stanza, stanza.attr.from); end -- T9
			return;
		end
		if not session then return skip(stanza, "the session is gone"); end
		if name == "iq" then take_iq(session, stanza); else deliver(session, stanza); end
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
	local out = past_filter(session, session.filter, "stanzas/out", copy);
	if not out then return; end
	session.send(out == copy and copy.attr.to == to and untouched(copy, stanza, own) and text or tostring(out));
end
-- 10: a message or presence to the domain itself has no other meaning from the component.
local function deliver_to_each(event)
	local stanza = event.stanza;
	local list = from_component(event) and stanza.tags[1];
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

-- C2: judged as the user's own stanza would be. Prosody fires an event on the host where a stanza goes, and
-- "route/remote" for those elsewhere. The component's own address is nobody's, and to oneself all may go.
-- Also what mod_blocklist sends by itself ends here: what a channel is to know the component says.
local function judge(event)
	local stanza, attr = event.stanza, event.stanza.attr;
	local by_server = event.origin == hosts[module.host];
	if blocking and by_server and stanza.name == "presence" and in_mix_domain(attr.to) then
		return skip(stanza, "it is of mod_blocklist");
	end
	if not from_component(event) or not attr.to then return; end
	local node, host = jid.split(attr.from);
	local bare = node and node.."@"..host;
	if not node or host ~= module.host or jid.bare(attr.to) == bare then return; end
	if stanza.name == "presence" and attr.type == "unavailable" and stanza:get_child("blocked", TAP) then
		stanza:remove_children("blocked", TAP);
		return;
	end
	if not is_listed(bare, attr.to) and not is_channel_blocked(bare, attr.to) then return; end
	local request = stanza.name == "iq" and (attr.type == "get" or attr.type == "set");
	if not request then return skip(stanza, "blocked"); end
	return send(st.error_reply(stanza, "cancel", "not-acceptable", "You have blocked this JID")
		:tag("blocked", { xmlns = "urn:xmpp:blocking:errors" }));
end
local function judge_on(events) -- 1000: before anybody takes it
	for _, name in ipairs { "message", "presence", "iq" } do
		for _, kind in ipairs { "bare", "full", "host" } do
			module:hook_object_event(events, name.."/"..kind, judge, 1000);
		end
	end
end
for _, host in pairs(hosts) do judge_on(host.events); end
module:hook_global("host-activated", function (name)
	if hosts[name] then judge_on(hosts[name].events); end
end);
module:hook("route/remote", judge, 1000);

-- T7: what mod_blocklist (-1) has changed. It ends the event, so the event is fired anew within this handler.
-- 1000: all other handlers run once, in there.
for _, name in ipairs { "block", "unblock" } do
	local event_name = "iq-set/self/"..BLOCKING..":"..name;
	module:hook(event_name, function (event)
		if event.mixpam_seen then return; end
		local outer, bare = blocking, jid.bare(event.origin.full_jid);
		event.mixpam_seen, blocking = true, true;
		local fine, result = pcall(module.fire_event, module, event_name, event);
		blocking = outer;
		if not fine then error(result, 0); end
		if not result or not link then return result; end
		local told, addresses = {}, {};
		for item in event.stanza.tags[1]:childtags("item") do
			local address = jid.prep(item.attr.jid);
			if not address then return result; end -- mod_blocklist has refused it all
			if in_mix_domain(address) and not told[address] then
				told[address] = true;
				table.insert(addresses, address);
			end
		end
		if name == "unblock" and not event.stanza.tags[1].tags[1] then tell("unblocked", { jid = bare }); end
		for _, address in ipairs(addresses) do
			if name == "unblock" or is_listed(bare, address) then -- else it could not be stored
				tell(name.."ed", { jid = bare, address = address });
			end
		end
		return result;
	end, 1000);
end

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
	if not link or not in_mix_domain(contact) then return; end
	local attr = { type = "set", id = "mixpam", from = username.."@"..module.host, to = component };
	local push = add_item(st.iq(attr):query(ROSTER), contact, new);
	if old and tostring(push) == tostring(add_item(st.iq(attr):query(ROSTER), contact, old)) then return; end
	if congested() then -- without name and groups, which may be long
		push = add_item(st.iq(attr):query(ROSTER), contact, new and { subscription = new.subscription });
	end
	send(push);
end

-- No event says "a roster changed", and many hands change them, but all end in a store of this
-- name. Drivers that have no map (internal storage) get one on top of the keyval store.
module:hook("store-opened", function (event)
	local inner, write = event.store, event.store_type == "map" and "set_keys" or "set";
	if event.store_name ~= "roster" or inner.keyval_store then return; end
	local function removed(new, contact)
		if write == "set" then return new[contact] == nil; end
		return new[contact] ~= nil and new[contact] == inner.remove;
	end
	-- The channels of a user without a record, as the roster was before `new`; nil if `new` changes none.
	local function first_record(username, new, old)
		local record, changed = channels_of(old), false;
		for contact in pairs(channels_of(new)) do changed = changed or write == "set_keys" or not record[contact]; end
		for contact in pairs(record) do changed = changed or removed(new, contact); end
		if not changed then return; end
		if write == "set_keys" then -- the rest of the roster has not changed
			for contact in pairs(channels_of(rostermanager.load_roster(username, module.host))) do
				if new[contact] == nil then record[contact] = true; end
			end
		end
		return record;
	end
	event.store = setmetatable({ [write] = function (self, username, new)
		if not new then return inner[write](self, username, new); end -- the account is deleted
		local record, old = record_of(username), {};
		if write == "set" and (link or record == false) then
			old = inner.get(self, username) or {};
		elseif record == false then
			for contact in pairs(channels_of(new)) do old[contact] = inner.get(self, username, contact); end
		end
		local ok, err = inner[write](self, username, new);
		if not ok then return ok, err; end
		local known, changed = record or record == false and first_record(username, new, old), not record;
		for contact in pairs(known or {}) do
			if removed(new, contact) then known[contact], changed = nil, true; end
		end
		if known and changed then save_record(username, known); end
		for contact, item in pairs(old) do
			if write == "set" and new[contact] == nil then report(username, contact, item); end
		end
		for contact, item in pairs(new) do
			report(username, contact, write == "set" and old[contact] or nil, item ~= inner.remove and item or nil);
		end
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
	set_member(node, contact, wanted ~= "remove" or nil);
	return st.reply(stanza);
end
local PAGE_ITEMS = 500;
local function get_page(stanza, roster, after)
	local contacts, reply, bytes, count = {}, st.reply(stanza):query(ROSTER), 0, 0;
	for contact in pairs(roster) do
		if contact and (not after or contact > after) then table.insert(contacts, contact); end
	end
	table.sort(contacts);
	for _, contact in ipairs(contacts) do
		local known = roster[contact];
		local attr = { xmlns = ROSTER, jid = contact, subscription = known.subscription, ask = known.ask };
		local item = st.stanza("item", attr);
		bytes = bytes + #tostring(item);
		if count == PAGE_ITEMS or bytes > MOST_BYTES then break; end
		reply:add_child(item);
		count = count + 1;
	end
	return reply:tag("page", { xmlns = TAP, more = count < #contacts and "true" or nil });
end
local function get_roster(stanza, roster)
	local page = stanza.tags[1]:get_child("page", TAP);
	if page then return get_page(stanza, roster, page.attr.after); end
	local reply = st.reply(stanza):query(ROSTER);
	for contact, item in pairs(roster) do if contact then add_item(reply, contact, item); end end -- [false]: version
	return reply;
end

-- 110: before mod_blocklist (100): who blocks the component's address must not cut it off the roster.
module:hook("iq/bare", function (event)
	local stanza, query = event.stanza, event.stanza.tags[1];
	local handle = query and query.name == "query" and query.attr.xmlns == ROSTER
		and ({ get = get_roster, set = set_roster })[stanza.attr.type];
	if not from_component(event) or stanza.attr.from ~= component or not handle then return; end
	if not account_exists(stanza.attr.to) then return send(st.error_reply(stanza, "cancel", "item-not-found")); end
	local node = jid.split(stanza.attr.to);
	local roster, err = rostermanager.load_roster(node, module.host);
	return send(err and st.error_reply(stanza, "wait", "internal-server-error") or handle(stanza, roster, node));
end, 110);

-- C5, states
local function archives() -- "roster" counts: channels are in the roster
	local policy = module:get_option("default_archive_policy", true);
	return hosts[module.host].modules.mam ~= nil and policy ~= false and policy ~= "false" and policy ~= "never";
end
module:hook("message/host", function (event)
	local ours = from_component(event) and event.stanza.attr.from == component;
	local list = ours and event.stanza:get_child("services", TAP);
	if not list then return; end
	local complete, known = list.attr.complete == "true", {};
	if complete then
		flush();
		gathering = jid.prep(list.attr.multicast);
		if jid.bare(gathering) ~= component or not jid.resource(gathering) then gathering = nil; end
	end
	local count, changed = 0, false;
	for domain in pairs(complete and {} or services) do known[domain], count = true, count + 1; end
	for service in list:childtags("service") do
		local domain = jid.host(jid.prep(service.attr.jid)) or "";
		if domain ~= "" and not known[domain] and count < MOST_SERVICES then
			known[domain], count, changed = true, count + 1, changed or not services[domain];
		end
	end
	if count == MOST_SERVICES then module:log("warn", "%d MIX domains, and no more are taken", count); end
	for domain in pairs(services) do changed = changed or not known[domain]; end
	services, up = known, up or complete;
	if not changed then return true; end
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
-- The largest stanza from the component, as mod_component (a global module) reads it.
local NEEDED = 512 * KIB; -- bytes that mixpam needs by default
local function stanza_limit()
	local global = module:context("*");
	local get, least = global.get_option_integer, 10000;
	if not get then get, least = global.get_option_number, nil; end
	local fallback = get(global, "s2s_stanza_size_limit", 512 * KIB, least);
	return get(global, "component_stanza_size_limit", fallback, least) or fallback or 512 * KIB;
end
if stanza_limit() < NEEDED then
	module:log("warn", "The component may send %d bytes at a time, mixpam needs %d: put "
		.."component_stanza_size_limit = %d into the global part of the configuration",
		stanza_limit(), NEEDED, NEEDED);
end
local function link_up(session)
	link, up, gathering, batch = session, false, nil, nil;
	owed, is_owed, replaying = {}, {}, true;
	look();
	tell("hello", { version = "1", tap = "1.2", software = "Prosody "..prosody.version,
		archive = tostring(archives()), multicast = "true", pages = "true",
		limit = ("%d"):format(stanza_limit()) });
	each_session(function (s) if s.presence or s.hibernating then owe(s); end end);
	local more = pay();
	paying = false;
	if more then pay_later(); end
end
local function link_down()
	link, up, gathering, batch = nil, false, nil, nil;
	owed, is_owed, replaying, unsent, since = {}, {}, false, 0, 0;
	give_up_all();
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
-- Hosts and modules come up in random order: what is missing is known when all are there.
local function check_component()
	local host = hosts[component];
	if host and host.modules.component then return; end
	module:log_status("error", "mixpam_component names %q, which is no external component here: correct the name, or "
		.."write Component %q with component_secret and validate_from_addresses = false below it (no module behind "
		.."the name)", component, component);
end
module:hook_global("server-started", check_component);
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
	records:set(event.username, nil);
	member_store:set(event.username, nil);
	tell("user-removed", { jid = bare });
end, -10);
-- A remote domain is up as long as one stream to or from it is.
local function s2s_changed(remote, session, state)
	if not remote then return; end
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
	if prosody.start_time then check_component(); end
	each_session(function (session) if session.mixpam_annotate then flag(session, true); end end);
	local service = hosts[component] and hosts[component].modules.component;
	local session = service and service.connected and service.session;
	if session and session == saved.link then -- a reload misses nothing
		link, up, gathering, waiting = session, saved.up, saved.gathering, saved.waiting or {};
		owed, is_owed, replaying = saved.owed or {}, saved.is_owed or {}, saved.replaying;
		for _, state in pairs(waiting) do
			for _, entry in ipairs(state.rosters) do weigh(state, entry, 1); end
		end
		look();
		if next(waiting) then sweeping = true; module:add_timer(1, sweep); end
		if owed[1] or replaying then pay_later(); end
	elseif session then
		link_up(session);
	end
end
function module.load() if not module.reloading then attach({}); end end
function module.save()
	return { link = link, up = up, gathering = gathering, waiting = waiting, owed = owed, is_owed = is_owed,
		replaying = replaying };
end
module.restore = attach;
function module.unload()
	flush();
	each_session(function (session) filters.remove_filter(session, "stanzas/out", divert_roster); end);
	if not module.reloading then link_down(); end
end
