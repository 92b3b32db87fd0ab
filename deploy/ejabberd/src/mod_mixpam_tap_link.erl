%%% The link: the process of the component's connection, its state for each domain, how much waits
%%% for it, and events of this connection and of others (T7).
-module(mod_mixpam_tap_link).

-export([hosts/0, component/1, serve/3, forget/1, connect/2, forget_link/1, forget_links/1,
         link_of/1, is_mix/2, to_link/2, send/2, pass/2,
         has_room/1, takes/2, refuse/1, stanza/3, event/3, attr/2, attr/3, parsed/1, lower/1,
         bare/1, archives/1, barrier/2, link_lost/1, node_lost/1, runs/1]).
-export([s2s_receive_packet/1]).
-export([component_connected/1, component_disconnected/2, component_send_packet/1,
         s2s_out_auth_result/2, s2s_in_auth_result/3, s2s_out_closed/2, replay/2]).

-include("logger.hrl").

-define(VERSION, <<"1.2">>).
-define(READ, 65536). % bytes
-define(BATCH, 500). % sessions
-define(ROOM, 16777216). % bytes before a link, above which only small or required stanzas are added
-define(ALL_ROOM, 67108864). % and above which it is closed
-define(BARRIER, 5000). % ms
-define(TAP, <<"mixpam:tap:1">>).

%% A #message{}, #presence{} or #iq{}, and #xmlel{}, as this version of ejabberd has them.
-type stanza() :: tuple().
-type xml() :: tuple().
-type attr() :: {binary(), binary()}.
-type hook() :: {Hook :: atom(), binary() | global, module(), Fun :: atom(), Prio :: integer()}.
-export_type([stanza/0, xml/0, attr/0, hook/0]).

%%% Domains

%% Kept here, because gen_mod forgets stopped modules. Returns the previous value.
-spec serve(binary(), binary(), [hook()]) -> {binary() | none, [hook()]}.
serve(Host, Component, Hooks) ->
    Before = persistent_term:get({?MODULE, Host}, {none, []}),
    persistent_term:put({?MODULE, Host}, {Component, Hooks}),
    persistent_term:put(?MODULE, lists:usort([Host | hosts()])),
    Before.

-spec forget(binary()) -> any().
forget(Host) ->
    persistent_term:put(?MODULE, lists:delete(Host, hosts())),
    persistent_term:erase({?MODULE, Host}).

-spec hosts() -> [binary()].
hosts() -> persistent_term:get(?MODULE, []).

-spec component(binary()) -> binary() | none.
component(Host) ->
    case persistent_term:get({?MODULE, Host}, none) of
        {Component, _} -> Component;
        none -> none
    end.

%%% The link

%% Reads the Mnesia tables' local ETS copy: this runs for every stanza.
-spec link_of(binary()) -> {pid(), connected | up} | none.
link_of(Host) ->
    case ets:lookup(mixpam_link, Host) of
        [{_, _, Pid, State}] when State /= opening -> {Pid, State};
        _ -> none
    end.

-spec is_mix(binary(), binary()) -> boolean().
is_mix(Host, Domain) -> ets:member(mixpam_service, {Host, Domain}).

-spec to_link(binary(), stanza()) -> boolean() | none.
to_link(Host, Pkt) ->
    case link_of(Host) of
        {Pid, _} -> send(Pid, Pkt);
        none -> none
    end.

-spec send(pid(), stanza()) -> boolean().
send(Link, Pkt) ->
    weigh(Link, Pkt),
    pass(Link, Pkt).

%% For stanzas that are bounded before they come here.
-spec pass(pid(), stanza()) -> boolean().
pass(Link, Pkt) -> ejabberd_cluster:send(Link, {route, Pkt}).

%% A component that does not read leaves everything before the link.
-spec weigh(pid(), stanza()) -> any().
weigh(Link, Pkt) ->
    case mod_mixpam_tap_keeper:weight(Link) of
        {ok, Bytes} ->
            counters:add(Bytes, 1, erlang:external_size(Pkt)),
            counters:get(Bytes, 1) > ?ALL_ROOM andalso close(Link, Bytes);
        none -> false
    end.

-spec close(pid(), counters:counters_ref()) -> any().
close(Link, Bytes) ->
    counters:put(Bytes, 1, 0),
    ?WARNING_MSG("mod_mixpam_tap: the component is too slow, its link is closed", []),
    ejabberd_service:close(Link).

-spec has_room(pid()) -> boolean().
has_room(Link) ->
    case mod_mixpam_tap_keeper:weight(Link) of
        {ok, Bytes} -> counters:get(Bytes, 1) < ?ROOM;
        none -> true
    end.

%% Stanzas to the component itself go there without the tap, but not if too much waits.
-spec takes(binary(), stanza()) -> boolean().
takes(Host, Pkt) ->
    {_, Domain, _} = lower(xmpp:get_to(Pkt)),
    case Domain == component(Host) andalso link_of(Host) of
        {Link, _} ->
            case has_room(Link) of
                true -> _ = weigh(Link, Pkt), true;
                false -> false
            end;
        _ -> true
    end.

-spec s2s_receive_packet(Acc) -> Acc | {stop, {drop, map()}} when Acc :: {stanza() | drop, map()}.
s2s_receive_packet({Pkt, #{lserver := Host} = State} = Acc) when is_tuple(Pkt) ->
    case takes(Host, Pkt) of
        true -> Acc;
        false -> refuse(Pkt), {stop, {drop, State}}
    end;
s2s_receive_packet(Acc) -> Acc.

-spec refuse(stanza()) -> ok.
refuse(Pkt) ->
    Text = <<"Too much waits for MIX">>,
    ejabberd_router:route_error(Pkt, xmpp:err_resource_constraint(Text, xmpp:get_lang(Pkt))).

-spec stanza(binary(), [attr()], xml()) -> stanza().
stanza(Name, Attrs, Child) ->
    xmpp:decode({xmlel, Name, Attrs, [Child]}, <<"jabber:client">>, [ignore_els]).

-spec event(binary(), binary(), [attr()]) -> stanza().
event(Host, Name, Attrs) ->
    stanza(<<"message">>, [{<<"from">>, Host}, {<<"to">>, component(Host)}],
           {xmlel, Name, [{<<"xmlns">>, ?TAP} | Attrs], []}).

-spec attr(binary(), [attr()]) -> binary().
attr(Name, Attrs) -> attr(Name, Attrs, <<>>).
-spec attr(binary(), [attr()], Default) -> binary() | Default.
attr(Name, Attrs, Default) ->
    case lists:keyfind(Name, 1, Attrs) of {_, Value} -> Value; false -> Default end.

-spec parsed(binary()) -> {jid:jid(), jid:ljid()} | error.
parsed(Text) ->
    try JID = jid:decode(Text), {JID, jid:tolower(JID)} catch _:_ -> error end.

-spec lower(jid:jid() | undefined) -> jid:ljid().
lower(undefined) -> {<<>>, <<>>, <<>>};
lower(JID) -> jid:tolower(JID).

-spec bare(jid:jid()) -> jid:ljid().
bare(JID) -> jid:remove_resource(jid:tolower(JID)).

-spec hello(binary(), pid()) -> stanza().
hello(Host, Link) ->
    event(Host, <<"hello">>,
          [{<<"version">>, <<"1">>}, {<<"tap">>, ?VERSION},
           {<<"software">>, iolist_to_binary(["ejabberd ", ejabberd_option:version()])},
           {<<"archive">>, atom_to_binary(archives(Host), utf8)},
           %% A strict ejabberd would drop the ids from the addresses of C6.
           {<<"multicast">>, atom_to_binary(not ejabberd_option:validate_stream(), utf8)},
           {<<"pages">>, <<"true">>}
           | [{<<"limit">>, integer_to_binary(Limit)} || Limit <- limits(Host, Link)]]).

-spec archives(binary()) -> boolean().
archives(Host) ->
    gen_mod:is_loaded(Host, mod_mam)
        andalso gen_mod:get_module_opt(Host, mod_mam, default) == always.

%% The listener on the component's port has the limit.
-spec limits(binary(), pid()) -> [pos_integer()].
limits(Host, Link) ->
    Ports = local_ports(Link),
    Component = component(Host),
    Sizes = [Size || {{Port, _, _}, ejabberd_service, Opts} <- ejabberd_option:listen(),
                     lists:member(Port, Ports) orelse Ports == []
                         andalso lists:keymember(Component, 1, option(hosts, Opts, [])),
                     Size <- [option(max_stanza_size, Opts, infinity)], is_integer(Size)],
    lists:sublist(lists:sort(Sizes), 1).

-spec option(atom(), map() | [{atom(), any()}], any()) -> any().
option(Key, Opts, Default) when is_map(Opts) -> maps:get(Key, Opts, Default);
option(Key, Opts, Default) -> proplists:get_value(Key, Opts, Default).

-spec local_ports(pid()) -> [inet:port_number()].
local_ports(Link) when node(Link) == node() ->
    [Port || Socket <- sockets(Link), {ok, {_, Port}} <- [inet:sockname(Socket)]];
local_ports(_) -> [].

-spec sockets(pid()) -> [port()].
sockets(Link) ->
    case process_info(Link, links) of
        {links, Linked} -> [Port || Port <- Linked, is_port(Port)];
        undefined -> []
    end.

%% Runs in the link's process. One connection at a time: a second one is refused at once, and cannot
%% take stanzas from the first.
-spec component_connected(binary()) -> any().
component_connected(Component) ->
    %% The socket's own 1,460 bytes would cut a C6 into several reads, each with its wake-up.
    [inet:setopts(Socket, [{buffer, ?READ}]) || Socket <- sockets(self())],
    case connect([Host || Host <- hosts(), component(Host) == Component], self()) of
        ok -> ok;
        conflict ->
            ?WARNING_MSG("mod_mixpam_tap: a second connection of ~ts is refused", [Component]),
            ejabberd_router:unregister_route(Component),
            ejabberd_service:send(self(), xmpp:serr_conflict())
    end.

%% While the row has `opening` no other process writes to the link: hello is first. A link that
%% already exists when the module is reloaded goes on.
-spec connect([binary()], pid()) -> ok | conflict.
connect(Hosts, Pid) ->
    Claim = fun() ->
        Rows = [{H, mnesia:read(mixpam_link, H, write)} || H <- Hosts],
        case [P || {_, [{_, _, P, _}]} <- Rows, P /= Pid, runs(P)] of
            [] -> [mnesia:write({mixpam_link, H, Pid, opening})
                   || {H, Row} <- Rows, Row == [] orelse element(3, hd(Row)) /= Pid], ok;
            _ -> conflict
        end
    end,
    case mnesia:transaction(Claim) of
        {atomic, conflict} -> conflict;
        {atomic, ok} ->
            mod_mixpam_tap_keeper:watch(Pid),
            lists:foreach(fun(Host) ->
                              mod_mixpam_tap_batches:forget(Host),
                              send(Pid, hello(Host, Pid)),
                              mnesia:dirty_write({mixpam_link, Host, Pid, connected}),
                              spawn(?MODULE, replay, [Host, Pid])
                          end, Hosts)
    end.

%% A node that is back has its former name, but none of its processes.
-spec runs(pid()) -> boolean().
runs(Pid) when node(Pid) == node() ->
    try is_process_alive(Pid) catch error:badarg -> false end;
runs(Pid) ->
    lists:member(node(Pid), nodes())
        andalso rpc:call(node(Pid), ?MODULE, runs, [Pid], ?BARRIER) /= false.

-spec component_disconnected(binary(), any()) -> any().
component_disconnected(_Component, _Reason) -> link_lost(self()).

-spec link_lost(pid()) -> any().
link_lost(Link) ->
    [forget_link(Host) || {_, Host, _, _} <- ets:match_object(mixpam_link, {'_', '_', Link, '_'}),
                          is_binary(Host)].

-spec forget_link(binary()) -> ok.
forget_link(Host) ->
    mod_mixpam_tap_batches:forget(Host),
    mnesia:dirty_delete(mixpam_link, Host).

%% T6, T7: every session writes its own state to the link and then reports back, hence nothing newer
%% is overtaken, and `replayed` is last.
-spec replay(binary(), pid()) -> any().
replay(Host, Link) ->
    replay(Host, Link, ejabberd_sm:get_vh_session_list(Host)).

-spec replay(binary(), pid(), [jid:ljid()]) -> any().
replay(Host, Link, Sessions) when length(Sessions) > ?BATCH ->
    {Batch, Rest} = lists:split(?BATCH, Sessions),
    barrier(Batch, {replay, Link}),
    replay(Host, Link, Rest);
replay(Host, Link, Sessions) ->
    barrier(Sessions, {replay, Link}),
    send(Link, event(Host, <<"replayed">>, [])).

%% Ask these sessions' processes, and wait until each has answered or ended.
-spec barrier([jid:ljid()], sync | {replay, pid()}) -> ok.
barrier(Sessions, Ask) ->
    Until = erlang:monotonic_time(millisecond) + ?BARRIER,
    Asked = [begin
                 Ref = erlang:monitor(process, Pid),
                 ejabberd_cluster:send(Pid, {mixpam, Ask, self(), Ref}),
                 Ref
             end || {U, S, R} <- Sessions, Pid <- [ejabberd_sm:get_session_pid(U, S, R)],
                    is_pid(Pid)],
    lists:foreach(fun(Ref) ->
        receive
            {mixpam_done, Ref} -> erlang:demonitor(Ref, [flush]);
            {'DOWN', Ref, _, _, _} -> ok
        after max(0, Until - erlang:monotonic_time(millisecond)) -> ok
        end
    end, Asked).

%% ejabberd forgets the sessions of a node that has died, but runs no hook for them. Every
%% node does this; the one with the link tells the component.
-spec node_lost(node()) -> any().
node_lost(Node) ->
    forget_links(Node),
    mod_mixpam_tap_online:lost(fun(Pid) -> node(Pid) == Node andalso not runs(Pid) end).

-spec forget_links(node()) -> any().
forget_links(Node) ->
    [mnesia:dirty_delete_object(Row)
     || {_, _, Pid, _} = Row <- ets:tab2list(mixpam_link), node(Pid) == Node, not runs(Pid)].

%%% From the component

%% Unreadable stanzas are dropped: no other module may handle them.
-spec component_send_packet(Acc) -> Acc | {stop, {stanza() | drop, map()}}
          when Acc :: {stanza() | drop, map()}.
component_send_packet({Pkt, State} = Acc) when is_tuple(Pkt) ->
    try mod_mixpam_tap_component:sent(Pkt) of
        pass -> Acc;
        done -> {stop, {drop, State}};
        {route, Pkt1} -> {stop, {Pkt1, State}}
    catch Class:Reason:Stack ->
        ?ERROR_MSG("mod_mixpam_tap: what the component sent is dropped: ~p:~p ~p",
                   [Class, Reason, Stack]),
        {stop, {drop, State}}
    end;
component_send_packet(Acc) -> Acc.

%%% T7: connections to other domains

%% Only the domain's own connections: this hook also gets those of local services.
-spec s2s_out_auth_result(map(), any()) -> map().
s2s_out_auth_result(#{server := Host, remote_server := Remote} = State, true) ->
    s2s(<<"up">>, Host, Remote, State);
s2s_out_auth_result(State, _) -> State.

-spec s2s_in_auth_result(map(), boolean(), binary()) -> map().
s2s_in_auth_result(#{lserver := Host} = State, true, Remote) ->
    s2s(<<"up">>, Host, Remote, State);
s2s_in_auth_result(State, _, _) -> State.

%% Also after an attempt that failed: the domain cannot be reached.
-spec s2s_out_closed(map(), any()) -> map().
s2s_out_closed(#{server := Host, remote_server := Remote} = State, _Reason) ->
    s2s(<<"down">>, Host, Remote, State);
s2s_out_closed(State, _Reason) -> State.

-spec s2s(binary(), binary(), binary(), map()) -> map().
s2s(Word, Host, Remote, #{server_host := Host} = State) ->
    to_link(Host, event(Host, <<"s2s">>, [{<<"domain">>, Remote}, {<<"state">>, Word}])),
    State;
s2s(_, _, _, State) -> State.
