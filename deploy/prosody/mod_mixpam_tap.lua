-- mod_mixpam_tap: Prosody's side of the protocol mixpam:tap:1, for Prosody 0.12 and 13.
--
-- Puts MIX traffic, roster stanzas, presence and a few events onto the link of one external
-- component (XEP-0114) and carries out what that sends back; it decides nothing. The rules are in
-- ../tap-protocol.md, T1..T10 and C1..C6 are its numbers. One file, to be copied.
--
-- The table `hooks` at the end lists the function for each event, and why it has that priority.
-- Level "debug" gives the reason for each stanza from or to a channel that does not go on.
--
-- Fields on tables of other modules; none is ever written to a stream:
--   event.mixpam             message/bare: for the component; set at 10, read at -0.25
--   event.mixpam_asks        presence/bare: this module's own query to mod_blocklist
--   event.mixpam_seen        iq-set/self/…:block, unblock: fired again by this module
--   session.mixpam_annotate  its rosters are annotated; survives resumption and reload
--   stanza.mixpam            from the component, in the queue of mod_smacks: its end is silent
--   queue.push               of mod_smacks, while a stanza of the component goes into it
local st = require "util.stanza";
local jid = require "util.jid";
local filters = require "util.filters";
local new_cache = require "util.cache".new;
local random_id = require "util.id".short;
local now = require "util.time".now;
local rostermanager = require "core.rostermanager";
local usermanager = require "core.usermanager";
local incoming_s2s = require "core.s2smanager".incoming_s2s;
local hosts = prosody.hosts;
local bare_sessions = prosody.bare_sessions;
local full_sessions = prosody.full_sessions;

local TAP = "mixpam:tap:1";
local ADDRESS = "http://jabber.org/protocol/address";
local ANNOTATE = "urn:xmpp:mix:roster:0";
local BLOCKING = "urn:xmpp:blocking";
local HINTS = "urn:xmpp:hints";
local PREFERENCE = "urn:xmpp:mix:anon:0";
local PUBSUB_EVENT = "http://jabber.org/protocol/pubsub#event";
local ROSTER = "jabber:iq:roster";
local SID = "urn:xmpp:sid:0";
local KIB, MIB = 1024, 1024 * 1024;

if module:get_host_type() ~= "local" then
	return module:log_status("error", "mixpam_tap belongs on a VirtualHost, %s is none: take it out "
		.."of the modules_enabled there", module.host);
end
local component = jid.prep(module:get_option_string("mixpam_component"));
if not component then
	return module:log_status("error", "mixpam_component is not set: the tap does nothing. Put "
		.."mixpam_component = \"mixpam.%s\" below VirtualHost %q, or take mixpam_tap from its modules",
		module.host, module.host);
end

local link; -- the component's session; nil in the state "down"
local up = false; -- the component has sent its complete list of services
local gathering; -- address for T10; nil if the component takes T1 only
local blocking = false; -- mod_blocklist is active

-- C5: stored, so that channels are known after a restart before the component is back.
local MOST_SERVICES = 20000;
local store = module:open_store("mixpam_tap");
local services = store:get(nil) or {};

local function in_mix_domain(address)
	return address and services[jid.host(address)];
end
local function account_exists(bare)
	return bare_sessions[bare] or usermanager.user_exists(jid.split(bare));
end
local function from_component(event)
	return link ~= nil and event.origin == link;
end
local function each_session(visit)
	for _, session in pairs(full_sessions) do
		if session.host == module.host then visit(session); end
	end
end

-- Logs why a stanza does not go on. No string is built here: debug logging may be off.
local function drop(stanza, reason)
	local attr = stanza.attr;
	module:log("debug", "Not passed on: %s %s from %s to %s: %s",
		stanza.name, attr.type, attr.from, attr.to, reason);
	return true;
end
local function leave(stanza, reason) -- to Prosody
	local attr = stanza.attr;
	module:log("debug", "Left alone: %s %s from %s to %s: %s",
		stanza.name, attr.type, attr.from, attr.to, reason);
end

-- The link. A component that does not read must not fill Prosody's memory: above ROOM unsent bytes
-- only indispensable stanzas are sent, in their shortest form, and above ALL_ROOM (Prosody 13's own
-- limit is 32 MiB) the link is closed: after a reconnect the component gets everything again.
local ROOM = 16 * MIB;
local ALL_ROOM = 24 * MIB;
local LOOK_EVERY = 256 * KIB; -- bytes
local unsent = 0; -- bytes, at the last look
local since = 0; -- bytes sent since then
local looked = 0; -- the time of that look
local closing = false;

local function look()
	local conn = link and link.conn;
	local buffer = conn and conn.writebuffer; -- of net.server_epoll and _event; others hide theirs
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
local function close_link()
	closing = true;
	module:log("error", "%s has %d bytes to read and does not: its connection is closed",
		component, unsent);
	local session = link;
	module:add_timer(0, function () -- not in the middle of sending
		closing = false;
		if session ~= link then return; end
		session:close({ condition = "resource-constraint", text = "You do not read" });
	end);
end
local function put(stanza)
	local text = tostring(stanza);
	since = since + #text;
	link.send(text);
	if not link or closing or since <= LOOK_EVERY then return; end
	if look() > ALL_ROOM then close_link(); end
end

-- T10: messages that differ only in `to` and the user's archive id are sent together. They wait
-- until Prosody has read all available input, which is when its timers run, or until something else
-- is sent.
local MOST = 500; -- addresses
local MOST_BYTES = 65000; -- 64 KiB with the rest of the stanza; also for parts of rosters
local batch; -- [n]: an <address/> as text; `bytes` of them; `first`: message, without its `id`
local timed = false; -- a timer is set

-- The attributes and the content of a stanza, as text: every other ">" in it is escaped.
local function serialised(stanza)
	local attributes, inside = tostring(stanza):match("^<%a+([^>]-)/?>(.*)$");
	return attributes, inside:sub(1, -#"</>" - #stanza.name - 1);
end
local function flush()
	local open = batch;
	batch = nil;
	if not open or not link then return; end
	local first = open.first;
	if #open == 1 then
		if open.id then first:add_direct_child(open.id); end
		return put(first);
	end
	first.attr.to = gathering;
	local attributes, inside = serialised(first);
	put("<message"..attributes.."><addresses xmlns='"..ADDRESS.."'>"..table.concat(open)
		.."</addresses>"..inside.."</message>");
end
-- Without a link it is dropped: an error might make a channel expel the user.
local function send(stanza)
	flush();
	if not link then return drop(stanza, "no component is connected"); end
	put(stanza);
	return true;
end
local function divert(stanza) -- T1 to T3, T9
	if link and congested() then return drop(stanza, "the component does not read"); end
	return send(stanza);
end
local function send_event(name, attr) -- T7
	attr.xmlns = TAP;
	return send(st.message({ from = module.host, to = component }):tag(name, attr));
end
local function equal(a, b, except)
	if a == b then return true; end
	if type(a) ~= "table" or type(b) ~= "table" or a.name ~= b.name or #a ~= #b then return false; end
	for key, value in pairs(a.attr) do
		if key ~= except and b.attr[key] ~= value then return false; end
	end
	for key in pairs(b.attr) do
		if a.attr[key] == nil then return false; end
	end
	for i = 1, #a do
		if not equal(a[i], b[i]) then return false; end
	end
	return true;
end
local function has_room_for(stanza, address)
	return #batch < MOST and batch.bytes + #address <= MOST_BYTES and equal(batch.first, stanza, "to");
end
local function gather(stanza, origin)
	-- Modules of this server may still use their stanza; nobody else uses one that came over a
	-- connection.
	if not gathering or not origin.conn or congested() then return divert(stanza); end
	local to = stanza.attr.to;
	local id = stanza.tags[#stanza.tags]; -- mod_mam puts its own last, on a clone
	if id and id == stanza[#stanza]
	and id.name == "stanza-id" and id.attr.xmlns == SID and id.attr.by == to then
		table.remove(stanza);
		table.remove(stanza.tags);
	else
		id = nil;
	end
	local address = "<address type='to' jid='"..st.xml_escape(to);
	if id and id.attr.id then address = address.."' id='"..st.xml_escape(id.attr.id); end
	address = address.."'/>";
	if batch and not has_room_for(stanza, address) then flush(); end
	if not batch then
		batch = { first = stanza, id = id, bytes = 0 };
		timed = timed or module:add_timer(0, function ()
			timed = false;
			flush();
		end);
	end
	table.insert(batch, address);
	batch.bytes = batch.bytes + #address;
	return true;
end

-- From the component to a session, past this module's own filter.
local passing; -- the receiving session

-- mod_smacks queues a clone: a field on it marks it for "delivery/failure".
local function push_marked(queue, stanza)
	queue.push, stanza.mixpam = nil, true;
	return queue:push(stanza);
end
-- Sessions over BOSH clone a stanza before any filter sees it, so the session is noted, not the
-- stanza.
local function past_filter(session, act, ...)
	local queue, outer = session.outgoing_stanza_queue, passing;
	if queue then queue.push = push_marked; end
	passing = session;
	local result = act(...);
	passing = outer;
	if queue then queue.push = nil; end
	return result;
end
local function deliver(session, stanza)
	past_filter(session, session.send, stanza);
end

-- T4, T5: what a session waits for. It survives a reload, so its fields keep their names:
--   jid, bare         the session's
--   open, bytes       its requests: { id, due, over }, in their order; bytes of their ids
--   rosters           its roster stanzas, in their order:
--                     { stanza, weight, due, over, missing: number of parts that are not back,
--                       parts: { id: set of JIDs }, found: { JID: <channel/> } }
--   parts             { id of a part: its entry in `rosters` }
local MOST_OPEN, MOST_OPEN_BYTES = 200, 32 * KIB; -- requests of a session, bytes of their ids
local OPEN_TIME = 120; -- seconds
local MOST_ROSTERS, ROSTER_TIME = 50, 5; -- of a session; seconds
local PART_ITEMS = 50;
-- Maximum weight of all rosters: of the host, and of one account if there are others.
local HOST_ROSTERS, HOST_WEIGHT, ACCOUNT_WEIGHT = 5000, 64 * MIB, 8 * MIB;
local waiting = {}; -- session: what it waits for
local number, weight = 0, 0; -- of all rosters in `waiting`
local account_weight = {}; -- bare JID: weight
local PART_PREFIX = "mixpam-roster-";
local parts_prefix, parts_made = PART_PREFIX..random_id().."-", 0;
local sweeping = false;
local expire; -- below

local function sweep()
	local sessions = {};
	for session in pairs(waiting) do table.insert(sessions, session); end
	for _, session in ipairs(sessions) do expire(session, now()); end
	sweeping = next(waiting) ~= nil;
	return sweeping and 1 or nil; -- again in a second
end
local function sweep_later()
	if sweeping then return; end
	sweeping = true;
	module:add_timer(1, sweep);
end
local function waits(session)
	local state = waiting[session];
	if state then return state; end
	state = {
		jid = session.full_jid, bare = jid.bare(session.full_jid),
		open = {}, bytes = 0, rosters = {}, parts = {},
	};
	waiting[session] = state;
	sweep_later();
	return state;
end
local function forget_if_idle(session, state)
	if not state.open[1] and not state.rosters[1] then waiting[session] = nil; end
end
local function weigh(state, entry, sign)
	number, weight = number + sign, weight + sign * entry.weight;
	local sum = (account_weight[state.bare] or 0) + sign * entry.weight;
	account_weight[state.bare] = sum > 0 and sum or nil;
end

-- T5: requests of users
local function refusal(session, id, type, condition)
	local to = jid.bare(session.full_jid);
	local request = st.iq({ type = "set", id = id, from = session.full_jid, to = to });
	return st.error_reply(request, type, condition);
end
local function remove_request(state, i)
	state.bytes = state.bytes - #table.remove(state.open, i).id;
end
local function open_request(session, id)
	local state = waits(session);
	local open = state.open;
	local function is_full() return #open >= MOST_OPEN or state.bytes + #id > MOST_OPEN_BYTES; end
	-- Expired requests are kept to recognize late answers, as long as there is room.
	for i = #open, 1, -1 do
		if not is_full() then break; end
		if open[i].over then remove_request(state, i); end
	end
	if is_full() then return forget_if_idle(session, state); end
	table.insert(open, { id = id, due = now() + OPEN_TIME });
	state.bytes = state.bytes + #id;
	return true;
end
-- Closes the request that an IQ answers; returns whether to deliver it.
local function close_request(session, id)
	local state = waiting[session];
	for i, entry in ipairs(state and state.open or {}) do
		if entry.id == id then
			remove_request(state, i);
			forget_if_idle(session, state);
			return not entry.over;
		end
	end
	return true;
end
local function is_pam_request(stanza)
	local type, child = stanza.attr.type, stanza.tags[1];
	if type ~= "get" and type ~= "set" then return false; end
	return child and (child.attr.xmlns or ""):find("^urn:xmpp:mix:pam:[012]$");
end
local function take_request(event) -- iq/self
	local session, request = event.origin, event.stanza;
	if not is_pam_request(request) then return; end
	local id = request.attr.id;
	local function refuse(type, condition, reason)
		session.send(refusal(session, id, type, condition));
		return drop(request, reason);
	end
	if not up then
		return refuse("cancel", "service-unavailable", "the component is not ready");
	end
	if congested() then
		return refuse("wait", "resource-constraint", "the component does not read");
	end
	if not open_request(session, id) then
		return refuse("wait", "resource-constraint", "too many requests are open");
	end
	request.attr.to = jid.bare(session.full_jid);
	send(request);
	request.attr.to = nil;
	return true;
end

-- T4: rosters for sessions that requested annotations
local function is_item(tag)
	return tag.name == "item" and (tag.attr.xmlns or ROSTER) == ROSTER; -- none: inherited
end
local function is_annotation(tag)
	return tag.name == "channel" and tag.attr.xmlns == ANNOTATE;
end
-- Others may have the same stanza: only changed parts are new.
local function with_annotation(item, channel)
	local annotated = st.clone(item):maptags(function (tag)
		return not is_annotation(tag) and tag or nil;
	end);
	if channel then annotated:add_direct_child(channel); end
	return annotated;
end
local function with_annotations(entry)
	local annotated = st.clone(entry.stanza, true);
	for _, child in ipairs(entry.stanza) do
		if child == entry.stanza.tags[1] then
			local query = st.clone(child, true);
			for _, item in ipairs(child) do
				if item.tags and is_item(item) then
					local channel = entry.found[item.attr.jid];
					if channel or item:get_child("channel", ANNOTATE) then
						item = with_annotation(item, channel);
					end
				end
				query:add_direct_child(item);
			end
			child = query;
		end
		annotated:add_direct_child(child);
	end
	return annotated;
end
-- Delivers rosters that need not wait any longer: the first, then each whose parts are back; or
-- `all`.
local function deliver_rosters(session, state, all)
	local rosters = state.rosters;
	while rosters[1] and (all or rosters[1].missing == 0 or rosters[1].over) do
		local entry = table.remove(rosters, 1);
		weigh(state, entry, -1);
		for id in pairs(entry.parts) do state.parts[id] = nil; end
		deliver(session, entry.missing == 0 and with_annotations(entry) or entry.stanza);
	end
	forget_if_idle(session, state);
end
local function take_part(session, stanza)
	local id = stanza.attr.id;
	local state = waiting[session];
	local entry = state and state.parts[id];
	if not entry then return drop(stanza, "this part of a roster comes too late"); end
	state.parts[id] = nil;
	local query = stanza:get_child("query", ROSTER);
	for _, item in ipairs(query and query.tags or {}) do
		local is_asked = is_item(item) and entry.parts[id][item.attr.jid];
		local channel = is_asked and item:get_child("channel", ANNOTATE);
		if channel then entry.found[item.attr.jid] = channel; end
	end
	if query then entry.missing = entry.missing - 1; else entry.over = true; end
	return deliver_rosters(session, state);
end
-- Sends the items in MIX domains of `entry` in parts.
local function send_parts(state, entry)
	local part, items, bytes;
	local function close()
		if part then send(part); end
		part = nil;
	end
	for _, item in ipairs(entry.stanza.tags[1].tags) do
		if is_item(item) and in_mix_domain(item.attr.jid) then
			local attr = item.attr;
			local bare_item = st.stanza("item",
				{ xmlns = ROSTER, jid = attr.jid, subscription = attr.subscription });
			local size = #tostring(bare_item);
			if part and (items == PART_ITEMS or bytes + size > MOST_BYTES) then close(); end
			if not part then
				parts_made = parts_made + 1;
				local id = parts_prefix..parts_made;
				part = st.iq({ type = entry.stanza.attr.type, id = id, from = state.bare, to = state.jid });
				part:query(ROSTER):tag("annotate", { xmlns = ANNOTATE }):up();
				items, bytes = 0, 0;
				entry.missing = entry.missing + 1;
				entry.parts[id], state.parts[id] = {}, entry;
			end
			part:add_child(bare_item);
			entry.parts[part.attr.id][attr.jid] = true;
			items, bytes = items + 1, bytes + size;
		end
	end
	close();
end
local function is_own_roster(stanza, session)
	local attr, query = stanza.attr, stanza.tags[1];
	if attr.type ~= "result" and attr.type ~= "set" then return false; end
	if not query or query.name ~= "query" or query.attr.xmlns ~= ROSTER then return false; end
	return not attr.from or attr.from == jid.bare(session.full_jid);
end
-- Has a roster stanza anything for the component? Its weight is the memory it takes: some 600 bytes
-- for each item, as measured, and its strings.
local function look_at_roster(stanza)
	local has_channels, bytes = false, 1000;
	for _, item in ipairs(stanza.tags[1].tags) do
		bytes = bytes + 600 + #(item.attr.jid or "") + #(item.attr.name or "") + 200 * #item.tags;
		if is_item(item) and in_mix_domain(item.attr.jid) then has_channels = true; end
	end
	return has_channels, bytes;
end
local function is_result_out(state)
	for _, entry in ipairs(state and state.rosters or {}) do
		if entry.stanza.attr.type == "result" then return true; end
	end
	return false;
end
local function has_room_for_roster(state, bare, bytes) --> boolean, reason
	if congested() then return false, "the component does not read"; end
	if state and #state.rosters >= MOST_ROSTERS then return false, "the session has too many"; end
	local sum = account_weight[bare] or 0;
	if sum > 0 and sum + bytes > ACCOUNT_WEIGHT then return false, "the account has too many"; end
	if number >= HOST_ROSTERS then return false, "the host has too many"; end
	if weight + bytes > HOST_WEIGHT then return false, "the host's are too large"; end
	return true;
end
local function divert_roster(stanza, session) -- a filter: returns the stanza to send now
	if not link or passing == session then return stanza; end
	if stanza.name ~= "iq" or not is_own_roster(stanza, session) then return stanza; end
	local has_channels, bytes = look_at_roster(stanza);
	local state = waiting[session];
	local is_first = not (state and state.rosters[1]);
	local reason;
	if is_first and not has_channels then
		reason = "no channel is in it";
	elseif stanza.attr.type == "result" and is_result_out(state) then
		reason = "a roster is under way already";
	end
	if reason then
		leave(stanza, reason);
		return stanza;
	end
	local has_room, why = has_room_for_roster(state, jid.bare(session.full_jid), bytes);
	if not has_room then
		leave(stanza, why);
		if not is_first then deliver_rosters(session, state, true); end -- none overtakes another
		return stanza;
	end
	state = waits(session);
	local entry = { stanza = stanza, weight = bytes, due = now() + ROSTER_TIME };
	entry.missing, entry.parts, entry.found = 0, {}, {};
	weigh(state, entry, 1);
	table.insert(state.rosters, entry);
	send_parts(state, entry);
end
-- 1000: before mod_smacks (-999), so that it counts a roster once, on return. Not a global filter:
-- it costs other sessions nothing.
local function set_annotate(session, annotate)
	session.mixpam_annotate = annotate;
	filters.remove_filter(session, "stanzas/out", divert_roster);
	if annotate then filters.add_filter(session, "stanzas/out", divert_roster, 1000); end
end
-- Annotations have no part in `ver`: "unchanged" would hide them.
local function note_annotate(event) -- iq/self/jabber:iq:roster:query
	local query = event.stanza.tags[1];
	if event.stanza.attr.type ~= "get" then return; end
	set_annotate(event.origin, query:get_child("annotate", ANNOTATE) ~= nil);
	if event.origin.mixpam_annotate then query.attr.ver = nil; end
end

-- T4, T5: the end of waiting
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
	for i = #state.open, 1, -1 do -- no answer comes that late
		if state.open[i].due + 10 * OPEN_TIME <= time then remove_request(state, i); end
	end
	for _, entry in ipairs(state.rosters) do entry.over = entry.over or entry.due <= time; end
	deliver_rosters(session, state);
end
local function give_up_all()
	for session, state in pairs(waiting) do
		waiting[session] = nil;
		if full_sessions[state.jid] == session then
			for _, entry in ipairs(state.open) do
				if not entry.over then
					deliver(session, refusal(session, entry.id, "cancel", "service-unavailable"));
				end
			end
			for _, entry in ipairs(state.rosters) do deliver(session, entry.stanza); end
		end
	end
	number, weight, account_weight = 0, 0, {};
end

-- Members: who is in which channel by C3, for the archive.
local MOST_RECORDS = 5000; -- accounts in memory
local member_store = module:open_store("mixpam_members");
local records = new_cache(MOST_RECORDS); -- username: set of channels, or false if none is stored

local function record_of(username)
	local record = records:get(username);
	if record ~= nil then return record; end
	local stored, err = member_store:get(username);
	if err then return nil, err; end
	record = stored and stored.channels or false;
	records:set(username, record);
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
	for contact in pairs(roster) do
		if contact and in_mix_domain(contact) then record[contact] = true; end -- [false]: version
	end
	return record;
end
local function channels_in_roster(username)
	return channels_of(rostermanager.load_roster(username, module.host));
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
	if record and record[channel] == is then return; end
	record = record or channels_in_roster(username);
	record[channel] = is;
	save_record(username, record);
end

-- Only mod_blocklist knows the user's lists. It is queried with a presence that seems to come from
-- the address and that this module's own hook (take_presence) ends. A participant's address is
-- `id#channel@…`; a user who has blocked the channel has blocked that, too.
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

-- T1: messages of channels
local function is_channel_message(stanza) --> boolean, reason
	local type = stanza.attr.type;
	if type == "groupchat" then return true; end
	if type == "error" then return false, "it is an error"; end
	for _, child in ipairs(stanza.tags) do
		local xmlns = child.attr.xmlns or "";
		local is_mix = xmlns:find("^urn:xmpp:mix:") and not xmlns:find("^urn:xmpp:mix:misc:");
		if is_mix then return true; end
		local items = child.name == "event" and xmlns == PUBSUB_EVENT and child:get_child("items");
		if items and (items.attr.node or ""):find("^urn:xmpp:mix:nodes:") then return true; end
	end
	return false, "nothing of MIX is in it";
end
local function mark_channel_message(event)
	local stanza, to = event.stanza, event.stanza.attr.to;
	if not in_mix_domain(stanza.attr.from) then return; end
	local is, reason = is_channel_message(stanza);
	if not is then return leave(stanza, reason); end
	if is_channel_blocked(to, stanza.attr.from) then return drop(stanza, "it is blocked"); end
	event.mixpam = true;
	if not stanza:get_child("stanza-id", SID) then return; end
	event.stanza = st.clone(stanza):maptags(function (tag)
		local is_id = tag.name == "stanza-id" and tag.attr.xmlns == SID;
		local is_forged = is_id and jid.prep(tag.attr.by) == to;
		return not is_forged and tag or nil;
	end);
end
-- True: mod_mam goes on to check the user's preferences. Other diverted messages are unsolicited:
-- not even a chat message of a channel is stored.
local function should_archive(event)
	local stanza = event.stanza;
	local attr = stanza.attr;
	if not in_mix_domain(attr.from) or not is_channel_message(stanza) then return; end
	local node, host, resource = jid.split(attr.to);
	if not node or resource or host ~= module.host then return; end
	if attr.type ~= "groupchat" then return false; end
	if stanza:get_child("no-store", HINTS) then return; end
	if stanza:get_child("no-permanent-store", HINTS) then return; end
	if not is_member(attr.to, attr.from) then return; end
	return true;
end
local function take_channel_message(event)
	local stanza, to = event.stanza, event.stanza.attr.to;
	if not event.mixpam then return; end
	if not account_exists(to) then return leave(stanza, "there is no such account"); end
	local is_offline = not bare_sessions[to];
	if is_offline and stanza.attr.type == "groupchat" and is_member(to, stanza.attr.from) then
		-- mod_cloud_notify pushes on this event; mod_message, which would fire it, is never reached.
		module:fire_event("message/bare/groupchat", { origin = event.origin, stanza = stanza });
	end
	return gather(stanza, event.origin);
end

-- T2: presence of channels
local function take_presence(event)
	local stanza, attr = event.stanza, event.stanza.attr;
	if event.mixpam_asks then return not_blocked; end
	if not attr.to or not in_mix_domain(attr.from) then return; end
	if (attr.type or ""):find("subscribe") then return leave(stanza, "it is about a subscription"); end
	if blocking and attr.type == "probe" then return drop(stanza, "it is of mod_blocklist"); end
	if is_channel_blocked(attr.to, attr.from) then return drop(stanza, "it is blocked"); end
	if not account_exists(attr.to) then return leave(stanza, "there is no such account"); end
	return divert(stanza);
end

-- T7: the user's blocked channels, before the first presence of a session on a link: the component
-- may have been away when that changed, or the user without a session when the block began.
local MOST_TOLD = 1000; -- channels of one user
local function report_blocked(username)
	local bare, count = username.."@"..module.host, 0;
	for channel in pairs(record_of(username) or channels_in_roster(username)) do
		if count == MOST_TOLD then return; end
		if in_mix_domain(channel) and is_listed(bare, channel) then
			send_event("blocked", { jid = bare, address = channel });
			count = count + 1;
		end
	end
end

-- T6: presence of sessions. While the link is congested a session is noted: its current presence is
-- sent when there is room again. The replay at the beginning of a link works the same way.
local PACE = MIB; -- unsent bytes up to which it goes on
local function new_queue() return new_cache(2^31); end -- never full: used for its order
local deferred = new_queue(); -- session: true; ended ones are removed (forget_session)
local is_timed, replaying = false, false;

local function defer(session)
	deferred:set(session, true);
end
local function forget_session(event) -- resource-unbind
	deferred:set(event.session, nil);
end
local function replay(session)
	if not session.full_jid or full_sessions[session.full_jid] ~= session then return; end
	report_blocked(session.username);
	if session.presence then
		local presence = st.clone(session.presence);
		presence.attr.from, presence.attr.to = session.full_jid, component;
		send(presence);
	end
	if replaying and session.hibernating then
		send_event("hibernated", { jid = session.full_jid });
	end
end
local function send_deferred()
	while link and deferred:count() > 0 and look() <= PACE do
		local session = deferred:tail();
		deferred:set(session, nil);
		replay(session);
	end
	is_timed = link ~= nil and deferred:count() > 0;
	if is_timed then return 0.1; end
	if replaying and link then
		replaying = false;
		send_event("replayed", {});
	end
end
local function send_deferred_later()
	if is_timed then return; end
	is_timed = true;
	module:add_timer(0.1, send_deferred);
end
-- A broadcast has no `to`; mod_presence makes one at a session's end.
local function copy_broadcast(event) -- presence/bare
	local session, stanza, attr = event.origin, event.stanza, event.stanza.attr;
	if attr.to then return; end
	local is_available = attr.type == nil;
	if not is_available and attr.type ~= "unavailable" then return; end
	if link and congested() then
		if is_available then
			defer(session);
			send_deferred_later();
			return leave(stanza, "the component does not read: it gets the last one later");
		end
		send(st.presence({ type = attr.type, from = attr.from, to = component }));
		return;
	end
	if link and is_available and not session.presence then report_blocked(session.username); end
	attr.to = component;
	send(stanza);
	attr.to = nil;
end
-- Presence of a client towards channels: only the component knows which devices they may see.
local function drop_to_channel(event) -- pre-presence/bare
	local stanza, roster = event.stanza, event.origin.roster;
	local to, type = stanza.attr.to, stanza.attr.type;
	if not to or not roster or not roster[to] or not in_mix_domain(to) then return; end
	if type ~= nil and type ~= "unavailable" and type ~= "probe" then return; end
	return drop(stanza, "what a channel sees of a device is the component's to say");
end

-- T3: answers of channels, even if the account has been deleted meanwhile.
local function take_answer(event) -- iq/bare
	local stanza, attr = event.stanza, event.stanza.attr;
	if not attr.to then return; end -- the user's own, which comes again as "iq/self"
	if is_pam_request(stanza) then
		event.origin.send(st.error_reply(stanza, "auth", "forbidden"));
		return drop(stanza, "it is no session of this account");
	end
	if attr.type ~= "result" and attr.type ~= "error" then return; end
	if not in_mix_domain(attr.from) and (attr.id or ""):sub(1, 7) ~= "mixpam:" then return; end
	return divert(stanza);
end

-- T9: preferences, between a user and the channel `other`
local function copy_preference(stanza, other)
	if not in_mix_domain(other) then return; end
	for _, child in ipairs(stanza.tags) do
		local is_preference = child.name == "user-preference" and child.attr.xmlns == PREFERENCE;
		if is_preference or child:get_child("user-preference", PREFERENCE) then
			divert(stanza);
			return;
		end
	end
end
local function copy_preference_to_channel(event)
	copy_preference(event.stanza, event.stanza.attr.to);
end

-- C1: stanzas for one session
local function take_iq(session, stanza)
	local attr = stanza.attr;
	local is_part = (attr.id or ""):sub(1, #PART_PREFIX) == PART_PREFIX;
	if is_part then return take_part(session, stanza); end
	local is_answer = attr.type == "result" or attr.type == "error";
	if is_answer and not close_request(session, attr.id) then
		return drop(stanza, "the client was told that no answer came");
	end
	deliver(session, stanza);
end
local function deliver_to_one(event)
	local stanza = event.stanza;
	if not from_component(event) then
		if stanza.name == "iq" then copy_preference(stanza, stanza.attr.from); end
		return;
	end
	local session = full_sessions[stanza.attr.to];
	if not session then return drop(stanza, "the session is gone"); end
	if stanza.name == "iq" then take_iq(session, stanza); else deliver(session, stanza); end
	return true;
end

-- C6: serialized once. Filters, such as mod_smacks, get a stanza for each session, with shared
-- children as everywhere in Prosody; only parts that they change are serialized again.
local function is_untouched(copy, original, own)
	if #copy ~= #original + (own and 1 or 0) or copy[#original + 1] ~= own then return false; end
	for i = 1, #original do
		if copy[i] ~= original[i] then return false; end
	end
	for key, value in pairs(copy.attr) do
		if key ~= "to" and original.attr[key] ~= value then return false; end
	end
	for key in pairs(original.attr) do
		if copy.attr[key] == nil then return false; end
	end
	return true;
end
local function send_copy(session, stanza, id, before, inside, after)
	local to, by = session.full_jid, session.username.."@"..session.host;
	local own = "";
	if id then
		own = "<stanza-id xmlns='"..SID.."' by='"..st.xml_escape(by).."' id='"..st.xml_escape(id).."'/>";
	end
	local text = before.." to='"..st.xml_escape(to).."'>"..inside..own..after;
	local list = session.filters and session.filters["stanzas/out"];
	if session.rawsend and not (list and list[1]) then return session.send(text); end
	local copy = st.clone(stanza, true);
	copy.attr.to = to;
	for _, child in ipairs(stanza) do copy:add_direct_child(child); end
	own = id and st.stanza("stanza-id", { xmlns = SID, by = by, id = id }) or nil;
	if own then copy:add_direct_child(own); end
	if not session.rawsend then return deliver(session, copy); end -- BOSH takes no text
	local out = past_filter(session, session.filter, "stanzas/out", copy);
	if not out then return; end
	local is_same = out == copy and copy.attr.to == to and is_untouched(copy, stanza, own);
	session.send(is_same and text or tostring(out));
end
local function deliver_to_each(event)
	local stanza = event.stanza;
	local list = from_component(event) and stanza.tags[1];
	if not list or list.name ~= "addresses" or list.attr.xmlns ~= ADDRESS then return; end
	stanza.attr.to = nil;
	stanza:maptags(function (tag) return tag ~= list and tag or nil; end);
	local attributes, inside = serialised(stanza);
	local before, after = "<"..stanza.name..attributes, "</"..stanza.name..">";
	for _, address in ipairs(list.tags) do
		local to = address.attr.jid;
		local session = address.name == "address" and (full_sessions[to] or full_sessions[jid.prep(to)]);
		if session and session.host == module.host then -- ended sessions are left out
			send_copy(session, stanza, address.attr.id, before, inside, after);
		end
	end
	return true;
end
local function is_ours(event) -- delivery/failure
	return event.stanza.mixpam;
end

-- C2: judged as the user's own stanza would be. The component's own address belongs to no user, and
-- a user may send anything to the own account. Presence that mod_blocklist itself sends also ends
-- here: the component alone informs channels of a block.
local function judge(event)
	local stanza, attr = event.stanza, event.stanza.attr;
	local by_server = event.origin == hosts[module.host];
	if blocking and by_server and stanza.name == "presence" and in_mix_domain(attr.to) then
		return drop(stanza, "it is of mod_blocklist");
	end
	if not from_component(event) or not attr.to then return; end
	local node, host = jid.split(attr.from);
	if not node or host ~= module.host then return; end
	local bare = node.."@"..host;
	if jid.bare(attr.to) == bare then return; end
	local is_end = stanza.name == "presence" and attr.type == "unavailable";
	if is_end and stanza:get_child("blocked", TAP) then
		stanza:remove_children("blocked", TAP);
		return;
	end
	if not is_listed(bare, attr.to) and not is_channel_blocked(bare, attr.to) then return; end
	local is_request = stanza.name == "iq" and (attr.type == "get" or attr.type == "set");
	if not is_request then return drop(stanza, "the user has blocked the receiver"); end
	return send(st.error_reply(stanza, "cancel", "not-acceptable", "You have blocked this JID")
		:tag("blocked", { xmlns = "urn:xmpp:blocking:errors" }));
end
-- Prosody fires an event on the host to which a stanza goes, and "route/remote" for other servers.
local function judge_on(host)
	for _, name in ipairs { "message", "presence", "iq" } do
		for _, kind in ipairs { "bare", "full", "host" } do -- 1000: before all other hooks
			module:hook_object_event(host.events, name.."/"..kind, judge, 1000);
		end
	end
end

-- T7: changes by mod_blocklist (-1). It ends the event, so the event is fired again within this
-- handler, where all other handlers run, once.
local function blocked_addresses(stanza) --> the channels in it; nil: mod_blocklist has refused it
	local addresses, is_known = {}, {};
	for item in stanza.tags[1]:childtags("item") do
		local address = jid.prep(item.attr.jid);
		if not address then return; end
		if in_mix_domain(address) and not is_known[address] then
			is_known[address] = true;
			table.insert(addresses, address);
		end
	end
	return addresses;
end
local function report_changed_list(event, event_name, name)
	if event.mixpam_seen then return; end
	local outer = blocking;
	event.mixpam_seen, blocking = true, true;
	local fine, result = pcall(module.fire_event, module, event_name, event);
	blocking = outer;
	if not fine then error(result, 0); end
	local addresses = result and link and blocked_addresses(event.stanza);
	if not addresses then return result; end
	local bare = jid.bare(event.origin.full_jid);
	if name == "unblock" and not event.stanza.tags[1].tags[1] then
		send_event("unblocked", { jid = bare });
	end
	for _, address in ipairs(addresses) do
		if name == "unblock" or is_listed(bare, address) then -- else it could not be stored
			send_event(name.."ed", { jid = bare, address = address });
		end
	end
	return result;
end

-- C3, T8: rosters
-- Adds the roster's `item` for `contact` to `query`; nil stands for a removed one.
local function add_item(query, contact, item)
	if not item then
		return query:tag("item", { jid = contact, subscription = "remove" }):up();
	end
	query:tag("item", {
		jid = contact, subscription = item.subscription, ask = item.ask, name = item.name,
	});
	local groups = {};
	for group in pairs(item.groups or {}) do table.insert(groups, group); end
	table.sort(groups);
	for _, group in ipairs(groups) do query:text_tag("group", group); end
	return query:up();
end
local function report_item(username, contact, old, new) -- T8
	if not link or not in_mix_domain(contact) then return; end
	local from = username.."@"..module.host;
	local function push(item)
		local iq = st.iq({ type = "set", id = "mixpam", from = from, to = component });
		return add_item(iq:query(ROSTER), contact, item);
	end
	if old and tostring(push(new)) == tostring(push(old)) then return; end
	if congested() then -- without name and groups, which may be long
		new = new and { subscription = new.subscription };
	end
	send(push(new));
end

-- No event reports changes of rosters, and many modules make them, but all end in a store of this
-- name: its write method is wrapped. Drivers without a map store (internal storage) get one on top
-- of the keyval store, and are covered there.
local function watch_store(event) -- store-opened
	local inner = event.store;
	if event.store_name ~= "roster" or inner.keyval_store then return; end
	local is_map = event.store_type == "map"; -- writes a few items, else all
	local method = is_map and "set_keys" or "set";
	local function is_removed(new, contact)
		if not is_map then return new[contact] == nil; end
		return new[contact] ~= nil and new[contact] == inner.remove;
	end
	-- The channels of a user without a record, by the roster before `new`; nil if that changes none of
	-- them.
	local function first_record(username, new, old)
		local record = channels_of(old);
		local has_changed = false;
		for contact in pairs(channels_of(new)) do
			if is_map or not record[contact] then has_changed = true; end
		end
		for contact in pairs(record) do
			if is_removed(new, contact) then has_changed = true; end
		end
		if not has_changed then return; end
		if is_map then -- the rest of the roster has not changed
			for contact in pairs(channels_in_roster(username)) do
				if new[contact] == nil then record[contact] = true; end
			end
		end
		return record;
	end
	-- The items that `new` replaces, as far as needed.
	local function read_old(username, new, has_no_record)
		if not is_map then
			return (link or has_no_record) and inner.get(inner, username) or {};
		end
		local old = {};
		if has_no_record then
			for contact in pairs(channels_of(new)) do old[contact] = inner.get(inner, username, contact); end
		end
		return old;
	end
	local function end_memberships(username, record, new, is_new)
		local has_changed = is_new;
		for contact in pairs(record) do
			if is_removed(new, contact) then record[contact], has_changed = nil, true; end
		end
		if has_changed then save_record(username, record); end
	end
	local function write(self, username, new)
		if not new then return inner[method](self, username, new); end -- the account is deleted
		local record = record_of(username);
		local has_no_record = record == false;
		local old = read_old(username, new, has_no_record);
		local ok, err = inner[method](self, username, new);
		if not ok then return ok, err; end
		record = record or has_no_record and first_record(username, new, old);
		if record then end_memberships(username, record, new, has_no_record); end
		for contact, item in pairs(is_map and {} or old) do
			if new[contact] == nil then report_item(username, contact, item); end
		end
		for contact, item in pairs(new) do
			if is_map and item == inner.remove then item = nil; end
			report_item(username, contact, not is_map and old[contact] or nil, item);
		end
		return ok, err;
	end
	event.store = setmetatable({ [method] = write }, { __index = inner });
end

-- C3
local function set_roster(stanza, roster, username)
	local tags = stanza.tags[1].tags;
	local item = tags[1] or stanza;
	local contact, subscription = jid.prep(item.attr.jid), item.attr.subscription;
	local is_contact = contact and not jid.resource(contact) and contact ~= stanza.attr.to;
	local is_wanted = subscription == "from" or subscription == "none" or subscription == "remove";
	if #tags ~= 1 or not is_contact or not is_wanted then
		return st.error_reply(stanza, "modify", "bad-request");
	end
	local old, new = roster[contact], nil;
	if subscription ~= "remove" then
		new = { name = not old and item.attr.name or nil, groups = {} };
		for group in item:childtags("group") do new.groups[group:get_text() or ""] = true; end
		for key, value in pairs(old or {}) do new[key] = value; end
		new.subscription, new.ask, new.groups[""] = subscription, nil, nil;
	end
	if old or new then
		roster[contact] = new;
		if not rostermanager.save_roster(username, module.host, roster, contact) then
			roster[contact] = old;
			return st.error_reply(stanza, "wait", "internal-server-error");
		end
		rostermanager.roster_push(username, module.host, contact);
	end
	set_member(username, contact, new and true or nil);
	return st.reply(stanza);
end
local PAGE_ITEMS = 500;
local function get_page(stanza, roster, after)
	local contacts = {};
	for contact in pairs(roster) do
		if contact and (not after or contact > after) then table.insert(contacts, contact); end
	end
	table.sort(contacts);
	local reply, bytes, count = st.reply(stanza):query(ROSTER), 0, 0;
	for _, contact in ipairs(contacts) do
		local known = roster[contact];
		local item = st.stanza("item", {
			xmlns = ROSTER, jid = contact, subscription = known.subscription, ask = known.ask,
		});
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
	for contact, item in pairs(roster) do
		if contact then add_item(reply, contact, item); end -- [false]: version
	end
	return reply;
end
local roster_handlers = { get = get_roster, set = set_roster };
local function take_roster_request(event) -- iq/bare
	local stanza, query = event.stanza, event.stanza.tags[1];
	if not from_component(event) or stanza.attr.from ~= component then return; end
	local handler = roster_handlers[stanza.attr.type];
	if not handler or not query or query.name ~= "query" or query.attr.xmlns ~= ROSTER then return; end
	local bare = stanza.attr.to;
	if not account_exists(bare) then
		return send(st.error_reply(stanza, "cancel", "item-not-found"));
	end
	local username = jid.split(bare);
	local roster, err = rostermanager.load_roster(username, module.host);
	if err then return send(st.error_reply(stanza, "wait", "internal-server-error")); end
	return send(handler(stanza, roster, username));
end

-- C5
local function is_archived() -- "roster" counts: channels are in the roster
	if not hosts[module.host].modules.mam then return false; end
	local policy = module:get_option("default_archive_policy", true);
	return policy ~= false and policy ~= "false" and policy ~= "never";
end
local function set_gathering(address)
	flush();
	gathering = jid.prep(address);
	if jid.bare(gathering) ~= component or not jid.resource(gathering) then gathering = nil; end
end
local unwritten = false; -- what has changed of the list is not in the store yet
local function write_services()
	if not unwritten then return; end
	unwritten = false;
	local ok, err = store:set(nil, services);
	if not ok then
		module:log("error", "The MIX domains will be forgotten at a restart: %s", err);
	end
end
local function take_services(event) -- message/host
	local is_from_component = from_component(event) and event.stanza.attr.from == component;
	local list = is_from_component and event.stanza:get_child("services", TAP);
	if not list then return; end
	local is_complete = list.attr.complete == "true";
	if is_complete then set_gathering(list.attr.multicast); end
	local known, count = {}, 0;
	for domain in pairs(is_complete and {} or services) do known[domain], count = true, count + 1; end
	local has_changed = false;
	for service in list:childtags("service") do
		local domain = jid.host(jid.prep(service.attr.jid)) or "";
		if domain ~= "" and not known[domain] and count < MOST_SERVICES then
			known[domain], count = true, count + 1;
			has_changed = has_changed or not services[domain];
		end
	end
	if count == MOST_SERVICES then
		module:log("warn", "%d MIX domains, and no more are taken", count);
	end
	for domain in pairs(services) do has_changed = has_changed or not known[domain]; end
	services, up = known, up or is_complete;
	-- a long list comes in parts: all are written at once
	if has_changed and not unwritten then
		unwritten = true;
		module:add_timer(1, write_services);
	end
	return true;
end
local function add_features(event) -- account-disco-info
	local reply = event.reply;
	if not up or jid.bare(reply.attr.to) ~= reply.attr.from then return; end -- only for the owner
	reply:tag("feature", { var = "urn:xmpp:mix:pam:2" }):up();
	reply:tag("feature", { var = "urn:xmpp:mix:pam:0" }):up();
	if is_archived() then reply:tag("feature", { var = "urn:xmpp:mix:pam:2#archive" }):up(); end
end

-- The link's begin and end
local NEEDED = 512 * KIB; -- bytes of the largest stanza that mixpam sends by default
-- The limit for stanzas from the component, as mod_component (a global module) reads it.
local function stanza_limit()
	local global = module:context("*");
	local get, least = global.get_option_integer, 10000;
	if not get then get, least = global.get_option_number, nil; end
	local fallback = get(global, "s2s_stanza_size_limit", 512 * KIB, least);
	return get(global, "component_stanza_size_limit", fallback, least) or fallback or 512 * KIB;
end
local function link_up(session)
	link, up, gathering, batch = session, false, nil, nil;
	deferred, replaying = new_queue(), true;
	look();
	send_event("hello", {
		version = "1", tap = "1.2", software = "Prosody "..prosody.version,
		archive = tostring(is_archived()), multicast = "true", pages = "true",
		limit = ("%d"):format(stanza_limit()),
	});
	each_session(function (other)
		if other.presence or other.hibernating then defer(other); end
	end);
	local again = send_deferred();
	is_timed = false;
	if again then send_deferred_later(); end
end
local function link_down()
	link, up, gathering, batch = nil, false, nil, nil;
	deferred, replaying = new_queue(), false;
	unsent, since = 0, 0;
	give_up_all();
end
local function watch_component()
	if module:context(component):get_option_boolean("validate_from_addresses", true) then
		module:log_status("error", "Component %q needs validate_from_addresses = false", component);
	end
	local events = hosts[component].events;
	module:hook_object_event(events, "component-authenticated", function (event)
		link_up(event.session);
	end, -10);
	module:hook_object_event(events, "component-disconnected", function (event)
		if event.session == link then link_down(); end -- it fires for refused connections too
	end, -10);
end
-- Hosts and modules start in random order: missing ones are known once all are up.
local function check_component()
	local host = hosts[component];
	if host and host.modules.component then return; end
	module:log_status("error", "mixpam_component names %q, which is no external component here: "
		.."correct the name, or write Component %q with component_secret and "
		.."validate_from_addresses = false below it (no module behind the name)", component, component);
end
local function host_activated(name)
	if hosts[name] then judge_on(hosts[name]); end
	if name == component then watch_component(); end
end
local function host_deactivating(event)
	if event.host == component then link_down(); end
end

-- T7: events
local function session_paused(event)
	send_event("hibernated", { jid = event.origin.full_jid });
end
local function session_resumed(event)
	local session = event.resumed; -- has the filters of its new connection
	if session.mixpam_annotate then set_annotate(session, true); end
	send_event("resumed", { jid = session.full_jid });
end
local function user_deleted(event)
	local username, host = event.username, event.host;
	if host ~= module.host then return; end
	local bare, cache = username.."@"..host, hosts[host].roster_cache;
	-- rostermanager would pass the cached roster on to the next user who registers the name.
	if cache then cache:set(bare, nil); end
	records:set(username, nil);
	member_store:set(username, nil);
	send_event("user-removed", { jid = bare });
end
-- A remote domain is up as long as one stream to or from it is.
local function has_another_stream(remote, session)
	local out = hosts[module.host].s2sout[remote];
	if out and out ~= session and out.type == "s2sout" then return true; end
	for other in pairs(incoming_s2s) do
		local is_between = other.from_host == remote and other.to_host == module.host;
		if is_between and other ~= session and other.type == "s2sin" then return true; end
	end
	return false;
end
local function s2s_changed(remote, session, state)
	if not remote or has_another_stream(remote, session) then return; end
	send_event("s2s", { domain = remote, state = state });
end

-- Event, priority, handler. Prosody calls the handlers of an event from the highest priority down,
-- and stops when one returns a value. Others' priorities: mod_blocklist has 100 (stanzas) and -1
-- (its own requests); mod_presence, mod_iq, mod_roster, mod_smacks and mod_mam have 0 unless noted.
local hooks = {
	-- after mod_blocklist; before mod_mam, which stores a forged <stanza-id/> as it came
	{ "message/bare", 10, mark_channel_message };
	-- before mod_mam's own answer (-1), which is "no" to any groupchat
	{ "archive-should-store", 10, should_archive };
	-- after mod_mam has put its <stanza-id/> on; before mod_carbons (-0.5) and mod_message (-1)
	{ "message/bare", -0.25, take_channel_message };
	-- after mod_blocklist, before mod_presence
	{ "presence/bare", 10, take_presence };
	-- before any module extends it
	{ "presence/bare", 150, copy_broadcast };
	-- before mod_presence notes the channel as one to send unavailable presence at the end
	{ "pre-presence/bare", 200, drop_to_channel };
	-- before mod_iq
	{ "iq/bare", 10, take_answer };
	{ "iq/self", 10, take_request };
	-- before mod_roster answers
	{ "iq/self/"..ROSTER..":query", 10, note_annotate };
	-- after mod_blocklist, which may refuse the stanza
	{ "pre-iq/bare", 10, copy_preference_to_channel };
	{ "pre-iq/full", 10, copy_preference_to_channel };
	{ "pre-iq/host", 10, copy_preference_to_channel };
	-- before mod_mam archives, mod_carbons copies and others look for another resource
	{ "message/full", 10, deliver_to_one };
	{ "presence/full", 10, deliver_to_one };
	{ "iq/full", 10, deliver_to_one };
	-- a message or presence to the domain itself has no other meaning from the component
	{ "message/host", 10, deliver_to_each };
	{ "presence/host", 10, deliver_to_each };
	{ "message/host", 10, take_services };
	-- before mod_smacks stores it offline, or else sends an error
	{ "delivery/failure", 10, is_ours };
	-- before mod_blocklist: blocking the component's address must not cut it off the roster
	{ "iq/bare", 110, take_roster_request };
	-- before all others, as in judge_on for this server's hosts
	{ "route/remote", 1000, judge };
	{ "account-disco-info", 0, add_features };
	{ "resource-unbind", 0, forget_session };
	{ "store-opened", 0, watch_store };
	{ "smacks-hibernation-start", 0, session_paused };
	{ "smacks-hibernation-end", 0, session_resumed };
};
local global_hooks = {
	{ "server-started", 0, check_component };
	{ "server-stopping", 0, write_services }; -- modules are not unloaded then
	{ "host-activated", 0, host_activated };
	{ "host-deactivating", 0, host_deactivating };
	-- after mod_c2s (200) has closed the sessions
	{ "user-deleted", -10, user_deleted };
};
for _, name in ipairs { "block", "unblock" } do
	local event_name = "iq-set/self/"..BLOCKING..":"..name;
	-- before all others, which run within it
	table.insert(hooks, { event_name, 1000, function (event)
		return report_changed_list(event, event_name, name);
	end });
end
for state, suffix in pairs { up = "established", down = "destroyed" } do
	table.insert(global_hooks, { "s2sout-"..suffix, 0, function (event)
		s2s_changed(event.session.to_host, event.session, state);
	end });
	table.insert(global_hooks, { "s2sin-"..suffix, 0, function (event)
		s2s_changed(event.session.from_host, event.session, state);
	end });
end
for _, hook in ipairs(hooks) do module:hook(hook[1], hook[3], hook[2]); end
for _, hook in ipairs(global_hooks) do module:hook_global(hook[1], hook[3], hook[2]); end
for _, host in pairs(hosts) do judge_on(host); end

if stanza_limit() < NEEDED then
	module:log("warn", "The component may send %d bytes at a time, mixpam needs %d: put "
		.."component_stanza_size_limit = %d into the global part of the configuration",
		stanza_limit(), NEEDED, NEEDED);
end

-- Loading, reloading
local function attach(saved)
	if hosts[component] then watch_component(); end
	if prosody.start_time then check_component(); end
	each_session(function (session)
		if session.mixpam_annotate then set_annotate(session, true); end
	end);
	local service = hosts[component] and hosts[component].modules.component;
	local session = service and service.connected and service.session;
	if not session then return; end
	if session ~= saved.link then return link_up(session); end
	-- a reload misses nothing
	link, up, gathering = session, saved.up, saved.gathering;
	waiting = saved.waiting or {};
	for _, state in pairs(waiting) do
		for _, entry in ipairs(state.rosters) do weigh(state, entry, 1); end
	end
	for _, other in ipairs(saved.owed or {}) do defer(other); end
	replaying = saved.replaying;
	look();
	if next(waiting) then sweep_later(); end
	if deferred:count() > 0 or replaying then send_deferred_later(); end
end
function module.load()
	if not module.reloading then attach({}); end
end
function module.save() -- in the form of older versions
	write_services();
	local owed, is_owed = {}, {};
	for session in deferred:items() do
		table.insert(owed, session);
		is_owed[session] = true;
	end
	return {
		link = link, up = up, gathering = gathering, waiting = waiting,
		owed = owed, is_owed = is_owed, replaying = replaying,
	};
end
module.restore = attach;
function module.unload()
	flush();
	write_services();
	each_session(function (session)
		filters.remove_filter(session, "stanzas/out", divert_roster);
	end);
	if not module.reloading then link_down(); end
end
